"""Steps are where codes rise, and two roundings with the same steps make the same codes of all sums."""

from dataclasses import replace

import numpy as np
import pytest

from hw.network.network import INPUT
from hw.numerics import Rounding, requantize
from models.backends.rounded_sums import SumSteps, requantized
from tests.random_networks import NetworkMaker


def layer_of(seed: int, rounding: Rounding):
    """A convolution of few taps, what it reads, and the codes that this holds."""
    maker = NetworkMaker(np.random.default_rng(seed), (3, 3, 2))
    maker.conv(INPUT, 4, (1, 2), density=1.0)
    return replace(maker._layers[0], rounding=rounding), maker.input, (-128, 127)


def codes_of(layer, sums: np.ndarray) -> np.ndarray:
    """All that a layer makes of sums, clamped."""
    scales = layer.multiplier[:, None].astype(np.int64), layer.shift[:, None].astype(np.int64)
    made = requantize(sums, *scales, layer.rounding) + layer.output.zero_point
    return made.clip(*layer.clamp)


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("seed", range(3))
def test_steps_are_where_codes_rise(seed, rounding):
    layer, source, held = layer_of(seed, rounding)
    steps = SumSteps.of(layer, source, held)
    for channel in range(4):
        sums = np.arange(steps.least[channel, 0], steps.most[channel, 0] + 1)
        made = codes_of(layer, np.broadcast_to(sums, (4, sums.size)))[channel] - layer.output.zero_point
        expected = sums[0] + np.searchsorted(made, steps.codes)
        np.testing.assert_array_equal(steps.sums[channel], expected)


@pytest.mark.parametrize("by", [1, 60, 4_000, 3_000_000])
def test_same_is_the_same_for_every_sum(by):
    layer, source, held = layer_of(1, Rounding.DOUBLE)
    other = replace(layer, multiplier=np.maximum(layer.multiplier - by, 1 << 29).astype(np.int32))
    steps = SumSteps.of(layer, source, held)
    found = steps.same(requantized(other))
    for channel in range(4):
        sums = np.arange(steps.least[channel, 0], steps.most[channel, 0] + 1)[None].repeat(4, axis=0)
        equal = np.array_equal(codes_of(layer, sums)[channel], codes_of(other, sums)[channel])
        assert found[channel] == equal
    assert steps.same(requantized(layer)).all()
    assert by < 3_000_000 or not found.all()


def test_part_is_of_those_channels():
    layer, source, held = layer_of(1, Rounding.SINGLE)
    steps = SumSteps.of(layer, source, held)
    np.testing.assert_array_equal(steps.part(np.array([2, 0])).sums, steps.sums[[2, 0]])
