import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.compression import prune
from models.networks.architectures import initial
from models.networks.residual_net import Architecture

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)


@given(target=st.floats(0.05, 1.0), seed=st.integers(0, 9), stem=st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_densities_meet_the_target(target, seed, stem):
    model = initial(ARCHITECTURE, seed)
    sizes = {name: weight.numel() for name, weight in prune.prunable(model).items()}
    shares = prune.densities(model, target, {"stem.conv.weight": stem})
    kept = sum(shares[name] * size for name, size in sizes.items())
    assert kept == pytest.approx(int(target * sum(sizes.values())))
    assert shares["stem.conv.weight"] >= round(stem * sizes["stem.conv.weight"]) / sizes["stem.conv.weight"]
    assert all(0 < share <= 1 for share in shares.values())
    prune.apply(model, prune.masks(model, shares))
    assert prune.density(model) == pytest.approx(target, abs=1.0 / sum(sizes.values()))


def test_densities_do_not_depend_on_a_layers_scale():
    model = initial(ARCHITECTURE, 0)
    before = prune.densities(model, 0.3)
    with torch.no_grad():
        model.early.first.conv.weight.mul_(64)
    assert prune.densities(model, 0.3) == before


def test_scores_are_lamp():
    weight = torch.tensor([3.0, -1.0, 2.0])
    np.testing.assert_allclose(prune._scores(weight), [1 / 14, 4 / 13, 1.0])


def test_the_largest_weights_stay():
    model = nn.Sequential(nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, -3.0, 2.0, -0.2]]))
    chosen = prune.masks(model, {"0.weight": 0.5})
    prune.apply(model, chosen)
    assert model[0].weight.tolist() == [[0.0, -3.0, 2.0, 0.0]]
    assert prune.density(model) == 0.5


def test_equal_weights_are_pruned_in_order():
    model = nn.Sequential(nn.Linear(5, 1))
    nn.init.ones_(model[0].weight)
    assert prune.masks(model, {"0.weight": 0.4})["0.weight"].tolist() == [[1, 1, 0, 0, 0]]


@given(share=st.floats(0.0, 1.0), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_balanced_channels_differ_by_one_weight_at_most(share, seed):
    model = initial(ARCHITECTURE, seed)
    shares = dict.fromkeys(prune.prunable(model), share)
    even, uneven = (prune.masks(model, shares, balanced=balanced) for balanced in (True, False))
    for name, weight in prune.prunable(model).items():
        counts = even[name].flatten(1).sum(1)
        assert counts.max() - counts.min() <= 1
        assert even[name].sum() == uneven[name].sum() == round(share * weight.numel())
        for kept, row in zip(even[name].flatten(1).bool(), weight.detach().abs().flatten(1), strict=True):
            if kept.any() and not kept.all():
                assert row[kept].min() >= row[~kept].max()


@pytest.mark.parametrize("balanced", [False, True])
def test_masks_are_the_same_however_weights_lie_in_memory(balanced):
    model = initial(ARCHITECTURE, 0)
    plain = prune.masks(model, {"early.first.conv.weight": 0.3}, balanced=balanced)
    turned = prune.masks(
        model.to(memory_format=torch.channels_last), {"early.first.conv.weight": 0.3}, balanced=balanced
    )
    for name, mask in plain.items():
        assert torch.equal(mask, turned[name])


def test_odd_weights_of_balanced_channels_are_the_largest():
    model = nn.Sequential(nn.Linear(2, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, -3.0], [2.0, 0.5], [0.3, 0.2]]))
    chosen = prune.masks(model, {"0.weight": 4 / 6}, balanced=True)["0.weight"]
    assert chosen.tolist() == [[0, 1], [1, 1], [1, 0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(value):
    model = initial(ARCHITECTURE, 0)
    with torch.no_grad():
        model.late.first.conv.weight[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"late.first.conv: weights must be finite, not NaN or infinite"):
        prune.densities(model, 0.5)


def test_wrong_requests():
    model = initial(ARCHITECTURE, 0)
    with pytest.raises(ValueError, match="density must be above 0 and at most 1, not 0"):
        prune.densities(model, 0)
    with pytest.raises(ValueError, match="density must be above 0 and at most 1, not nan"):
        prune.densities(model, float("nan"))
    with pytest.raises(ValueError, match=r"density 0.1 keeps \d+ weights, but the lowest densities need \d+"):
        prune.densities(model, 0.1, {"late.second.conv.weight": 1.0})
    with pytest.raises(ValueError, match="lowest density of 'x': there is no weight of that name"):
        prune.densities(model, 0.1, {"x": 1.0})
    with pytest.raises(ValueError, match="density of 'x': there is no weight of that name"):
        prune.masks(model, {"x": 0.5})
    with pytest.raises(ValueError, match=r"density of stem.conv.weight must be in 0..1, not 2"):
        prune.masks(model, {"stem.conv.weight": 2})
    with pytest.raises(ValueError, match="ReLU: must have a Conv1d, Conv2d or Linear layer to prune"):
        prune.density(nn.ReLU())
