import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.compression.levels import LEVELS, channel_sparsity, codes, convolutions, project, units
from models.frontends.pytorch.graph import lower
from models.networks.architectures import initial
from models.networks.residual_net import Architecture

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_binary_is_the_mean_magnitude_with_signs():
    weight = torch.tensor([1.0, -3.0, 2.0])
    assert project(weight, "binary").tolist() == [2.0, -2.0, 2.0]


def test_ternary_keeps_what_reaches_seven_tenths_of_the_mean():
    weight = torch.tensor([1.0, -1.0, 0.5, -1.5])  # mean 1, threshold 0.7
    found, scale = codes(weight, "ternary")
    assert found.tolist() == [1, -1, 0, -1]
    assert scale == pytest.approx((1 + 1 + 1.5) / 3)  # of those that stay, not of all


def test_four_bits_have_15_levels_with_the_least_squares_scale():
    weight = torch.tensor([15.0, 1.0, 1.01, 3.0, 3.01, -13.0, -13.01])
    found, scale = codes(weight, "4bit")
    assert found.tolist() == [7, 0, 1, 1, 2, -6, -7]
    magnitudes, q = weight.abs(), found.abs()
    assert scale == pytest.approx(float((magnitudes * q).sum() / (q * q).sum()))
    dense, _ = codes(torch.linspace(-1, 1, 1001), "4bit")
    assert sorted(set(dense.tolist())) == list(range(-7, 8))


def test_ternary_zeroes_two_fifths_of_a_bell():
    assert float((project(normal(0, 100_000), "ternary") == 0).float().mean()) == pytest.approx(0.42, abs=0.02)


@given(kind=st.sampled_from(sorted(LEVELS)), seed=st.integers(0, 1000), density=st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_projection_keeps_signs_zeros_and_levels(kind, seed, density):
    weight = normal(seed, 6, 4, 3, 3)
    weight = weight * (torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < density)
    found, scale = codes(weight, kind)
    assert (found == found.round()).all()
    assert found.abs().max() <= LEVELS[kind]
    assert (found * weight >= 0).all()
    assert (found[weight == 0] == 0).all()
    assert scale >= 0
    torch.testing.assert_close(project(weight, kind), found * scale)


@pytest.mark.parametrize("kind", sorted(LEVELS))
def test_pruned_weights_count_in_no_scale(kind):
    weight = normal(1, 50)
    assert codes(torch.cat([weight, torch.zeros(200)]), kind)[1] == pytest.approx(codes(weight, kind)[1])


@pytest.mark.parametrize("kind", sorted(LEVELS))
def test_nothing_stays_nothing(kind):
    assert not project(torch.zeros(2, 3, 1, 1), kind).any()


def test_unknown_levels():
    with pytest.raises(ValueError, match="levels must be one of binary, ternary, 4bit, not 'octal'"):
        project(torch.zeros(1), "octal")


def projected(kind):
    """A network on its levels, with gains of both signs to fold."""
    model = initial(ARCHITECTURE, 0).eval()
    with torch.no_grad():
        for number, (name, module) in enumerate(convolutions(model).items()):
            module.weight.copy_(project(module.weight, kind))
            norm = model.get_submodule(name.removesuffix("conv") + "norm")
            norm.weight.copy_(normal(number, len(norm.weight)))
            norm.running_var.copy_(normal(number + 50, len(norm.weight)).abs() + 0.1)
    return model


@pytest.mark.parametrize("kind", sorted(LEVELS))
def test_projection_is_idempotent(kind):
    weight = project(normal(2, 8, 4, 3, 3), kind)
    torch.testing.assert_close(project(weight, kind), weight)


@pytest.mark.parametrize("kind", sorted(LEVELS))
def test_codes_survive_the_folding_of_batch_norms(kind):
    model = projected(kind)
    graph = lower(model, (8, 8, 1))
    found = units(model, graph, kind)
    assert set(found) == set(convolutions(model))
    for step in graph.steps:
        if step.name in found:
            ratio = step.weight / found[step.name][:, None, None, None]
            wanted, _ = codes(model.get_submodule(step.name).weight, kind)
            torch.testing.assert_close(ratio.abs(), wanted.abs(), atol=1e-4, rtol=0)


def test_channels_without_weights_have_no_unit():
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([0.5, 0.0]).view(2, 1, 1, 1))
    assert units(model, lower(model, (2, 2, 1)), "ternary")["0"].tolist() == [0.5, 0.0]


def test_units_of_other_weights():
    model = projected("4bit")
    with pytest.raises(ValueError, match=r"stem.conv: weights must be whole multiples .* as ternary ones are"):
        units(model, lower(model, (8, 8, 1)), "ternary")


def test_channel_sparsity_counts_input_channels_that_nobody_reads():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Conv2d(2, 4, 1), nn.Conv2d(4, 1, 1))
    assert channel_sparsity(model) == 0
    with torch.no_grad():
        model[0].weight[:, 1] = 0
        model[0].weight[0] = 0
        model[2].weight[:, 2:] = 0
    assert channel_sparsity(model) == pytest.approx(3 / 9)


def test_channel_sparsity_without_convolutions():
    with pytest.raises(ValueError, match="Linear: must have a Conv2d to count input channels of"):
        channel_sparsity(nn.Linear(2, 2))
