from collections import Counter

import numpy as np
import pytest
from amaranth import ResetInserter, Signal

from hw.exits import Conditions, Decisions
from hw.fetcher import Fetcher
from hw.isa import Layer, Opcode
from hw.protocol import ErrorCode, LayerRecord, Reply, Result
from hw.sequencer import Sequencer
from hw.words import decode, encode, words_of
from tests.hw.sequencer_bench import (
    CONFIG,
    FETCHED,
    NO_FLAGS,
    NO_LIMIT,
    REPORT,
    STEP,
    Cores,
    Records,
    Surroundings,
    prepare,
    random_program,
    run,
    unpack,
)
from tests.hw.simulate import Bench, simulate
from tests.hw.test_image_packer import words_of_image


@pytest.mark.parametrize("cores", [1, 2, 8])
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_runs_leave_where_the_margin_says_and_count_their_cycles(tmp_path, cores, share):
    """Margins around the threshold; neither reports, pauses nor a slow host change the count of cycles."""

    def build(rng):
        program = random_program(rng)
        dut = Surroundings(program.words, cores)
        sequencer = dut.sequencer
        core, records = Cores(rng, sequencer, cores), Records(rng, sequencer, share)

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            threshold = program.exits[0].threshold
            margins = (threshold - 1, threshold, 0, (1 << 32) - 1)
            for flags in (NO_FLAGS, REPORT, STEP):
                for margin in margins:
                    label = rng.randrange(256)
                    ctx.set(sequencer.margin, margin)
                    ctx.set(sequencer.label, label)
                    for record in (records.found, core.layers, core.counters, core.codes):
                        record.clear()
                    tag = rng.randrange(1 << 16)
                    codes = await run(ctx, rng, sequencer, program, flags, tag=tag)
                    assert core.window == program.image_window
                    exits = margin >= threshold
                    head = program.exits[0 if exits else 1]
                    layers = 1 if exits else 3
                    words = words_of_image(codes, program.image_channels, program.zero_point)
                    assert core.codes == [[values for _, values in words]]
                    assert core.layers == program.layers[:layers]
                    *reports, result = records.found
                    assert [record[:3] for record in reports] == (
                        [(Reply.LAYER, ErrorCode.NONE, words_of(LayerRecord))] * layers if flags["report"] else []
                    )
                    for number, (record, counted) in enumerate(zip(reports, core.counters, strict=False)):
                        assert unpack(record[3], 5) == [number | tag << 16, *counted, 0]
                    cycles = (
                        sum(counted[0] for counted in core.counters)
                        + layers * Sequencer.LAYER_CYCLES
                        + (FETCHED if exits else 2 * FETCHED)
                        + (1 if exits else 2) * Sequencer.DECISION_CYCLES
                    )
                    assert result[:3] == (Reply.RESULT, ErrorCode.NONE, words_of(Result))
                    expected = encode(
                        Result,
                        label=label,
                        exit=0 if exits else 1,
                        margin=margin,
                        cycles=cycles,
                        tag=tag,
                        out_of_range=not head.low <= margin <= head.high,
                        **dict.fromkeys(("early_label", "early_exit", "forced", "passed", "differs"), 0),
                    )
                    assert unpack(result[3], words_of(Result)) == expected

        return Bench(dut=dut, testbenches=[drive], background=[core.act, records.act])

    simulate(build, seed=cores, folder=tmp_path)


def test_a_deadline_forces_the_first_exit_after_it(tmp_path):
    def build(rng):
        program = random_program(rng)
        dut = Surroundings(program.words, 2)
        core, records = Cores(rng, dut.sequencer, 2), Records(rng, dut.sequencer, 0.5)

        async def drive(ctx):
            await prepare(ctx, dut.sequencer, program)
            threshold = program.exits[0].threshold
            for deadline in (0, 1, 40, 60, 80, 100, NO_LIMIT, *(rng.randint(50, 90) for _ in range(20))):
                for margin in (threshold - 1, threshold):
                    ctx.set(dut.sequencer.margin, margin)
                    records.found.clear()
                    core.counters.clear()
                    await run(ctx, rng, dut.sequencer, program, NO_FLAGS, Conditions(deadline=deadline))
                    at_branch = FETCHED + Sequencer.LAYER_CYCLES + core.counters[0][0]
                    wants, expired = margin >= threshold, 0 < deadline < at_branch
                    (record,) = records.found
                    found = decode(Result, unpack(record[3], words_of(Result)))
                    assert (found["exit"], found["forced"]) == (int(not (wants or expired)), expired and not wants)

        return Bench(dut=dut, testbenches=[drive], background=[core.act, records.act])

    simulate(build, seed=1, folder=tmp_path)


def test_runs_go_on_past_an_exit_when_audited_or_in_constant_time(tmp_path):
    """Against the rule as :mod:`hw.exits` has it, with margins and classes of each head drawn anew."""

    def build(rng):
        program = random_program(rng)
        dut = Surroundings(program.words, 2)
        core, records = Cores(rng, dut.sequencer, 2), Records(rng, dut.sequencer, 0.8)
        seen = Counter()

        async def drive(ctx):
            await prepare(ctx, dut.sequencer, program)
            early, last = program.exits
            for _ in range(120):
                constant = rng.random() < 0.4
                deadline = rng.choice((0, 0, rng.randint(50, 90)))
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
                found = decode(Result, unpack(record[3], words_of(Result)))
                assert {name: found[name] for name in wanted.result(0)} == wanted.result(0)
                seen[found["passed"], found["exit"], found["differs"]] += 1

        async def finish(ctx):
            await drive(ctx)
            # Left early; not at all; audited and in constant time, heads of one mind or not.
            assert {(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)} == seen.keys()

        return Bench(dut=dut, testbenches=[finish], background=[core.act, records.act])

    simulate(build, seed=1, folder=tmp_path, max_cycles=60_000)


def test_the_end_of_a_layer_waits_for_the_next_description(tmp_path):
    """In layers that no core takes part in: the shortest there can be, though no compiler makes them."""

    def build(rng):
        program = random_program(rng)
        dut = Surroundings(program.words, 2)
        core, records = Cores(rng, dut.sequencer, 2), Records(rng, dut.sequencer, 1.0)
        core.nothing_to_do = True

        async def drive(ctx):
            await prepare(ctx, dut.sequencer, program)
            await run(ctx, rng, dut.sequencer, program, REPORT)
            assert core.layers == program.layers
            found = [unpack(record[3], 2)[1] for record in records.found[:-1]]
            # Behind the first and the last layer there is no description to be fetched.
            short = Sequencer.PREFETCH_CYCLES - Fetcher.cycles(words_of(Layer))
            assert found == [short, Sequencer.PREFETCH_CYCLES, short]

        return Bench(dut=dut, testbenches=[drive], background=[core.act, records.act])

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("place", ["first", "second", "third"])
def test_a_selection_runs_as_a_layer_that_is_not_reported(tmp_path, place):
    """Its cycles are the run's."""

    def build(rng):
        names = ("first", "second", "third")
        program = random_program(rng, ops=[Opcode.SELECT if place == name else Opcode.LAYER for name in names])
        dut = Surroundings(program.words, 2, selector=2)
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
                assert decode(Result, unpack(result[3], words_of(Result)))["cycles"] == spent + control

        return Bench(dut=dut, testbenches=[drive], background=[core.act, records.act])

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("op", [0, 4, 15])
@pytest.mark.parametrize("place", ["first", "second", "third"])
def test_a_bad_instruction_ends_the_run_and_resets_the_core(tmp_path, op, place):
    def build(rng):
        ops = [op if place == which else Opcode.LAYER for which in ("first", "second", "third")]
        program = random_program(rng, ops=ops)
        dut = Surroundings(program.words, 2)
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
                ctx.set(sequencer.margin, program.exits[0].threshold)
                await run(ctx, rng, sequencer, program, NO_FLAGS)
                assert records.found.pop()[0] is Reply.RESULT

        return Bench(dut=dut, testbenches=[drive], background=[core.act, records.act])

    simulate(build, seed=1, folder=tmp_path)


def test_a_layer_that_never_ends_is_given_up_and_the_next_run_is_right(tmp_path):
    def build(rng):
        limit = 300
        program = random_program(rng, limit=limit)
        dut = Surroundings(program.words, 2)
        sequencer = dut.sequencer
        core, records = Cores(rng, sequencer, 2), Records(rng, sequencer, 0.3)
        waited = []

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            core.never_done = True
            await run(ctx, rng, sequencer, program, NO_FLAGS)
            assert records.found == [(Reply.ERROR, ErrorCode.TIMEOUT, 1, program.addresses["first"])]
            # The cycle that exceeds the limit is seen two cycles later; the reset comes a cycle after that.
            assert len(waited) == limit + 4 - FETCHED - Sequencer.LAYER_CYCLES
            records.found.clear()
            core.never_done = False
            await run(ctx, rng, sequencer, program, NO_FLAGS)
            assert [record[0] for record in records.found] == [Reply.RESULT]

        async def layer_cycles(ctx):
            """Cycles of the layer that is given up."""
            started = False
            while True:
                _, _, start, reset = await ctx.tick().sample(sequencer.start, sequencer.core_reset)
                if not core.never_done:
                    continue
                if reset:
                    started = False
                elif started:
                    waited.append(1)
                started = started or start

        return Bench(dut=dut, testbenches=[drive], background=[core.act, records.act, layer_cycles])

    simulate(build, seed=1, folder=tmp_path)


def test_a_reset_of_the_sequencer_resets_the_cores(tmp_path):
    """Cores are modules of their own, which a reset inserted around the accelerator does not reach."""

    def build(rng):
        reset = Signal()
        sequencer = Sequencer(CONFIG)

        async def drive(ctx):
            ctx.set(sequencer.clearing, 1)
            for _ in range(3):
                assert ctx.get(sequencer.core_reset)
                for _ in range(10):
                    await ctx.tick()
                    assert not ctx.get(sequencer.core_reset)
                    assert not ctx.get(sequencer.idle)
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)

        return Bench(dut=ResetInserter(reset)(sequencer), testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)
