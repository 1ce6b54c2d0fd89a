import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from models.methods.gap import CRITERIA, GreedyPruning, PGDSettings, kept_share, prunable, scores, select
from models.networks.residual_net import to_torch
from models.training.train import Schedule, accuracy, fit, predict

FAST = PGDSettings(eps=0.1, step=0.05, steps=2)


@pytest.fixture
def model(trained):
    return trained.model()


def test_everything_but_the_classifier_is_prunable(model):
    found = prunable(model)
    assert "head.linear.weight" not in found
    assert "branch_head.linear.weight" in found  # an early exit's
    assert "stem.conv.weight" in found
    with pytest.raises(ValueError, match="Linear: must have a layer to prune besides its classifier"):
        prunable(nn.Linear(3, 2))


def test_compression_counts_all_parameters(model):
    every = sum(parameter.numel() for parameter in model.parameters())
    free = sum(weight.numel() for weight in prunable(model).values())
    for compression in (1.0, 2.0, 4.0):
        kept = kept_share(model, compression) * free + every - free
        assert every / kept == pytest.approx(compression)
    with pytest.raises(ValueError, match=r"compression must be at least 1, not 0\.5"):
        kept_share(model, 0.5)
    with pytest.raises(ValueError, match=r"compression must be below .* for this network, not 1000"):
        kept_share(model, 1000.0)


def test_scoring_leaves_the_network_as_it_was(model, digits):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for criterion in CRITERIA:
        first, again = (scores(model, digits.train.take(300), criterion, attack=FAST, seed=1) for _ in range(2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert set(first) == set(prunable(model))
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gap_adds_up_gradients_on_adversarial_examples(model, digits):
    few = digits.train.take(200)
    found = scores(model, few, "gap", attack=PGDSettings(eps=0.0, step=0.01, steps=1), seed=3)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    images, labels = to_torch(few.images), torch.from_numpy(few.labels)
    model.train()
    for chosen in order.split(128):  # without a reach, the examples are the images
        F.cross_entropy(model(images[chosen])[-1], labels[chosen]).backward()
    for name, score in found.items():
        gradient = model.get_parameter(name).grad
        wanted = torch.zeros_like(score) if gradient is None else gradient
        torch.testing.assert_close(score, wanted, rtol=0, atol=1e-3 * float(wanted.abs().max()))


def test_variants_are_made_of_the_same_gradients(model, digits):
    found = {
        name: scores(model, digits.train.take(200), name, attack=FAST) for name in ("gap", "gap-weight", "gap-layer")
    }
    for name, gradient in found["gap"].items():
        torch.testing.assert_close(found["gap-layer"][name], gradient.abs())
        torch.testing.assert_close(found["gap-weight"][name], gradient * model.get_parameter(name).detach())


def test_the_largest_go(model):
    found = {"a": torch.tensor([3.0, 1.0, -5.0]), "b": torch.tensor([[2.0, 9.0, -1.0]])}
    masks = select(found, "gap", 0.5)
    assert masks["a"].tolist() == [0, 1, 1]
    assert masks["b"].tolist() == [[0, 0, 1]]
    masks = select(found, "gap-layer", 1 / 3)
    assert masks["a"].tolist() == [0, 0, 1]
    assert masks["b"].tolist() == [[0, 0, 1]]


@given(st.floats(0, 1), st.integers(0, 100), st.sampled_from(CRITERIA))
@settings(max_examples=50, deadline=None)
def test_exactly_as_many_stay_even_of_equals(share, seed, criterion):
    found = {"a": torch.zeros(7, 3), "b": torch.arange(30.0) // 5}
    masks = select(found, criterion, share, seed=seed)
    counts = [int(mask.sum()) for mask in masks.values()]
    if criterion.endswith("-layer"):
        assert counts == [round(share * 21), round(share * 30)]
    else:
        assert sum(counts) == round(share * 51)


def test_equals_are_drawn_at_random():
    masks = [select({"a": torch.zeros(100)}, "gap", 0.5, seed=seed)["a"] for seed in (0, 1)]
    assert (masks[0] != masks[1]).any()


@pytest.mark.slow
def test_pruned_and_trained_on(model, digits):
    piece = GreedyPruning("gap", 2.0, attack=FAST)
    fit(model, digits.train, Schedule(epochs=10, lr=0.01), seed=0, pieces=[piece])
    assert accuracy(predict(model, digits.test.images)[-1], digits.test.labels) > 0.9
    for name, mask in piece.masks.items():
        assert not model.get_parameter(name)[mask == 0].any()
    every = sum(parameter.numel() for parameter in model.parameters())
    kept = every - sum(int((mask == 0).sum()) for mask in piece.masks.values())
    assert every / kept == pytest.approx(2.0, rel=1e-3)


def test_it_resumes_with_the_same_masks(trained, digits, tmp_path):
    few, path, schedule = digits.train.take(200), tmp_path / "run", Schedule(epochs=4, lr=0.01)

    def stop(done, total, text):
        if done > total // 2:
            raise KeyboardInterrupt

    whole, part, again = (trained.model() for _ in range(3))
    fit(whole, few, schedule, seed=0, pieces=[GreedyPruning("gap", 2.0, attack=FAST)])
    with pytest.raises(KeyboardInterrupt):
        fit(
            part, few, schedule, seed=0, pieces=[GreedyPruning("gap", 2.0, attack=FAST)], checkpoint=path, progress=stop
        )
    with torch.no_grad():
        again.stem.conv.weight.mul_(-1)  # other masks, if they were made anew
    fit(again, few, schedule, seed=0, pieces=[GreedyPruning("gap", 2.0, attack=FAST)], checkpoint=path)
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, again.state_dict()[name], err_msg=name)


def test_magnitude_keeps_the_largest(model, digits):
    masks = select(scores(model, digits.train, "magnitude"), "magnitude", 0.3)
    kept, gone = ([], [])
    for name, mask in masks.items():
        weight = model.get_parameter(name).detach().abs()
        kept.append(weight[mask == 1])
        gone.append(weight[mask == 0])
    assert float(torch.cat(kept).min()) >= float(torch.cat(gone).max())
    assert np.isclose(len(torch.cat(kept)) / (len(torch.cat(kept)) + len(torch.cat(gone))), 0.3, atol=1e-3)


def test_impossible(model, digits):
    for call in (
        lambda name: scores(model, digits.train, name),
        lambda name: select({}, name, 0.5),
        lambda name: GreedyPruning(name, 2.0),
    ):
        with pytest.raises(ValueError, match=r"criterion must be one of gap, .*, not 'luck'"):
            call("luck")
    with pytest.raises(ValueError, match=r"compression must be at least 1, not 0\.5"):
        GreedyPruning("gap", 0.5)
    with pytest.raises(ValueError, match=r"share of weights that stay must be in 0\.\.1, not 2"):
        select({}, "gap", 2.0)
