"""The random networks have every feature that they are there to test."""

import numpy as np
import pytest

from hw.network.layers import select_of
from hw.network.network import AveragePool2D, Conv2D, DepthwiseConv2D, Layer, Linear, MaxPool2D
from hw.network.selection import KINDS
from hw.network.zero_points import storage_zero_points
from models.integer import golden
from tests.random_networks import random_codes, random_network, with_selects
from tests.rtl.test_layers import SIZES, programs, quick_programs

_SEEDS = 400


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    return [layer for seed in range(_SEEDS) for layer in random_network(seed).layers]


def test_equal_seeds_give_equal_networks():
    one, other = random_network(3), random_network(3)
    assert one.to_dict() == other.to_dict()
    for (name, array), (again, copy) in zip(one.arrays(), other.arrays(), strict=True):
        assert name == again
        np.testing.assert_array_equal(array, copy)


def test_every_kind_occurs(layers):
    kinds = {"conv2d", "depthwise_conv2d", "linear", "add", "average_pool2d", "max_pool2d", "global_average_pool"}
    assert {layer.kind for layer in layers} == kinds


@pytest.mark.parametrize("kind", [Conv2D, DepthwiseConv2D])
def test_geometries_of_all_sorts_occur(layers, kind):
    found = [layer for layer in layers if isinstance(layer, kind)]
    kernels = {layer.weight.shape[1:3] for layer in found}
    assert all(max(kernel[axis] for kernel in kernels) >= 10 for axis in (0, 1))
    assert {layer.stride for layer in found} >= {(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1)}
    assert any(layer.pads[0] != layer.pads[1] and layer.pads[2] != layer.pads[3] for layer in found)
    assert any(layer.weight.shape[1] > 2 * layer.weight.shape[2] > 4 and 2 in layer.stride for layer in found)
    assert {layer.output.shape[2] % 8 for layer in found} == set(range(8))


@pytest.mark.parametrize("kind", [AveragePool2D, MaxPool2D])
def test_windows_of_all_sorts_occur(layers, kind):
    pools = [layer for layer in layers if isinstance(layer, kind)]
    assert any(1 in pool.window for pool in pools)
    assert any(pool.window[0] != pool.window[1] for pool in pools)
    assert any(pool.stride == pool.window for pool in pools)  # beside one another
    assert any(all(map(int.__lt__, pool.stride, pool.window)) for pool in pools)  # overlapping


def test_max_pools_of_all_sorts_occur(layers):
    pools = [layer for layer in layers if isinstance(layer, MaxPool2D)]
    assert {any(pool.pads) for pool in pools} == {False, True}
    assert any(pool.pads[0] < pool.pads[1] for pool in pools)
    assert any(not any(pool.pads) and pool.output.shape[:2] == (1, 1) for pool in pools)
    assert any(pool.output.zero_point > -128 for pool in pools)


@pytest.mark.parametrize("more", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_rtl_runs_max_pools_of_codes_below_the_zero_point(more):
    work = [each for size in SIZES for each in programs(*size)] if more else quick_programs()
    networks = [program.network for program, _ in work]
    lowest = [
        storage_zero_points(network)[layer.inputs[0]] - network.tensors()[layer.inputs[0]].zero_point
        for network in networks
        for layer in network.layers
        if isinstance(layer, MaxPool2D)
    ]
    assert min(lowest) < 0


def test_selections_of_all_sorts_occur():
    networks = [with_selects(random_network(seed), np.random.default_rng(seed)) for seed in range(150)]
    found = [(layer, network.tensors()) for network in networks for layer in network.layers if select_of(layer)]
    assert {select_of(layer).kind for layer, _ in found} == set(KINDS)
    assert {type(layer) for layer, _ in found} == {Conv2D, DepthwiseConv2D, Linear}
    assert any(layer.threshold > 1 for layer, _ in found)
    counts = {
        (layer.select.count == 1, layer.select.count == np.prod(tensors[layer.inputs[0]].shape))
        for layer, tensors in found
        if layer.select.kind == "elements"
    }
    assert {(True, False), (False, True), (False, False)} <= counts


def test_activations_are_neither_all_zero_nor_saturated():
    shares = []
    for seed in range(40):
        network = random_network(seed)
        tensors = golden.run(network, random_codes(network, 8, seed)).tensors
        shares += [
            (tensors[layer.name] != layer.output.zero_point).mean()
            for layer in network.layers
            if layer.kind in ("conv2d", "depthwise_conv2d")
        ]
    assert 0.3 < np.mean(shares) < 0.9
