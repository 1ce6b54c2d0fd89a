"""Steps are where codes rise, and two roundings with the same steps make the same codes of all sums."""

from dataclasses import replace

import numpy as np
import pytest

from hw.network.network import INPUT
from hw.numerics import Rounding, requantize
from models.backends.rounded_sums import SumSteps, reached_codes, requantized
from models.integer import golden
from tests.random_networks import NetworkMaker, odd_network, random_codes, random_network


def layer_of(seed: int, rounding: Rounding, times: int = 1):
    """A convolution of few taps, what it reads, and the codes that this holds."""
    maker = NetworkMaker(np.random.default_rng(seed), (3, 3, 2))
    maker.conv(INPUT, 4, (1, 2), density=1.0)
    layer = maker._layers[0]
    return replace(layer, rounding=rounding, weight=layer.weight // times * times), maker.input, (-128, 127)


def codes_of(layer, steps: SumSteps) -> list[np.ndarray]:
    """The clamped code of every sum that can occur, channel by channel."""
    found = []
    for channel in range(4):
        sums = steps.bias[channel] + steps.unit[channel] * np.arange(
            steps.least[channel, 0], steps.most[channel, 0] + 1
        )
        made = requantize(sums, int(layer.multiplier[channel]), int(layer.shift[channel]), layer.rounding)
        found.append((made + layer.output.zero_point).clip(*layer.clamp))
    return found


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize(("seed", "times"), [(0, 1), (1, 1), (2, 8)])
def test_steps_are_where_codes_rise(seed, rounding, times):
    layer, source, held = layer_of(seed, rounding, times)
    steps = SumSteps.of(layer, source, held)
    assert (steps.unit % times == 0).all() or not layer.weight.all()
    for channel, codes in enumerate(codes_of(layer, steps)):
        expected = steps.least[channel, 0] + np.searchsorted(codes - layer.output.zero_point, steps.codes)
        np.testing.assert_array_equal(steps.steps[channel], expected)


@pytest.mark.parametrize("by", [1, 60, 4_000, 3_000_000])
def test_same_is_the_same_for_every_sum(by):
    layer, source, held = layer_of(1, Rounding.DOUBLE)
    other = replace(layer, multiplier=np.maximum(layer.multiplier - by, 1 << 29).astype(np.int32))
    steps = SumSteps.of(layer, source, held)
    found = steps.same(requantized(other))
    pairs = zip(codes_of(layer, steps), codes_of(other, steps), strict=True)
    assert found.tolist() == [np.array_equal(one, another) for one, another in pairs]
    assert steps.same(requantized(layer)).all()
    assert by < 3_000_000 or not found.all()


def test_part_is_of_those_channels():
    layer, source, held = layer_of(1, Rounding.SINGLE)
    steps = SumSteps.of(layer, source, held)
    np.testing.assert_array_equal(steps.part(np.array([2, 0])).steps, steps.steps[[2, 0]])


@pytest.mark.parametrize("seed", range(6))
def test_codes_of_every_map_are_among_those_that_it_reaches(seed):
    network = (random_network, odd_network)[seed % 2](seed)
    reached = reached_codes(network)
    made = golden.run(network, random_codes(network, 8, seed)).tensors
    for name, codes in made.items():
        if not getattr(next((each for each in network.layers if each.name == name), None), "raw", False):
            low, high = reached[name]
            assert low <= codes.min() <= codes.max() <= high, name
