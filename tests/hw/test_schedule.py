import numpy as np
import pytest

from hw.compile import compile_network
from hw.config import preset
from hw.network import INPUT, Conv2D, GlobalAveragePool
from hw.schedule import pool_schedule
from tests.hw.machine import Machine
from tests.random_networks import NetworkMaker, random_codes

CONFIG = preset("tiny").replace(list_words=4096, accumulators=1024, accumulator_bits=32)


def direct(layer, activations: np.ndarray) -> np.ndarray:
    """Accumulators by the definition of a convolution: (positions, channels)."""
    if isinstance(layer, GlobalAveragePool):
        return activations.sum(axis=(0, 1))[None]
    weight = layer.weight.astype(np.int64)
    _, height, width, _ = weight.shape
    stride, pads = (layer.stride, layer.pads) if isinstance(layer, Conv2D) else ((1, 1), (0, 0, 0, 0))
    padded = np.pad(activations, (pads[:2], pads[2:], (0, 0)))
    return np.array(
        [
            np.tensordot(weight, padded[y * stride[0] :, x * stride[1] :][:height, :width], axes=3)
            for y in range(layer.output.shape[0])
            for x in range(layer.output.shape[1])
        ]
    )


def assert_first_layer_is_direct(maker: NetworkMaker, seed: int) -> None:
    maker.head("layer0", 3)
    network = maker.network("net")
    program = compile_network(network, CONFIG)
    layer = network.layers[0]
    for codes in random_codes(network, 2, seed):
        activations = codes.astype(np.int64) - network.input.zero_point
        wanted = direct(layer, activations)
        for ran in Machine(program.images, CONFIG).run(codes).layers:
            command = program.commands[ran.index]
            if command.tensor == layer.name:
                first, last = command.channels
                np.testing.assert_array_equal(ran.accumulators[:, : last - first], wanted[:, first:last])
                assert not ran.accumulators[:, last - first :].any()
        assert sum(c.tensor == layer.name for c in program.commands) >= 1


@pytest.mark.parametrize("seed", range(25))
def test_tables_and_lists_make_a_convolution(seed):
    rng = np.random.default_rng(seed)
    kernel = tuple(int(n) for n in rng.integers(1, 5, 2))
    # A stride above the kernel is possible where the kernel is 1.
    stride = tuple(int(rng.integers(1, 4 if k == 1 else min(k, 3) + 1)) for k in kernel)
    pads = tuple(int(rng.integers(0, k)) for k in (kernel[0], kernel[0], kernel[1], kernel[1]))
    size = tuple(int(rng.integers(k, 9)) for k in kernel)
    maker = NetworkMaker(rng, (*size, int(rng.integers(1, 6))))
    maker.conv(INPUT, int(rng.integers(1, 11)), kernel, stride, pads, density=float(rng.choice([0.1, 0.5, 1.0])))
    assert_first_layer_is_direct(maker, seed)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        ((7, 7), (3, 3), (2, 2), (0, 1, 0, 1)),
        ((7, 7), (3, 3), (2, 2), (1, 0, 1, 0)),
        ((8, 5), (3, 2), (3, 1), (2, 0, 0, 1)),
        ((5, 8), (1, 1), (3, 3), (0, 0, 0, 0)),
        ((9, 6), (1, 3), (2, 3), (0, 0, 1, 2)),
        ((1, 1), (3, 3), (1, 1), (1, 1, 1, 1)),
        ((4, 4), (4, 4), (1, 1), (3, 3, 3, 3)),
    ],
)
def test_asymmetric_pads_and_strides(size, kernel, stride, pads):
    maker = NetworkMaker(np.random.default_rng(1), (*size, 3))
    maker.conv(INPUT, 6, kernel, stride, pads, density=0.8)
    assert_first_layer_is_direct(maker, 1)


@pytest.mark.parametrize("shape", [(1, 1, 7), (3, 4, 2), (1, 5, 1), (4, 1, 33)])
def test_linear_layers_cover_a_map(shape):
    maker = NetworkMaker(np.random.default_rng(2), shape)
    maker.linear(INPUT, 9)
    assert_first_layer_is_direct(maker, 2)


@pytest.mark.parametrize("shape", [(2, 1, 3), (4, 3, 5), (3, 3, 40)])
def test_a_global_pool_sums_all_positions(shape):
    maker = NetworkMaker(np.random.default_rng(3), shape)
    maker.pool(INPUT)
    assert_first_layer_is_direct(maker, 3)


def test_a_part_of_a_pool_has_lists_for_its_channels_only():
    schedule = pool_schedule("mean", (2, 2, 12), 4, 11, CONFIG)
    assert schedule.width == schedule.accumulators == 2
    assert [(y, dumps) for y, (_, dumps) in enumerate(schedule.rows)] == [(0, 0), (1, 1)]
    found = {
        (channel, pe): entries.tolist()
        for channel, parts in enumerate(schedule.lists)
        for pe, entries in enumerate(parts)
        if len(entries)
    }
    assert found == {(4 + n, n % 4): [[1, n // 4]] for n in range(7)}
