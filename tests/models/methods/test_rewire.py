import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.methods.rewire import MODES, MaskedLayer, random_mask, regrowth_shares, rewired

SHAPES = [(8, 5, 3, 3), (16, 8, 3, 3), (16, 8, 1, 1), (4, 16, 1, 1)]


def layers(seed, density, mode):
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for number, shape in enumerate(SHAPES):
        weight, momentum = torch.randn(2, *shape, generator=generator)
        mask = random_mask(weight, density, mode, generator)
        found[f"layer {number}"] = MaskedLayer(weight=weight * mask, mask=mask, momentum=momentum * 10.0**-number)
    return found


def nonzero(masks):
    return sum(int(mask.sum()) for mask in masks)


@pytest.mark.parametrize("mode", MODES)
def test_random_masks(mode):
    generator = torch.Generator().manual_seed(0)
    weight = torch.zeros(8, 10, 3, 3)
    first, second = (random_mask(weight, 0.3, mode, generator) for _ in range(2))
    assert first.sum() == second.sum() == 216
    assert (first != second).any()
    assert random_mask(weight, 1e-9, mode, generator).sum() == (1 if mode == "irregular" else 72)
    if mode == "channel":
        assert set(first.sum(dim=(0, 2, 3)).tolist()) == {0, 72}


@given(st.integers(0, 1000), st.floats(0.05, 0.95), st.floats(0, 1), st.sampled_from(MODES))
@settings(max_examples=80, deadline=None)
def test_the_number_of_weights_is_constant(seed, density, rate, mode):
    current = layers(seed, density, mode)
    target = nonzero(layer.mask for layer in current.values())
    for _ in range(3):
        masks = rewired(current, rate=rate, target=target, mode=mode)
        assert nonzero(masks.values()) == target
        for mask in masks.values():
            assert ((mask == 0) | (mask == 1)).all()
            assert mask.any()
            if mode == "channel":
                assert set(mask.flatten(2).sum(2).sum(0).tolist()) <= {0, mask[:, 0].numel()}
        current = {
            name: MaskedLayer(weight=layer.weight * masks[name], mask=masks[name], momentum=layer.momentum)
            for name, layer in current.items()
        }


def test_a_target_between_channels_is_not_exceeded():
    current = layers(0, 0.5, "channel")
    target = nonzero(layer.mask for layer in current.values())
    for missing in (1, 3, 50):
        found = nonzero(rewired(current, rate=0.3, target=target - missing, mode="channel").values())
        assert target - missing - 4 < found <= target - missing


def test_the_smallest_go_and_the_largest_momentum_comes():
    layer = MaskedLayer(
        weight=torch.tensor([[5.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]]),
        mask=torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]),
        momentum=torch.tensor([[0.0, 0.1, 0.0, 0.2, -0.9, 0.3, 0.0, 0.0]]),
    )
    (mask,) = rewired({"it": layer}, rate=0.5, target=3).values()  # ceil(1.5) = 2 go
    assert mask.tolist() == [[1, 0, 0, 0, 1, 1, 0, 0]]


def test_channels_go_by_frobenius_norm():
    weight = torch.zeros(2, 4, 1, 1)
    weight[:, 0, 0, 0] = torch.tensor([3.0, 4.0])
    weight[:, 1, 0, 0] = torch.tensor([4.5, 0.0])  # a larger weight, a smaller norm
    momentum = torch.zeros(2, 4, 1, 1)
    momentum[:, 3] = 1.0
    momentum[0, 2] = 1.2
    mask = torch.zeros(2, 4, 1, 1)
    mask[:, :2] = 1
    found = rewired(
        {"it": MaskedLayer(weight=weight, mask=mask, momentum=momentum)}, rate=0.5, target=4, mode="channel"
    )
    assert found["it"][0, :, 0, 0].tolist() == [1, 0, 0, 1]


def test_layers_with_more_momentum_grow():
    current = layers(0, 0.2, "irregular")
    found = regrowth_shares(list(current.values()))
    assert sum(found) == pytest.approx(1)
    assert found == sorted(found, reverse=True)
    target = nonzero(layer.mask for layer in current.values())
    masks = rewired(current, rate=0.1, target=target)
    lost = {name: math.ceil(0.1 * int(layer.mask.sum())) for name, layer in current.items()}
    for share, (name, layer) in zip(found, current.items(), strict=True):
        grown = int(masks[name].sum()) - (int(layer.mask.sum()) - lost[name])
        assert grown == pytest.approx(share * sum(lost.values()), abs=1)


def test_full_layers_give_what_they_cannot_take_to_the_others():
    current = layers(0, 0.9, "irregular")
    target = nonzero(layer.mask for layer in current.values())
    masks = rewired(current, rate=0.2, target=target)
    first = current["layer 0"]
    free = first.mask.numel() - int(first.mask.sum()) + math.ceil(0.2 * int(first.mask.sum()))
    assert nonzero(masks.values()) == target
    assert first.mask.numel() - int(masks["layer 0"].sum()) == free - math.floor(0.99 * free)


def test_without_momentum_layers_share_alike():
    zero = MaskedLayer(weight=torch.ones(2, 2), mask=torch.ones(2, 2), momentum=torch.zeros(2, 2))
    assert regrowth_shares([zero, zero]) == [0.5, 0.5]


def test_impossible():
    layer = MaskedLayer(weight=torch.ones(2, 2), mask=torch.ones(2, 2), momentum=torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"rewiring rate must be in 0\.\.1, not 2"):
        rewired({"it": layer}, rate=2.0, target=4)
    with pytest.raises(ValueError, match="mode must be one of irregular, channel, not 'row'"):
        random_mask(layer.weight, 0.5, "row", torch.Generator())
    with pytest.raises(ValueError, match="density must be above 0 and at most 1, not 0"):
        random_mask(layer.weight, 0.0, "channel", torch.Generator())
