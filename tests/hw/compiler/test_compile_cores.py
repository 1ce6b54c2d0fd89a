"""Programs of several cores, executed in plain Python, give what the golden model gives."""

from itertools import product

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT
from hw.program.isa import Opcode
from tests.hw.equality import assert_equals_golden
from tests.hw.partitions import only
from tests.large_machine import LARGE
from tests.random_networks import NetworkMaker, random_codes, random_network

CONFIGS = list(product((1, 2, 4, 8), (2, 4, 8), (1, 2)))


def roomy(cores, pes, lanes):
    sizes = {"list_words": 8192, "accumulators": 1024, "layer_words": 4096, "accumulator_bits": 32}
    return AcceleratorConfig(cores=cores, pes=pes, lanes=lanes, **sizes)


def cores_at_work(program):
    return [
        sum(core.enable for core in instruction.cores)
        for instruction in program.decoded.instructions
        if instruction.op is Opcode.LAYER
    ]


def lists_of_an_activation(program):
    """The most that any has."""
    return max(row.count for i in program.decoded.instructions for core in i.cores for row in core.rows)


def some(numbers, quick):
    """Cases of which some are quick."""
    return [number if number in quick else pytest.param(number, marks=pytest.mark.slow) for number in numbers]


@pytest.mark.parametrize("number", some(range(2 * len(CONFIGS)), range(0, len(CONFIGS))))
def test_random_networks_equal_the_golden_model(number):
    network = random_network(3000 + number)
    program = compile_network(network, roomy(*CONFIGS[number % len(CONFIGS)]))
    assert_equals_golden(program, random_codes(network, 2, number))


@pytest.mark.parametrize("merged", [False, True], ids=["single", "merged"])
@pytest.mark.parametrize("number", some(range(4, len(CONFIGS), 3), (4, 10, 19)))
def test_lists_of_one_kernel_row_or_several_equal_the_golden_model(number, merged, monkeypatch):
    network = random_network(5000 + number)
    only(monkeypatch, merged=merged)
    program = compile_network(network, roomy(*CONFIGS[number]))
    assert not merged or lists_of_an_activation(program) == 1
    assert_equals_golden(program, random_codes(network, 2, number))


@pytest.mark.parametrize("merged", [False, True], ids=["single", "merged"])
@pytest.mark.parametrize(
    ("cores", "pes", "lanes"), [(1, 4, 1), pytest.param(2, 8, 2, marks=pytest.mark.slow), (8, 4, 2)]
)
def test_lists_of_tall_kernels_equal_the_golden_model(cores, pes, lanes, merged, monkeypatch):
    maker = NetworkMaker(np.random.default_rng(6), (19, 4, 2))
    here = maker.conv(INPUT, 12, (10, 4), (2, 2), pads=(4, 5, 1, 1), density=0.5)
    here = maker.depthwise(here, (5, 3), (1, 1), (2, 2, 1, 1), density=0.7)
    here = maker.conv(here, 8, (4, 1), (3, 1), pads=(2, 1, 0, 0), density=0.5)
    maker.head(maker.pool(here), 3)
    network = maker.network("net")
    only(monkeypatch, merged=merged)
    program = compile_network(network, roomy(cores, pes, lanes))
    # In eight bands an output row or two: not all of the five kernel rows of a phase are live.
    assert lists_of_an_activation(program) == (1 if merged else 3 if cores == 8 else 5)
    assert_equals_golden(program, random_codes(network, 2, 0))


@pytest.mark.parametrize("name", some(["tiny", "single", "small", "base-85f", LARGE], ["tiny", "small"]))
def test_presets_equal_the_golden_model(name):
    maker = NetworkMaker(np.random.default_rng(1), (12, 10, 3))
    here = maker.conv(INPUT, 16, (3, 3), pads=(1, 1, 1, 1), density=0.3)
    here = maker.block(here, density=0.2)
    here = maker.depthwise(here, (3, 3), (2, 2), (1, 1, 1, 1), density=0.8)
    maker.head(maker.pool(here), 5, 100)
    here = maker.conv(here, 24, (1, 1), density=0.3)
    maker.head(maker.pool(here), 5)
    network = maker.network("net")
    program = compile_network(network, preset(name).replace(accumulator_bits=32))
    assert max(cores_at_work(program)) == preset(name).cores
    assert_equals_golden(program, random_codes(network, 2, 0))


@pytest.mark.parametrize(
    ("cores", "pes", "lanes"),
    [(4, 8, 1), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((1, 8, 1), (2, 4, 2), (8, 2, 2)))],
)
def test_commands_of_a_part_of_the_channels(cores, pes, lanes, monkeypatch):
    """The accumulators don't hold all channels of a row."""
    only(monkeypatch, column_major=False)
    maker = NetworkMaker(np.random.default_rng(2), (5, 9, 2))
    here = maker.conv(INPUT, 72, (3, 3), pads=(1, 1, 1, 1), density=0.2)
    here = maker.depthwise(here, (3, 3), (1, 1), (1, 1, 1, 1), density=0.7)
    here = maker.conv(here, 9, (1, 1), density=0.3)
    maker.head(maker.pool(here), 3)
    network = maker.network("net")
    # Of a row of nine positions, three rows at a time, a PE has room for one word of channels, or for two.
    config = roomy(cores, pes, lanes).replace(accumulators=max(64, 256 // pes))
    program = compile_network(network, config)
    assert any("[" in command.name for command in program.commands)
    assert_equals_golden(program, random_codes(network, 2, 3))
