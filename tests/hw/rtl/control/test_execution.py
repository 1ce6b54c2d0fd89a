"""Instructions of a run from the first to the decision that ends it, in the sequencer that executes them."""

from collections import Counter

import numpy as np
import pytest

from hw.network.exits import Conditions, Decisions
from hw.program.bits import decode, words_of
from hw.program.isa import LayerDescription, Opcode
from hw.program.protocol import ErrorCode, LayerRecord, Reply, RunResult
from hw.rtl.control.sequencer import Sequencer
from hw.rtl.fetcher import Fetcher
from tests.hw.sequencer_bench import (
    FETCHED,
    NO_FLAGS,
    REPORT,
    STEP,
    Cores,
    Records,
    Surroundings,
    prepare,
    random_program,
    run,
    spent,
    unpack,
)
from tests.hw.simulate import Bench, reused, simulate


def test_a_deadline_forces_the_first_exit_after_it(tmp_path):
    def build(rng):
        program = random_program(rng)
        dut = reused(Surroundings, 2)
        core, records = Cores(rng, dut.sequencer, 2), Records(rng, dut.sequencer, 0.5)

        async def drive(ctx):
            await prepare(ctx, dut.sequencer, program)
            threshold = program.exits[0].threshold
            span = 50
            near = FETCHED + Sequencer.LAYER_CYCLES + span + 2
            for deadline in (0, 1, 40, *range(near - 4, near + 4), near + 40, (1 << 32) - 1):
                for margin in (threshold - 1, threshold):
                    ctx.set(dut.sequencer.head.margin, margin)
                    records.found.clear()
                    core.counters.clear()
                    core.spans = [span]
                    await run(ctx, rng, dut.sequencer, program, NO_FLAGS, Conditions(deadline=deadline))
                    core.spans.clear()
                    at_branch = FETCHED + Sequencer.LAYER_CYCLES + core.counters[0][0]
                    assert at_branch == near
                    wants, expired = margin >= threshold, 0 < deadline < at_branch
                    (record,) = records.found
                    found = decode(RunResult, unpack(record[3], words_of(RunResult)))
                    assert (found["exit"], found["forced"]) == (int(not (wants or expired)), expired and not wants)

        return Bench(
            dut=dut, testbenches=[drive], background=[core.act, records.act], memories={dut.program: program.words}
        )

    simulate(build, seed=1, folder=tmp_path)


def test_runs_go_on_past_an_exit_when_audited_or_in_constant_time(tmp_path):
    """Against the rule as :mod:`hw.network.exits` has it, with margins and classes of each head drawn anew."""

    def build(rng):
        program = random_program(rng)
        dut = reused(Surroundings, 2)
        core, records = Cores(rng, dut.sequencer, 2), Records(rng, dut.sequencer, 0.8)
        seen = Counter()

        async def drive(ctx):
            await prepare(ctx, dut.sequencer, program)
            early, last = program.exits
            for _ in range(50):
                constant = rng.random() < 0.4
                deadline = rng.randint(50, 400) if constant else rng.choice((0, 0, rng.randint(50, 90)))
                audit, seed = rng.choice((0, 128, 256)), rng.randrange(1 << 16)
                conditions = Conditions(deadline=deadline, audit=audit, seed=seed, constant=constant)
                margins = [early.threshold - rng.randrange(2), rng.choice((last.low, last.high + 1)) % (1 << 32)]
                labels = [rng.randrange(2), rng.randrange(2)]
                heads = list(zip(labels, margins, strict=True))
                core.heads = [heads[0], (99, 0), heads[1]]
                for record in (records.found, core.layers, core.counters):
                    record.clear()
                await run(ctx, rng, dut.sequencer, program, NO_FLAGS | {"constant": int(constant)}, conditions)
                expired = 0 < deadline < FETCHED + Sequencer.LAYER_CYCLES + core.counters[0][0]
                wanted = Decisions(1, conditions)
                labels, margins = ([np.array([value]) for value in values] for values in (labels, margins))
                wanted.branch(0, early, labels[0], margins[0], np.array([expired]))
                assert len(core.layers) == 1 + 2 * wanted.running[0]
                wanted.stop(1, last, labels[1], margins[1])
                (record,) = records.found
                found = decode(RunResult, unpack(record[3], words_of(RunResult)))
                cycles = spent(core, len(core.layers))
                wanted.overrun[0] = constant and cycles > deadline
                assert {name: found[name] for name in wanted.result(0)} == wanted.result(0)
                assert found["cycles"] == (max(cycles, deadline) if constant else cycles)
                seen[found["passed"], found["exit"], found["differs"]] += 1

        async def finish(ctx):
            await drive(ctx)
            # Left early; not at all; audited and in constant time, heads of one mind or not.
            assert {(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)} == seen.keys()

        return Bench(
            dut=dut, testbenches=[finish], background=[core.act, records.act], memories={dut.program: program.words}
        )

    simulate(build, seed=1, folder=tmp_path, max_cycles=60_000)


def test_in_constant_time_results_come_at_the_deadline(tmp_path):
    """Whatever the layers take, and the host with its records; a run that takes longer says so."""

    def build(rng):
        program = random_program(rng)
        dut = reused(Surroundings, 2)
        sequencer = dut.sequencer
        core, records = Cores(rng, sequencer, 2), Records(rng, sequencer, 1.0)
        came = []

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            ctx.set(sequencer.head.margin, program.exits[0].threshold)
            at_most = 3 * (40 + 2 + Sequencer.LAYER_CYCLES) + 2 * (FETCHED + Sequencer.DECISION_CYCLES)
            for flags in (NO_FLAGS, REPORT):
                for deadline in (1, *range(at_most - 3, at_most + 4), at_most + 50):
                    for spans in ([40, 40, 40], [30, 39, 31]):
                        core.spans = list(spans)
                        for found in (core.counters, core.layers, records.found, came):
                            found.clear()
                        flagged = flags | {"constant": 1}
                        await run(ctx, rng, sequencer, program, flagged, Conditions(constant=True, deadline=deadline))
                        cycles = spent(core, 3)
                        assert cycles == at_most - 3 * 40 + sum(spans)
                        found = decode(RunResult, unpack(records.found[-1][3], words_of(RunResult)))
                        assert (found["cycles"], found["overrun"]) == (max(cycles, deadline), int(cycles > deadline))
                        assert (found["exit"], found["forced"]) == (0, 0)
                        reported = len(records.found) - 1
                        assert reported == 3 * flags["report"]
                        # In cycles of the clock, each report and the result take one more.
                        assert came == [max(cycles, deadline) + reported]

        async def clock(ctx):
            """Cycles from a run's first to the one in which its result is taken."""
            count = 0
            while True:
                _, _, now, valid, record = await ctx.tick().sample(
                    sequencer.lists.active, sequencer.record.valid, sequencer.record.payload
                )
                if valid and Reply(record.reply) is Reply.RESULT:
                    came.append(count)
                count = count + 1 if now else 0

        return Bench(
            dut=dut,
            testbenches=[drive],
            background=[core.act, records.act, clock],
            memories={dut.program: program.words},
        )

    simulate(build, seed=1, folder=tmp_path, max_cycles=60_000)


def test_the_end_of_a_layer_waits_for_the_next_description(tmp_path):
    """In layers that no core takes part in: the shortest there can be, though no compiler makes them."""

    def build(rng):
        program = random_program(rng)
        dut = reused(Surroundings, 2)
        core, records = Cores(rng, dut.sequencer, 2), Records(rng, dut.sequencer, 1.0)
        core.nothing_to_do = True

        async def drive(ctx):
            await prepare(ctx, dut.sequencer, program)
            await run(ctx, rng, dut.sequencer, program, REPORT)
            assert core.layers == program.layers
            found = [unpack(record[3], 2)[1] for record in records.found[:-1]]
            # Behind the first and the last layer there is no description to be fetched.
            short = Sequencer.PREFETCH_CYCLES - Fetcher.cycles(words_of(LayerDescription))
            assert found == [short, Sequencer.PREFETCH_CYCLES, short]

        return Bench(
            dut=dut, testbenches=[drive], background=[core.act, records.act], memories={dut.program: program.words}
        )

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("place", ["first", "second", "third"])
def test_a_selection_runs_as_a_layer_that_is_not_reported(tmp_path, place):
    """Its cycles are the run's."""

    def build(rng):
        names = ("first", "second", "third")
        program = random_program(rng, ops=[Opcode.SELECT if place == name else Opcode.LAYER for name in names])
        dut = reused(Surroundings, 2, selector=2)
        sequencer = dut.sequencer
        core, records = Cores(rng, sequencer, 2), Records(rng, sequencer, 0.3)

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            for flags in (NO_FLAGS, REPORT, STEP):
                for record in (records.found, core.layers, core.counters):
                    record.clear()
                core.selects = 0
                await run(ctx, rng, sequencer, program, flags)
                assert core.layers == program.layers
                assert core.selects == 1
                *reports, result = records.found
                numbers = [number for number, name in enumerate(names) if name != place]
                assert [unpack(record[3], 1)[0] for record in reports] == (numbers if flags["report"] else [])
                spent = sum(counted[0] for counted in core.counters)
                control = 3 * Sequencer.LAYER_CYCLES + 2 * FETCHED + 2 * Sequencer.DECISION_CYCLES
                assert decode(RunResult, unpack(result[3], words_of(RunResult)))["cycles"] == spent + control

        return Bench(
            dut=dut, testbenches=[drive], background=[core.act, records.act], memories={dut.program: program.words}
        )

    simulate(build, seed=1, folder=tmp_path)


def test_a_layer_starts_when_its_lists_are_written(tmp_path):
    def build(rng):
        program = random_program(rng, chunks=(2, 0, 5), timeout=1000)
        dut = reused(Surroundings, 2)
        sequencer, lists = dut.sequencer, dut.sequencer.lists
        core, records = Cores(rng, sequencer, 2), Records(rng, sequencer, 0.3)
        delays = []  # of layers: cycles from the take to the last chunk but one; None if all are there before

        async def write(ctx):
            while True:
                await ctx.tick().until(sequencer.control.take)
                delay, wanted = delays.pop(0)
                if delay is not None:
                    ctx.set(lists.written, max(0, wanted - 1))
                    await ctx.tick().repeat(delay)
                ctx.set(lists.written, wanted)

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            for first, last in ((None, None), (1, None), (None, 1), (2, 40), (rng.randint(3, 90), rng.randint(3, 90))):
                ctx.set(lists.written, 2 * (first is None))
                core.heads = [(0, program.exits[0].threshold - 1), (0, 0), (0, 0)]
                # What the last layer needs is there before its take if it has no delay.
                delays[:] = [(first, 2), (None, 5 if last is None else 4), (last, 5)]
                for record in (records.found, core.counters):
                    record.clear()
                await run(ctx, rng, sequencer, program, REPORT)
                *reports, result = records.found
                found = [decode(LayerRecord, unpack(report[3], words_of(LayerRecord))) for report in reports]
                # The take's cycle is the first that waits; a chunk is seen in the cycle that it is there.
                waited = [0 if first is None else first + 2, 0, 0 if last is None else last + 2]
                assert [each["waited"] for each in found] == waited
                own = [counted[0] for counted in core.counters]
                assert [each["cycles"] for each in found] == [a + b for a, b in zip(own, waited, strict=True)]
                cycles = decode(RunResult, unpack(result[3], words_of(RunResult)))["cycles"]
                assert cycles == spent(core, 3) + sum(waited)
            # Lists that never come.
            records.found.clear()
            ctx.set(lists.written, 1)
            delays[:] = [(None, 1)]
            await run(ctx, rng, sequencer, program, NO_FLAGS)
            assert records.found == [(Reply.ERROR, ErrorCode.TIMEOUT, 1, program.addresses["first"])]

        return Bench(
            dut=dut,
            testbenches=[drive],
            background=[core.act, records.act, write],
            memories={dut.program: program.words},
        )

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("op", [0, 4, 15])
@pytest.mark.parametrize("place", ["first", "second", "third"])
def test_a_bad_instruction_ends_the_run_and_resets_the_core(tmp_path, op, place):
    def build(rng):
        ops = [op if place == which else Opcode.LAYER for which in ("first", "second", "third")]
        program = random_program(rng, ops=ops)
        dut = reused(Surroundings, 2)
        sequencer = dut.sequencer
        core, records = Cores(rng, sequencer, 2), Records(rng, sequencer, 0.3)

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            for _ in range(2):
                before = core.resets
                tag = rng.randrange(1 << 16)
                await run(ctx, rng, sequencer, program, NO_FLAGS, tag=tag)
                detail = program.addresses[place] | tag << 16
                assert records.found.pop() == (Reply.ERROR, ErrorCode.BAD_INSTRUCTION, 1, detail)
                assert records.found == []
                assert core.resets > before
            # An exit before the bad instruction still works.
            if place != "first":
                ctx.set(sequencer.head.margin, program.exits[0].threshold)
                await run(ctx, rng, sequencer, program, NO_FLAGS)
                assert records.found.pop()[0] is Reply.RESULT

        return Bench(
            dut=dut, testbenches=[drive], background=[core.act, records.act], memories={dut.program: program.words}
        )

    simulate(build, seed=1, folder=tmp_path)


def test_a_layer_that_never_ends_is_given_up_and_the_next_run_is_right(tmp_path):
    def build(rng):
        timeout = 300
        program = random_program(rng, timeout=timeout)
        dut = reused(Surroundings, 2)
        sequencer = dut.sequencer
        core, records = Cores(rng, sequencer, 2), Records(rng, sequencer, 0.3)
        waited = []

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            core.never_done = True
            await run(ctx, rng, sequencer, program, NO_FLAGS)
            assert records.found == [(Reply.ERROR, ErrorCode.TIMEOUT, 1, program.addresses["first"])]
            # The cycle that exceeds the timeout is seen two cycles later; the reset comes a cycle after that.
            assert len(waited) == timeout + 4 - FETCHED - Sequencer.LAYER_CYCLES
            records.found.clear()
            core.never_done = False
            await run(ctx, rng, sequencer, program, NO_FLAGS)
            assert [record[0] for record in records.found] == [Reply.RESULT]

        async def layer_cycles(ctx):
            """Cycles of the layer that is given up."""
            started = False
            while True:
                _, _, start, reset = await ctx.tick().sample(sequencer.control.start, sequencer.control.reset)
                if not core.never_done:
                    continue
                if reset:
                    started = False
                elif started:
                    waited.append(1)
                started = started or start

        return Bench(
            dut=dut,
            testbenches=[drive],
            background=[core.act, records.act, layer_cycles],
            memories={dut.program: program.words},
        )

    simulate(build, seed=1, folder=tmp_path)
