"""Channels that are constant and overflow: what they give stays, what doesn't stay is refused as before."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.fold import fold_constants
from hw.network.network import INPUT, Network
from hw.rules import MisfitError
from models.integer.golden import run
from tests.hw.compiler.test_compile import ROOMY
from tests.random_networks import NetworkMaker, random_codes

#: Too few bits for the sums of a channel that is all -127 or 127, and enough for others.
NARROW = ROOMY.replace(accumulator_bits=22)


#: Number of the layer whose sums are to overflow.
WIDE = 1


def wide_network(seed: int) -> Network:
    maker = NetworkMaker(np.random.default_rng(seed), (5, 5, 3))
    here = maker.conv(INPUT, 16, (3, 3), density=0.3)
    maker.head(maker.pool(maker.conv(here, 5, (3, 3), density=0.3)), 3)
    return maker.network("net")


def changed(network: Network, number: int, **fields) -> Network:
    layers = list(network.layers)
    layers[number] = replace(layers[number], **fields)
    return replace(network, layers=tuple(layers))


def biased(network: Network, number: int, channel: int, bias: int, weight: int) -> Network:
    """A layer's channel with that bias, all its weights the same, and the highest or the lowest code."""
    layer = network.layers[number]
    weights, biases, multiplier, shift = (
        each.copy() for each in (layer.weight, layer.bias, layer.multiplier, layer.shift)
    )
    weights[channel], biases[channel], multiplier[channel], shift[channel] = weight, bias, 1 << 30, 5
    return changed(network, number, weight=weights, bias=biases, multiplier=multiplier, shift=shift)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [1 << 24, -(1 << 24), (1 << 31) - (1 << 24), -(1 << 31) + (1 << 24)])
def test_a_channel_of_a_huge_bias_is_folded_where_its_sums_overflow(seed, bias):
    network, channel = wide_network(seed), seed % 5
    quiet = biased(network, WIDE, channel, bias, weight=1)
    assert fold_constants(quiet, NARROW) is quiet
    network = biased(network, WIDE, channel, bias, weight=-127)
    found = fold_constants(network, NARROW)
    before, after = network.layers[WIDE], found.layers[WIDE]
    assert not after.weight[channel].any()
    others = np.arange(len(before.weight)) != channel
    assert np.array_equal(before.weight[others], after.weight[others])
    codes = random_codes(network, 5, seed)
    expected, folded = run(network, codes), run(found, codes)
    assert all(np.array_equal(tensor, folded.tensors[name]) for name, tensor in expected.tensors.items())
    made = compile_network(network, NARROW).network.layers[WIDE]
    assert np.array_equal(made.weight, after.weight)
    assert np.array_equal(made.bias, after.bias)


def test_a_range_of_one_code_is_folded():
    network = wide_network(1)
    layer = network.layers[WIDE]
    zero = layer.output.zero_point
    network = changed(network, WIDE, clamp=(zero, zero), weight=np.full_like(layer.weight, 127))
    found = fold_constants(network, NARROW)
    assert not found.layers[WIDE].weight.any()
    codes = random_codes(network, 3, 1)
    expected, folded = run(network, codes), run(found, codes)
    assert np.array_equal(expected.tensors[layer.name], folded.tensors[layer.name])


def test_what_fits_or_is_not_constant_stays():
    network = wide_network(2)
    assert fold_constants(network, ROOMY) is network
    layer = network.layers[WIDE]
    # So small a scale that every code is in reach.
    fine = changed(network, WIDE, weight=np.full_like(layer.weight, 127), shift=np.full_like(layer.shift, 20))
    assert fold_constants(fine, NARROW) is fine
    with pytest.raises(MisfitError, match=r"accumulators can reach .* beyond the 22 bits"):
        compile_network(fine, NARROW)
