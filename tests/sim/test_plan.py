"""What a program makes the simulator's kernel do, read off its instructions."""

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import WORD_CHANNELS, preset
from hw.network.network import Select
from hw.program.isa import Opcode
from hw.program.list_memory import unpack_pointers
from hw.program.program import Program
from sim.plan import Plan
from sim.timing import (
    BEGIN,
    DECISION_CYCLES,
    DESCRIPTION_CYCLES,
    FETCH_CYCLES,
    LANE_LATENCY,
    LAYER_CYCLES,
    RAW_LATENCY,
    RESIDUAL_LATENCY,
    flush_cycles,
)
from sim.vector import WIDTH
from tests.hw.networks import runnable

CONFIG = preset("tiny").replace(cores=2, accumulator_bits=32)


@pytest.fixture(scope="module")
def program() -> Program:
    """A stem, an early head, a residual block, a pool and a head, in two cores."""
    return compile_network(runnable({"stem": {"select": Select(kind="elements", count=7)}}), CONFIG)


@pytest.fixture(scope="module")
def plan(program) -> Plan:
    return Plan(program)


def test_every_layer_is_planned_with_the_map_that_it_reads(program, plan):
    assert len(plan.layers) == len(program.commands)
    wanted = [program.network.layer(command.layer).inputs[0] for command in program.commands]
    assert [layer.source for layer in plan.layers] == wanted


def test_parts_are_the_cores_that_work_and_their_tables(program, plan):
    for instruction, layer in zip(program.decoded.layers, plan.layers, strict=True):
        assert layer.working[:, 0].tolist() == [*instruction.working]
        for (_, first, end, left, right), core in zip(layer.working, instruction.working.values(), strict=True):
            filled = len(core.rows) - core.source.blank_rows
            assert layer.rows[first:end].tolist() == [
                [row.list, row.count, row.final, y < filled] for y, row in enumerate(core.rows)
            ]
            assert layer.columns[left:right].tolist() == [[column.list, column.dumps] for column in core.columns]


def test_a_walk_begins_where_the_map_does_whatever_is_kept_of_it(program, plan):
    """The second core keeps the lower rows of the image only: it begins at their number, not at 0."""
    stem, windows = program.decoded.layers[0], program.decoded.windows
    firsts = plan.layers[0].walk[:, 0] // WORD_CHANNELS
    assert firsts.tolist() == [
        core.source.base - windows[number].base + windows[number].low for number, core in stem.working.items()
    ]
    assert firsts[0] == 0
    assert firsts[1] >= windows[1].low > 0


def test_counts_are_those_of_the_pointers(program, plan):
    (core,) = (core for core in program.decoded.layers[0].cores[:1])
    starts, counts = unpack_pointers(program.images["lists"][: CONFIG.pes].astype(np.int64), CONFIG)
    assert starts.any()
    first = core.source.first_list
    planned = plan.layers[0].counts.reshape(CONFIG.cores, -1, WIDTH)
    assert planned[0, : 2 * WORD_CHANNELS, : CONFIG.pes].tolist() == counts[:, first : first + 16].T.tolist()
    assert not planned[:, :, CONFIG.pes :].any()


def test_latency_is_that_of_what_the_lanes_do(program, plan):
    flush = flush_cycles(CONFIG, True)
    wanted = []
    for instruction in program.decoded.layers:
        core = instruction.cores[0]
        own = RESIDUAL_LATENCY if core.residual.enable else LANE_LATENCY
        wanted.append((RAW_LATENCY + CONFIG.lanes - 1 if core.lane.raw else own) + 1 + flush + BEGIN)
    assert [layer.latency for layer in plan.layers] == wanted
    assert len(set(wanted)) == 3


def test_instructions_behind_a_layer_or_a_selection_are_there_already(program, plan):
    operations = [instruction.op for instruction in program.decoded.instructions]
    assert operations[:4] == [Opcode.SELECT, Opcode.LAYER, Opcode.LAYER, Opcode.BRANCH]
    assert plan.fetch[:4] == [FETCH_CYCLES, 0, 0, 0]
    assert plan.control[:4] == [LAYER_CYCLES + DESCRIPTION_CYCLES, LAYER_CYCLES, LAYER_CYCLES, DECISION_CYCLES]
    assert plan.fetch[4] == FETCH_CYCLES  # behind a decision
    assert [cycles > 0 for cycles in plan.selecting] == [op is Opcode.SELECT for op in operations]
