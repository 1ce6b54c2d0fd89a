"""Channels that are constant and overflow: what they give stays, what doesn't stay is refused as before."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.fold import fold_constants
from hw.network.layers import is_raw
from hw.network.network import Network
from hw.rules import MisfitError
from models.integer.golden import run
from tests.hw.compiler.test_compile import ROOMY
from tests.random_networks import random_codes, random_network

#: Too few bits for the biases below.
NARROW = ROOMY.replace(accumulator_bits=20)


def weighted(network: Network) -> list[int]:
    """Numbers of the layers with weights, not all 0, whose outputs are codes."""
    return [
        number
        for number, layer in enumerate(network.layers)
        if hasattr(layer, "weight") and layer.weight.any() and not is_raw(layer)
    ]


def changed(network: Network, number: int, **fields) -> Network:
    layers = list(network.layers)
    layers[number] = replace(layers[number], **fields)
    return replace(network, layers=tuple(layers))


def biased(network: Network, number: int, channel: int, bias: int) -> Network:
    """A layer's channel with that bias, of a scale with which it gives the highest or lowest code."""
    layer = network.layers[number]
    biases, multiplier, shift = layer.bias.copy(), layer.multiplier.copy(), layer.shift.copy()
    biases[channel], multiplier[channel], shift[channel] = bias, 1 << 30, 5
    return changed(network, number, bias=biases, multiplier=multiplier, shift=shift)


@pytest.mark.parametrize("seed", [1, 2, 3, 6, 8, 11])
@pytest.mark.parametrize("bias", [1 << 22, -(1 << 22), (1 << 31) - (1 << 24), -(1 << 31) + (1 << 24)])
def test_a_channel_of_a_huge_bias_is_folded(seed, bias):
    network = random_network(seed)
    number = weighted(network)[seed % len(weighted(network))]
    channel = int(np.flatnonzero(network.layers[number].weight.any(axis=(1, 2, 3)))[-1])
    network = biased(network, number, channel, bias)
    found = fold_constants(network, NARROW)
    before, after = network.layers[number], found.layers[number]
    assert not after.weight[channel].any()
    assert abs(int(after.bias[channel])) <= 1 << 19
    others = np.arange(len(before.weight)) != channel
    assert np.array_equal(before.weight[others], after.weight[others])
    codes = random_codes(network, 5, seed)
    expected, folded = run(network, codes), run(found, codes)
    assert all(np.array_equal(tensor, folded.tensors[name]) for name, tensor in expected.tensors.items())
    made = compile_network(network, NARROW).network.layers[number]
    assert np.array_equal(made.weight, after.weight)
    assert np.array_equal(made.bias, after.bias)


def test_a_range_of_one_code_is_folded():
    network = random_network(1)
    number = weighted(network)[0]
    layer = network.layers[number]
    zero = layer.output.zero_point
    bias = np.full_like(layer.bias, 1 << 21)
    network = changed(network, number, clamp=(zero, zero), bias=bias)
    found = fold_constants(network, NARROW)
    assert not found.layers[number].weight.any()
    codes = random_codes(network, 3, 1)
    expected, folded = run(network, codes), run(found, codes)
    assert np.array_equal(expected.tensors[layer.name], folded.tensors[layer.name])


def test_what_fits_or_is_not_constant_stays():
    network = random_network(2)
    assert fold_constants(network, ROOMY) is network
    number = weighted(network)[0]
    layer = network.layers[number]
    bias = np.full_like(layer.bias, 1 << 20)
    # So small a scale that every code is in reach.
    fine = changed(network, number, bias=bias, shift=np.full_like(layer.shift, 20))
    assert fold_constants(fine, NARROW) is fine
    with pytest.raises(MisfitError, match=r"accumulators can reach .* beyond the 20 bits"):
        compile_network(fine, NARROW)
