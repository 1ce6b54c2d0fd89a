import numpy as np
import pytest

from hw.compile import compile_network
from hw.config import AcceleratorConfig
from hw.estimate import COMMAND_CYCLES, Need, estimate, need
from hw.network import INPUT
from hw.partition import Partition
from hw.steps import Step, steps_of
from sim.simulate import simulate
from tests.random_networks import NetworkMaker

CONFIG = AcceleratorConfig(cores=4, list_words=8192, accumulators=1024, layer_words=4096, activation_words=4096)


def first_step(maker: NetworkMaker) -> Step:
    maker.head("layer0", 3)
    return steps_of(maker.network("net"))[0]


def conv(size: int, depth: int, channels: int, density: float = 1.0) -> Step:
    maker = NetworkMaker(np.random.default_rng(0), (size, size, depth))
    maker.conv(INPUT, channels, (3, 3), pads=(1, 1, 1, 1), density=density)
    return first_step(maker)


def test_what_a_partition_needs_of_a_pe():
    step = conv(6, 2, 24)
    # Three live rows of six positions with three channels each; lists of three columns and three channels.
    assert need(step, Partition(1, 1), CONFIG).accumulators == 3 * 6 * 3
    assert need(step, Partition(4, 1), CONFIG).accumulators == 2 * 6 * 3
    assert need(step, Partition(1, 2), CONFIG).accumulators == 3 * 6 * 2
    assert need(step, Partition(1, 1, 3), CONFIG).accumulators == 3 * 6
    kept = np.abs(step.kernel.weight).any(axis=(1, 2, 3))
    busiest = max(int(kept[pe::8].sum()) for pe in range(8))
    assert need(step, Partition(1, 1), CONFIG).longest <= 3 * busiest
    assert Need(1024, 31).fits(CONFIG)
    assert not Need(1025, 31).fits(CONFIG)
    assert not Need(1024, 32).fits(CONFIG)


def test_a_pointwise_convolution_by_hand():
    """Two rows of three positions of one word: half of its 8 channels are expected, one weight in each PE for each."""
    maker = NetworkMaker(np.random.default_rng(0), (2, 3, 8))
    maker.conv(INPUT, 16, (1, 1))
    step = first_step(maker)
    step.kernel.weight[:] = 0
    step.kernel.weight[:8] = 1
    whole, halves = (estimate(step, Partition(*split), 0.5, CONFIG) for split in ((1, 1), (1, 2)))
    slots = 2 + 2 + 3 * 2 * (8 * 0.5 + 0.5**8)
    products, dumps = 2 * 3 * 8 * 0.5, 2 * 3 * 2
    assert whole.work[0].tolist() == [max(slots, products + dumps), 0, 0, 0]
    assert whole.lane[0, 0] == 2 * 3 * 16
    assert whole.tail[0, 0] == 3 * 16
    assert whole.pointers.tolist() == [8, 0, 0, 0]
    assert whole.entries.tolist() == [[8] * 8, *[[0] * 8] * 3]
    assert whole.channels.tolist() == [16, 0, 0, 0]
    assert halves.channels.tolist() == [8, 8, 0, 0]
    # The second group has no weights: its dispatcher counts.
    assert halves.work[0].tolist() == [max(slots, products + dumps / 2), slots, 0, 0]
    assert halves.entries.tolist() == [[8] * 8, *[[0] * 8] * 3]
    assert whole.cycles(False) == 2 * 3 * 16 + COMMAND_CYCLES
    assert whole.cycles(True) == 2 * 2 * 3 * 16 + COMMAND_CYCLES


@pytest.mark.parametrize("kind", ["conv", "strided", "depthwise", "pool", "narrow", "linear"])
def test_list_words_are_those_of_the_program(kind):
    maker = NetworkMaker(np.random.default_rng(1), (2, 2, 10) if kind == "narrow" else (8, 9, 10))
    if kind == "depthwise":
        maker.depthwise(INPUT, (3, 3), pads=(1, 1, 1, 1), density=0.6)
    elif kind == "pool":
        maker.pool(INPUT)
    elif kind == "linear":
        maker.linear(INPUT, 20)
    else:
        stride = (2, 2) if kind == "strided" else (1, 1)
        maker.conv(INPUT, 20, (3, 3), stride, pads=(1, 1, 1, 1), density=0.6)
    maker.head("layer0", 3)
    network = maker.network("net")
    config = CONFIG.replace(cores=1)
    program = compile_network(network, config)
    costs = [estimate(step, Partition(1, 1), 0.5, config) for step in steps_of(network)]
    pointers = sum(int(cost.pointers[0]) for cost in costs)
    entries = sum(cost.entries[0] for cost in costs)
    found = program.images["lists"].shape[1]
    # Short lists that are part of others by chance are stored once.
    assert pointers + entries.max() * 0.75 <= found <= pointers + entries.max()


@pytest.mark.parametrize("partition", [(1, 1), (1, 2), (2, 1), (4, 1), (2, 2)])
@pytest.mark.parametrize("density", [0.15, 1.0])
def test_cycles_are_near_those_of_the_simulator(partition, density):
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
    program = compile_network(network, config, {INPUT: share})
    chosen = Partition(program.commands[0].bands, program.commands[0].groups)
    step = steps_of(network)[0]
    found = simulate(program, codes).layer_cycles[:, 0].mean()
    assert estimate(step, chosen, share, config).cycles(False) == pytest.approx(found, rel=0.2)
