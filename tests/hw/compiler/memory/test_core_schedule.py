import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.lower import lower
from hw.compiler.memory.core_schedule import ColumnWork, CoreSchedule, RowWork, core_schedule
from hw.compiler.memory.kernel_lists import kernel_lists
from hw.compiler.steps.blocks import blocks_of
from hw.compiler.steps.expansion import CoreTask
from hw.compiler.steps.step import Step
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT, Conv2D, GlobalAveragePool, Linear
from hw.network.pooling import AveragePool2D
from hw.program.tiles import Tile
from tests.hw.machine import Machine, map_words
from tests.random_networks import NetworkMaker, random_codes

ROOMY = preset("tiny").replace(list_words=8192, accumulators=1024, layer_words=4096, accumulator_bits=32)
#: What tables say of lists that aren't split.
WHOLE = {"parts": 0, "skip": 0}
#: Few PEs with several channels each; several cores.
CONFIGS = [ROOMY, ROOMY.replace(cores=4, pes=8), ROOMY.replace(cores=8, pes=2)]


def direct(layer, activations: np.ndarray) -> np.ndarray:
    """Accumulators by the definition of a convolution: (height, width, channels)."""
    height, width, channels = layer.output.shape
    if isinstance(layer, GlobalAveragePool):
        return activations.sum(axis=(0, 1), keepdims=True)
    if isinstance(layer, AveragePool2D):
        weight, stride, pads = np.ones((channels, *layer.window, 1), dtype=np.int64), layer.stride, (0, 0, 0, 0)
    else:
        weight = layer.weight.astype(np.int64)
        stride, pads = ((1, 1), (0, 0, 0, 0)) if isinstance(layer, Linear) else (layer.stride, layer.pads)
    padded = np.pad(activations, (pads[:2], pads[2:], (0, 0)))
    sums = np.zeros(layer.output.shape, dtype=np.int64)
    for y, x in np.ndindex(height, width):
        window = padded[y * stride[0] :, x * stride[1] :][: weight.shape[1], : weight.shape[2]]
        if isinstance(layer, Conv2D | Linear):
            sums[y, x] = np.tensordot(weight, window, axes=3)
        else:
            sums[y, x] = (weight[..., 0] * window.transpose(2, 0, 1)).sum(axis=(1, 2))
    return sums


def assert_first_layer_is_direct(maker: NetworkMaker, seed: int, config: AcceleratorConfig = ROOMY) -> None:
    maker.head("layer0", 3)
    network = maker.network("net")
    program = compile_network(network, config)
    layer = network.layers[0]
    for codes in random_codes(network, 2, seed):
        wanted = map_words(direct(layer, codes.astype(np.int64) - network.input.zero_point))
        numbers = []
        for ran in Machine(program.images, config).run(codes).layers:
            if program.commands[ran.index].tensor == layer.name:
                np.testing.assert_array_equal(ran.accumulators, wanted[ran.numbers])
                numbers += ran.numbers.tolist()
        assert sorted(numbers) == list(range(len(wanted)))


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
    assert_first_layer_is_direct(maker, seed, CONFIGS[seed % 3])


@pytest.mark.parametrize("config", CONFIGS, ids=["one core", "four cores", "eight cores"])
@pytest.mark.parametrize("seed", range(5))
def test_tables_and_lists_make_a_depthwise_convolution(seed, config):
    rng = np.random.default_rng(seed)
    maker = NetworkMaker(rng, (*(int(n) for n in rng.integers(3, 9, 2)), int(rng.integers(1, 30))))
    maker.random_depthwise(INPUT, density=float(rng.choice([0.3, 1.0])))
    assert_first_layer_is_direct(maker, seed, config)


@pytest.mark.parametrize("config", CONFIGS, ids=["one core", "four cores", "eight cores"])
@pytest.mark.parametrize(
    ("window", "stride"), [((2, 2), (2, 2)), ((3, 1), (1, 1)), ((2, 3), (1, 2)), ((1, 2), (3, 3)), ((2, 2), (3, 4))]
)
def test_tables_and_lists_make_an_average_pool(window, stride, config):
    maker = NetworkMaker(np.random.default_rng(4), (7, 9, 19))
    maker.average_pool(INPUT, window, stride)
    assert_first_layer_is_direct(maker, 4, config)


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
@pytest.mark.parametrize("config", CONFIGS, ids=["one core", "four cores", "eight cores"])
def test_a_global_pool_sums_all_positions(shape, config):
    maker = NetworkMaker(np.random.default_rng(3), shape)
    maker.pool(INPUT)
    assert_first_layer_is_direct(maker, 3, config)


def only_step(maker: NetworkMaker) -> Step:
    """The first step of a network."""
    maker.head("layer0", 3)
    return lower(maker.network("net")).steps[0]


def work_of(
    step: Step, rows: tuple[int, int], channels: tuple[int, int], *, merged: bool = False, config=ROOMY
) -> CoreSchedule:
    kernel, tile = step.kernel, Tile(0, rows, (channels[0] // 8, -(-channels[1] // 8)))
    top = 0 if kernel.global_pool else kernel.reads(*rows)[0]
    task = CoreTask(tile, channels, top, kernel, rows, blocks_of(kernel, rows, merged))
    inputs = 0, step.source.shape[2]
    return core_schedule(step, task, inputs, False, kernel_lists(task, inputs, config), config)


def test_a_part_of_a_pool_has_lists_for_its_channels_only():
    maker = NetworkMaker(np.random.default_rng(0), (2, 3, 20))
    maker.pool(INPUT)
    work = work_of(only_step(maker), (0, 1), (8, 20))
    assert (work.words, work.top, work.channels, work.blank_rows) == ((1, 3), 0, 4, 0)
    assert work.width == work.dump_length == 4
    assert work.depthwise
    assert work.rows == (RowWork(0, 0, 1, False), RowWork(0, 0, 1, True))
    assert work.columns == (ColumnWork(0, 0, 0), ColumnWork(0, 0, 0), ColumnWork(0, 0, 1))
    found = {
        (group, pe): entries.tolist()
        for group, parts in enumerate(work.lists.entries)
        for pe, entries in enumerate(parts)
        if len(entries)
    }
    assert found == {(n // 4, n % 4): [[1, n // 4]] for n in range(12)}


def test_a_band_walks_its_rows_and_leaves_out_kernel_rows_of_others():
    maker = NetworkMaker(np.random.default_rng(0), (9, 3, 1))
    maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1))
    work = work_of(only_step(maker), (3, 5), (0, 8))
    assert (work.top, work.dump_length, work.width, work.blank_rows) == (2, 2, 6, 0)
    # Input row 2 reaches output 3 by its first kernel row; row 4 ends it, and row 5 output 4, by the last one.
    assert work.rows == (
        RowWork(0, 0, 1, False),
        RowWork(0, 1, 2, False),
        RowWork(1, 1, 2, True),
        RowWork(2, 1, 1, True),
    )
    assert work.row_fields(1024) == [
        {"list": 0, "accumulator": 0, "count": 1, "final": 0, **WHOLE},
        {"list": 0, "accumulator": 6, "count": 2, "final": 0, **WHOLE},
        {"list": 1, "accumulator": 6, "count": 2, "final": 1, **WHOLE},
        {"list": 2, "accumulator": 6, "count": 1, "final": 1, **WHOLE},
    ]
    assert [row["accumulator"] for row in work.row_fields(4)] == [0, 2, 2, 2]


def test_merged_lists_hold_the_kernel_rows_that_meet_a_row():
    maker = NetworkMaker(np.random.default_rng(0), (9, 3, 1))
    maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1))
    step = only_step(maker)
    # At the top of the map the block begins above it: it is a part of that of the rows between.
    top, middle, bottom = ((0, 2), (1, 1)), ((0, 2), (1, 1), (2, 0)), ((1, 1), (2, 0))
    assert blocks_of(step.kernel, (0, 9), True) == (top, middle, bottom)
    work = work_of(step, (0, 9), (0, 8), merged=True)
    assert work.rows == (
        RowWork(0, -1, 1, False),
        *(RowWork(1, row - 1, 1, True) for row in range(1, 8)),
        RowWork(2, 7, 1, True),
        RowWork(0, 0, 0, True),
    )
    assert work.blank_rows == 1
    assert [row["accumulator"] for row in work.row_fields(1024)][:3] == [1024 - 6, 0, 6]


def products(work: CoreSchedule, x: int, y: int, config: AcceleratorConfig) -> list[list[tuple[int, int]]]:
    """Accumulator and weight of every product of an activation, for each channel and PE in turn."""
    row, number, right = work.rows[y], work.columns[x].number, work.columns[x].output
    found = []
    for channel in range(work.channels):
        for pe in range(config.pes):
            made = []
            for k in range(row.count):
                place = (number * work.blocks + row.block + k * work.block_step) * work.channels + channel
                start = (row.output - k) * work.width + right * work.dump_length
                entries = work.lists.entries[place][pe].tolist()
                made += [((start + offset) % config.accumulators, weight) for weight, offset in entries]
            found.append(sorted(made))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_merged_lists_make_the_products_of_single_ones(seed):
    """Whatever the kernel, stride, pads and band; and with one list for an activation."""
    rng = np.random.default_rng(seed)
    kernel = tuple(int(n) for n in rng.integers(1, 6, 2))
    stride = tuple(int(n) for n in rng.integers(1, 4, 2))
    pads = tuple(int(rng.integers(0, k)) for k in (kernel[0], kernel[0], kernel[1], kernel[1]))
    maker = NetworkMaker(rng, (*(int(rng.integers(k, 9)) for k in kernel), 9))
    if seed % 4 == 3:
        maker.depthwise(INPUT, kernel, stride, pads)
    else:
        maker.conv(INPUT, 9, kernel, stride, pads, density=0.4)
    step = only_step(maker)
    first = int(rng.integers(step.result.output.shape[0]))
    rows, channels = (first, int(rng.integers(first, step.result.output.shape[0])) + 1), ((0, 9), (8, 9))[seed % 2]
    config = ROOMY.replace(pes=(2, 4, 8)[seed % 3])
    single, merged = (work_of(step, rows, channels, merged=merged, config=config) for merged in (False, True))
    assert [row.final for row in merged.rows] == [row.final for row in single.rows]
    assert (merged.blank_rows, merged.columns) == (single.blank_rows, single.columns)
    assert all(row.count == (y < len(merged.rows) - merged.blank_rows) for y, row in enumerate(merged.rows))
    for y, x in np.ndindex(len(single.rows), len(single.columns)):
        assert products(merged, x, y, config) == products(single, x, y, config)


def test_columns_before_the_first_accumulator_begin_near_the_last():
    maker = NetworkMaker(np.random.default_rng(0), (3, 4, 2))
    maker.conv(INPUT, 8, (1, 3), pads=(0, 0, 1, 1))
    work = work_of(only_step(maker), (0, 3), (0, 8))
    assert work.columns == tuple(ColumnWork(*each) for each in ((0, -1, 0), (1, 0, 1), (1, 1, 1), (2, 2, 2)))
    assert work.column_fields(1024) == [
        {"list": 0, "accumulator": 1022, "dumps": 0, **WHOLE},
        {"list": 2, "accumulator": 0, "dumps": 1, **WHOLE},
        {"list": 2, "accumulator": 2, "dumps": 1, **WHOLE},
        {"list": 4, "accumulator": 4, "dumps": 2, **WHOLE},
    ]


def test_the_longest_time_is_that_of_one_product_after_the_other():
    maker = NetworkMaker(np.random.default_rng(0), (2, 3, 9))
    maker.conv(INPUT, 8, (1, 1), density=0.5)
    work = work_of(only_step(maker), (0, 2), (0, 8))
    busiest = sum(max(len(part) for part in parts) for parts in work.lists.entries)
    # A row: 3 positions of 2 words, 9 channels, their products and a dump of 2 accumulators; its table entry.
    assert work.serial_cycles(48) == 2 * (3 * (2 + 9 + busiest + 1 + 2) + 1) + 2 * 48
