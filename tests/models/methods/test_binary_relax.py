import numpy as np
import pytest
import torch
from torch import nn

from models.compression.levels import codes, convolutions, project
from models.methods.binary_relax import BinaryRelax, relaxed
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.training.pieces import Piece
from models.training.standard_pieces import FixedMask
from models.training.train import Schedule, accuracy, fit, predict

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)


@pytest.fixture(scope="module")
def few(digits):
    return digits.train.take(200)


def test_relaxed_lies_between():
    weight = torch.randn(40, generator=torch.Generator().manual_seed(0))
    exact = project(weight, "ternary")
    torch.testing.assert_close(relaxed(weight, "ternary", 0.0), weight)
    torch.testing.assert_close(relaxed(weight, "ternary", 1.0), (weight + exact) / 2)
    torch.testing.assert_close(relaxed(weight, "ternary", 1e9), exact)


class Watch(Piece):
    """What passes see, and what the optimizer keeps."""

    def __init__(self):
        self.seen, self.kept = [], []

    def loss(self, run, images, labels, outputs):
        self.seen.append(run.model.late.first.conv.weight.detach().clone())

    def after_step(self, run):
        self.kept.append(run.model.late.first.conv.weight.detach().clone())


def test_the_first_phase_is_relaxed_and_the_second_exact(few):
    model, watch = initial(ARCHITECTURE, 0), Watch()
    first = model.late.first.conv.weight.detach().clone()
    schedule = Schedule(epochs=5, lr=0.01, batch=200)
    metrics = fit(model, few, schedule, seed=0, pieces=[BinaryRelax("ternary", growth=2.0), watch])
    weights = [first, *watch.kept]
    for epoch, seen in enumerate(watch.seen):
        wanted = relaxed(weights[epoch], "ternary", 2.0**epoch) if epoch < 3 else project(weights[epoch], "ternary")
        torch.testing.assert_close(seen, wanted)
    assert [epoch["eta"] for epoch in metrics] == [1, 2, 4, 8, 8]
    torch.testing.assert_close(model.late.first.conv.weight, project(watch.kept[-1], "ternary"))


def test_every_convolution_ends_on_its_levels(few):
    model = initial(ARCHITECTURE, 0)
    fit(model, few, Schedule(epochs=2, lr=0.01), seed=0, pieces=[BinaryRelax("ternary")])
    for name, module in convolutions(model).items():
        found = module.weight.detach().unique()
        assert len(found) <= 3, name
        torch.testing.assert_close(found.abs().max(), -found.min(), msg=name)
    assert len(model.head.linear.weight.unique()) > 15


@pytest.mark.slow
def test_it_learns_and_pruned_weights_stay_zero(digits):
    model = initial(ARCHITECTURE, 0)
    mask = (torch.arange(model.late.second.conv.weight.numel()) % 2).float().view_as(model.late.second.conv.weight)
    pieces = [FixedMask({"late.second.conv.weight": mask}), BinaryRelax("4bit")]
    with torch.no_grad():
        model.late.second.conv.weight.mul_(mask)
    fit(model, digits.train, Schedule(epochs=15, lr=0.01), seed=0, pieces=pieces)
    assert not model.late.second.conv.weight[mask == 0].any()
    assert codes(model.late.second.conv.weight, "4bit")[0].abs().max() == 7
    assert accuracy(predict(model, digits.test.images)[-1], digits.test.labels) > 0.85


def test_it_resumes_exactly(few, tmp_path):
    schedule, path = Schedule(epochs=4, lr=0.01), tmp_path / "run"

    def stop(done, total, text):
        if done > total // 2:
            raise KeyboardInterrupt

    whole, part, again = (initial(ARCHITECTURE, 0) for _ in range(3))
    fit(whole, few, schedule, seed=0, pieces=[BinaryRelax("ternary")])
    with pytest.raises(KeyboardInterrupt):
        fit(part, few, schedule, seed=0, pieces=[BinaryRelax("ternary")], checkpoint=path, progress=stop)
    fit(again, few, schedule, seed=0, pieces=[BinaryRelax("ternary")], checkpoint=path)
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, again.state_dict()[name], err_msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "octal"}, "levels must be one of binary, ternary, 4bit, not 'octal'"),
        ({"eta": 0.0}, "eta must be positive, not 0"),
        ({"growth": -1.0}, "growth must be positive, not -1"),
        ({"relaxed_share": 1.5}, r"relaxed_share must be in 0\.\.1, not 1\.5"),
    ],
)
def test_impossible(settings, message):
    with pytest.raises(ValueError, match=message):
        BinaryRelax(**settings)


def test_a_network_without_convolutions(few):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            return (self.linear(x.flatten(1)),)

    with pytest.raises(ValueError, match="Flat: must have a Conv2d to project the weights of"):
        fit(Flat(), few, Schedule(epochs=1, lr=0.01), seed=0, pieces=[BinaryRelax("ternary")])
