import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.lower import lower
from hw.compiler.memory.core_schedule import core_schedule
from hw.compiler.memory.kernel_lists import kernel_lists
from hw.compiler.memory.sparse import ListStore
from hw.compiler.search.estimate import COMMAND_CYCLES, Estimate, estimate
from hw.compiler.steps.expansion import expand_step
from hw.compiler.steps.partition import Partition
from hw.compiler.steps.step import Step
from hw.config import AcceleratorConfig
from hw.network.network import INPUT
from sim.simulate import simulate
from tests.hw.partitions import only
from tests.random_networks import NetworkMaker

CONFIG = AcceleratorConfig(cores=4, list_words=8192, accumulators=1024, layer_words=4096, activation_words=4096)


def first_step(maker: NetworkMaker) -> Step:
    maker.head("layer0", 3)
    return lower(maker.network("net")).steps[0]


def conv(size: int, depth: int, channels: int, density: float = 1.0) -> Step:
    maker = NetworkMaker(np.random.default_rng(0), (size, size, depth))
    maker.conv(INPUT, channels, (3, 3), pads=(1, 1, 1, 1), density=density)
    return first_step(maker)


def cost_of(step: Step, partition: Partition, density: float, config: AcceleratorConfig = CONFIG) -> Estimate:
    return estimate(expand_step(step, partition, config), density, config)


def test_a_pointwise_convolution_by_hand():
    """Two rows of three positions of one word: half of its 8 channels are expected, one weight in each PE for each."""
    maker = NetworkMaker(np.random.default_rng(0), (2, 3, 8))
    maker.conv(INPUT, 16, (1, 1))
    step = first_step(maker)
    step.kernel.weight[:] = 0
    step.kernel.weight[:8] = 1
    whole, halves = (cost_of(step, Partition(*split), 0.5) for split in ((1, 1), (1, 2)))
    # A row's table entry and three dumps.
    slots = 2 * (1 + 3) + 3 * 2 * (8 * 0.5 + 0.5**8)
    products, dumps = 2 * 3 * 8 * 0.5, 2 * 3 * 2
    # The lanes are slowest, and have a position's channels left in the end.
    lane = 2 * 3 * 16
    assert max(slots, products + dumps) < lane
    assert whole.work[0, :, 0].tolist() == pytest.approx([lane + 16, 0, 0, 0], rel=0.01)
    assert whole.work[0, :, 1].tolist() == pytest.approx([2 * (lane + 16), 0, 0, 0], rel=0.01)
    assert whole.pointers.tolist() == [[8, 0, 0, 0]]
    assert whole.entries.tolist() == [[[8] * 8, *[[0] * 8] * 3]]
    assert whole.channels.tolist() == [16, 0, 0, 0]
    assert halves.channels.tolist() == [8, 8, 0, 0]
    # The second group has no weights: its dispatcher counts, or its lanes.
    assert halves.work[0, :, 0].tolist() == pytest.approx([lane / 2 + 8, max(slots, lane / 2), 0, 0], rel=0.02)
    assert halves.entries.tolist() == [[[8] * 8, *[[0] * 8] * 3]]
    assert whole.cycles(False) == (whole.work[0, 0, 0] + COMMAND_CYCLES,)
    assert whole.cycles(True) == (whole.work[0, 0, 1] + COMMAND_CYCLES,)


def test_lanes_of_a_column_major_walk_have_work_earlier():
    """A band of two rows: row by row, nothing is final before half of the products are made."""
    step = conv(16, 16, 16)
    config = CONFIG.replace(cores=8)
    assert cost_of(step, Partition(8, 1, merged=True, column_major=True), 0.2, config).cycles(True) < (
        cost_of(step, Partition(8, 1, merged=True), 0.2, config).cycles(True)
    )
    # With most products, both take the PEs' time.
    by_rows, by_columns = (
        cost_of(step, Partition(8, 1, merged=True, column_major=column_major), 1.0, config).cycles(False)[0]
        for column_major in (False, True)
    )
    assert by_columns == pytest.approx(by_rows, rel=0.05)


def packed(step: Step, merged: bool, config: AcceleratorConfig) -> tuple[int, list[int]]:
    """Pointers, and words of entries in each PE, of the lists of a step in one core."""
    expansion = expand_step(step, Partition(1, 1, merged=merged), config)
    ((task,), inputs), store = next(expansion.layers()), ListStore(config)
    lists = kernel_lists(task, inputs, config)
    pointers = core_schedule(step, task, inputs, False, lists, config).add_lists(store) + len(store)
    return pointers, [len(words) - pointers for words in store.pack()]


@pytest.mark.parametrize("merged", [False, True], ids=["single", "merged"])
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "pads"),
    [
        ((8, 9, 3), (3, 3), (1, 1), (1, 1, 1, 1)),
        ((8, 9, 3), (3, 3), (2, 2), (0, 1, 0, 1)),
        ((8, 9, 3), (3, 3), (2, 2), (1, 0, 1, 1)),
        ((9, 8, 2), (5, 4), (2, 1), (2, 2, 1, 2)),
        ((9, 9, 2), (4, 5), (3, 2), (3, 0, 2, 2)),
        ((2, 2, 4), (3, 3), (1, 1), (1, 1, 1, 1)),
        ((3, 4, 5), (2, 2), (3, 3), (0, 0, 0, 0)),
        ((4, 5, 9), (1, 1), (1, 1), (0, 0, 0, 0)),
    ],
)
def test_list_words_are_those_of_the_packed_lists(shape, kernel, stride, pads, merged):
    """Exactly, with weights none of which is zero and of which no two in a PE are equal in channel and tap."""
    config = CONFIG.replace(pes=4, list_words=2048)
    maker = NetworkMaker(np.random.default_rng(0), shape)
    maker.conv(INPUT, 20, kernel, stride, pads, density=1.0)
    step = first_step(maker)
    values = np.array([value for value in range(-128, 128) if value])
    weight = np.random.default_rng(1).permutation(np.resize(values, step.kernel.weight.size))
    inside = step.kernel.weight.reshape(-1) != 0
    step.kernel.weight.reshape(-1)[:] = np.where(inside, weight, 0)
    cost = cost_of(step, Partition(1, 1, merged=merged), 0.5, config)
    pointers, entries = packed(step, merged, config)
    assert (cost.pointers[0, 0], cost.entries[0, 0].tolist()) == (pointers, entries)


@pytest.mark.parametrize("merged", [False, True], ids=["single", "merged"])
@pytest.mark.parametrize("kind", ["sparse", "depthwise", "pool", "average", "maximum", "linear"])
def test_list_words_are_nearly_those_of_lists_that_are_equal_by_chance(kind, merged):
    maker = NetworkMaker(np.random.default_rng(1), (8, 9, 10))
    make = {
        "sparse": lambda: maker.conv(INPUT, 40, (3, 3), pads=(1, 1, 1, 1), density=0.4),
        "depthwise": lambda: maker.depthwise(INPUT, (3, 3), pads=(1, 1, 1, 1), density=0.6),
        "pool": lambda: maker.pool(INPUT),
        "average": lambda: maker.average_pool(INPUT, (2, 3), (1, 1)),
        "maximum": lambda: maker.max_pool(INPUT, (2, 3), (1, 1), (1, 1, 0, 2)),
        "linear": lambda: maker.linear(INPUT, 20),
    }
    make[kind]()
    step = first_step(maker)
    cost = cost_of(step, Partition(1, 1, merged=merged), 0.5)
    pointers, entries = packed(step, merged, CONFIG)
    assert cost.pointers[0, 0] == pointers
    assert all(found <= expected for found, expected in zip(entries, cost.entries[0, 0].tolist(), strict=True))
    # The weights of pools are all the same.
    if kind not in ("pool", "average", "maximum"):
        assert pointers + max(entries) >= 0.85 * (pointers + cost.entries[0, 0].max())


#: All of them: every pair of choices is met.
CHOICES = [
    (partition, density, merged, column_major)
    for column_major in (False, True)
    for merged in (False, True)
    for density in (0.15, 1.0)
    for partition in ((1, 1), (1, 2), (2, 1), (4, 1), (2, 2))
]


@pytest.mark.parametrize(
    ("partition", "density", "merged", "column_major"),
    [choice if n % 3 == 0 else pytest.param(*choice, marks=pytest.mark.slow) for n, choice in enumerate(CHOICES)],
)
def test_cycles_are_near_those_of_the_simulator(partition, density, merged, column_major, monkeypatch):
    """Near enough to choose by: the estimate knows neither queues nor where the zeros lie."""
    maker = NetworkMaker(np.random.default_rng(3), (16, 16, 16))
    maker.conv(INPUT, 16, (3, 3), pads=(1, 1, 1, 1), density=density)
    maker.head(maker.pool("layer0"), 3)
    network = maker.network("net")
    rng = np.random.default_rng(0)
    codes = rng.integers(-128, 128, (4, 16, 16, 16))
    codes = np.where(rng.random(codes.shape) < 0.5, codes, network.input.zero_point).astype(np.int8)
    config = CONFIG.replace(cores=partition[0] * partition[1])
    share = float((codes != network.input.zero_point).mean())
    only(monkeypatch, merged=merged, column_major=column_major)
    program = compile_network(network, config, {INPUT: share})
    chosen = Partition(program.commands[0].bands, program.commands[0].groups, merged=merged, column_major=column_major)
    step = lower(network).steps[0]
    found = simulate(program, codes).layer_cycles[:, 0].mean()
    assert sum(cost_of(step, chosen, share, config).cycles(False)) == pytest.approx(found, rel=0.2)


def test_a_busy_band_is_denser_the_denser_the_map():
    """However dense a map is, its busiest band isn't expected to be full unless all of it is."""
    step = conv(16, 16, 16)
    eight = AcceleratorConfig(cores=8, list_words=8192, accumulators=1024)
    cycles = [cost_of(step, Partition(8, 1), density, eight).cycles(False)[0] for density in (0.7, 0.8, 0.9, 1.0)]
    assert cycles == sorted(set(cycles))
