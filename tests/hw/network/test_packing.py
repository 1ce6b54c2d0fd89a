"""Columns of the image side by side: whatever is packed, every tensor stays the same."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.network.layers import is_raw
from hw.network.network import INPUT, Network, Tensor
from hw.network.packing import most_packed, pack_columns
from hw.network.selection import Select
from models.integer.golden import run
from sim import simulate
from tests.hw.compiler.test_compile import ROOMY
from tests.hw.equality import assert_equals_golden
from tests.random_networks import NetworkMaker, random_codes


def network(shape, *layers) -> Network:
    """Convolutions (kernel, stride, pads) or "linear" layers of the image, each with a head."""
    maker = NetworkMaker(np.random.default_rng(5), shape)
    for number, layer in enumerate(layers):
        threshold = 0 if number < len(layers) - 1 else None
        here = maker.linear(INPUT, 5) if layer == "linear" else maker.conv(INPUT, 5, *layer, density=1.0)
        maker.head(here, 3, threshold)
    found = maker.network("net")
    return replace(found, layers=tuple(layer if is_raw(layer) else _wide(layer) for layer in found.layers))


def _wide(layer):
    """With codes all over the range."""
    scale = {"multiplier": np.full(5, 1 << 30, np.int32), "shift": np.full(5, 6, np.int32)}
    return replace(layer, clamp=(-128, 127), output=replace(layer.output, zero_point=0), **scale)


def nonzero_products(layer, codes, image: Tensor) -> np.ndarray:
    """Of each image, the products of codes that aren't zero with weights that aren't: (N,)."""
    top, bottom, left, right = layer.pads if layer.kind == "conv2d" else (0, 0, 0, 0)
    down, along = layer.stride if layer.kind == "conv2d" else (1, 1)
    active = np.pad(codes != image.zero_point, ((0, 0), (top, bottom), (left, right), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(active, layer.weight.shape[1:3], axis=(1, 2))
    weights = np.count_nonzero(layer.weight, axis=0)
    return np.einsum("nyxcij,ijc->n", windows[:, ::down, ::along].astype(np.int64), weights)


#: Image, layers that read it, columns that may lie together at most.
CASES = [
    ((7, 6, 3), [((3, 3), (2, 2), (0, 1, 0, 1))], 2),
    ((7, 6, 3), [((3, 3), (2, 2), (1, 1, 1, 1))], 2),
    ((5, 8, 1), [((3, 4), (1, 2), (1, 1, 1, 1))], 2),
    ((5, 8, 2), [((2, 5), (1, 4), (0, 0, 3, 2))], 4),
    ((5, 8, 2), [((1, 1), (2, 4), (0, 0, 0, 0))], 4),
    ((5, 8, 3), [((1, 1), (2, 4), (0, 0, 0, 0))], 2),
    ((3, 12, 1), [((2, 7), (3, 6), (1, 0, 5, 0))], 6),
    ((4, 9, 2), [((3, 4), (1, 3), (0, 0, 2, 6))], 3),
    ((4, 8, 1), [((2, 3), (1, 8), (0, 0, 9, 4))], 8),
    ((2, 12, 1), [((1, 3), (1, 6), (0, 0, 0, 0)), ((2, 2), (2, 4), (1, 1, 1, 1))], 2),
    ((3, 8, 1), ["linear"], 8),
    ((3, 6, 3), ["linear"], 2),
    ((3, 12, 1), ["linear", ((3, 3), (1, 4), (0, 0, 1, 0))], 4),
    ((1, 1, 8), ["linear"], 1),
    ((7, 5, 3), [((3, 3), (2, 2), (1, 1, 1, 1))], 1),  # an odd number of columns
    ((6, 6, 3), [((3, 3), (2, 1), (1, 1, 1, 1))], 1),
    ((6, 6, 5), [((3, 3), (2, 2), (1, 1, 1, 1))], 1),  # more than a word
]


@pytest.mark.parametrize(("shape", "layers", "most"), CASES)
def test_tensors_stay_the_same(shape, layers, most):
    found = network(shape, *layers)
    assert most_packed(found) == most
    codes = random_codes(found, 4, 1)
    expected = run(found, codes)
    assert all(len(np.unique(tensor)) > 8 for name, tensor in expected.tensors.items() if tensor.size > 20)
    for together in (n for n in range(1, most + 1) if not most % n):
        packed = pack_columns(found, together)
        assert packed.input.shape == (shape[0], shape[1] // together, shape[2] * together)
        result = run(packed, codes.reshape(-1, *packed.input.shape))
        assert np.array_equal(result.classes, expected.classes)
        for name, tensor in expected.tensors.items():
            assert np.array_equal(result.tensors[name].reshape(tensor.shape), tensor), (name, together)


@pytest.mark.parametrize(("shape", "layers", "most"), CASES)
def test_programs_take_the_image_packed(shape, layers, most):
    found = network(shape, *layers)
    program = compile_network(found, ROOMY)
    assert program.network.to_dict() == found.to_dict()
    assert program.packed.input.shape[2] == program.decoded.header.image_channels == shape[2] * most
    codes = random_codes(found, 3, 2)
    assert_equals_golden(program, codes)
    expected, timing = run(found, codes), simulate(program, codes)
    for name in ("classes", "exit_index"):
        np.testing.assert_array_equal(getattr(timing, name), getattr(expected, name), err_msg=name)
    np.testing.assert_array_equal(timing.decisions.margin, expected.margins[range(3), expected.exit_index])
    assert timing.layer_names[0] == found.layers[0].name
    np.testing.assert_array_equal(timing.products[:, 0], nonzero_products(found.layers[0], codes, found.input))
    assert (timing.layer_cycles[:, 0] * timing.multipliers >= timing.products[:, 0]).all()
    # Multiply-accumulates are those of the network, without the zeros beside its kernels.
    assert next(command.macs for command in program.commands) == found.layers[0].weight.size * int(
        np.prod(found.layers[0].output.shape[:2])
    )


def test_what_reads_columns_one_by_one_keeps_them_apart():
    maker = NetworkMaker(np.random.default_rng(0), (6, 8, 2))
    maker.head(maker.conv(INPUT, 3, (2, 2), (2, 2)), 3)
    found = maker.network("net")
    assert most_packed(found) == 2
    layer = replace(found.layers[0], select=Select(kind="elements", count=7))
    assert most_packed(replace(found, layers=(layer, *found.layers[1:]))) == 1
    for make in ("depthwise", "max_pool", "average_pool"):
        maker = NetworkMaker(np.random.default_rng(0), (6, 8, 2))
        maker.head(getattr(maker, make)(INPUT, (2, 2), (2, 2)), 3)
        assert most_packed(maker.network("net")) == 1


@pytest.mark.parametrize("together", [0, 3, 4])
def test_columns_that_must_stay_apart_are_refused(together):
    found = network((7, 6, 3), ((3, 3), (2, 2), (0, 1, 0, 1)))
    with pytest.raises(
        ValueError, match=rf"^net: columns of its image that lie together must be a divisor of 2, not {together}$"
    ):
        pack_columns(found, together)
