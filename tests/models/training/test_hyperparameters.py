import pytest
import torch

from models.training.hyperparameters import OPTIMIZERS, POLICIES, Schedule


def course(policy, **options):
    """Learning rates of 20 steps."""
    schedule = Schedule(epochs=1, lr=0.4, optimizer="sgd", policy=policy, **options)
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = schedule.make_optimizer([parameter])
    rates = schedule.make_policy(optimizer, 20)
    found = []
    for _ in range(20):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        rates.step()
    return found


def test_courses_of_the_learning_rate():
    assert course("constant") == [0.4] * 20
    assert course("steps", milestones=(0.5, 0.75)) == pytest.approx([0.4] * 10 + [0.04] * 5 + [0.004] * 5)
    cosine = course("cosine")
    assert cosine[0] == pytest.approx(0.4)
    assert cosine[10] == pytest.approx(0.2)
    assert cosine == sorted(cosine, reverse=True)
    cycle = course("one-cycle")
    assert max(cycle) == pytest.approx(0.4, rel=0.1)
    assert 0 < cycle.index(max(cycle)) < 10
    assert cycle[-1] < 0.01


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_optimizer_goes_downhill(optimizer, policy):
    schedule = Schedule(epochs=1, lr=0.1, optimizer=optimizer, policy=policy)
    parameter = torch.nn.Parameter(torch.full((3,), 2.0))
    chosen = schedule.make_optimizer([parameter])
    rates = schedule.make_policy(chosen, 30)
    for _ in range(30):
        chosen.zero_grad()
        (parameter**2).sum().backward()
        chosen.step()
        rates.step()
    assert parameter.abs().max() < 2.0


def test_a_missing_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Schedule(epochs=1, lr=1, device="auto").chosen_device() == torch.device("cpu")
    with pytest.raises(ValueError, match="device must be cpu or auto where there is no GPU, not 'cuda'"):
        Schedule(epochs=1, lr=1, device="cuda").chosen_device()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be positive, not 0"),
        ({"lr": float("nan")}, "lr must be positive, not nan"),
        ({"batch": 0}, "batch must be positive"),
        ({"threads": 0}, "threads must be positive"),
        ({"threads": 1025}, "threads must be at most 1024, not 1025"),
        ({"exit_weight": -1}, "exit_weight must not be negative, not -1"),
        ({"shift": -1}, "shift must not be negative"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, not 1.0"),
        ({"optimizer": "lion"}, "optimizer must be one of adamw, sgd, adadelta, not 'lion'"),
        ({"policy": "up"}, "policy must be one of one-cycle, cosine, steps, constant, not 'up'"),
        ({"device": "tpu"}, "device must be one of cpu, cuda, auto, not 'tpu'"),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16, not 'int8'"),
        ({"milestones": (0.5, 2)}, r"milestones must be in 0..1, not \(0.5, 2\)"),
    ],
)
def test_schedule_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**{"epochs": 1, "lr": 0.1, **change})
