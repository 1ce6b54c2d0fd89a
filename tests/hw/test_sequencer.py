from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth import Module, ResetInserter, Signal
from amaranth.lib import memory, wiring

from hw.config import AcceleratorConfig
from hw.exits import DEFAULT, Conditions, Decisions
from hw.fetcher import Fetcher
from hw.isa import (
    Decision,
    ErrorCode,
    Header,
    Layer,
    LayerRecord,
    Opcode,
    Operation,
    Reply,
    Result,
    RunOptions,
    Window,
    decode,
    encode,
    words_of,
)
from hw.network import Exit
from hw.sequencer import Sequencer
from tests.hw.simulate import Bench, seldom, send, simulate
from tests.hw.test_image_packer import words_of_image

CONFIG = AcceleratorConfig(pes=2, program_words=256)
#: Cycles for which cores are clearing after their reset; each takes its own time.
CLEARING = 20
#: Cycles that cores take to fetch the image's window, and a description.
WINDOW_CYCLES, FETCH_CYCLES = Fetcher.cycles(words_of(Window)), Fetcher.cycles(words_of(Layer))
#: Cycles before a layer's end in which nothing happens in a core any more.
QUIET = 6
NO_LIMIT = (1 << 32) - 1
#: Cycles to fetch a LAYER that is not behind another one, and its description.
FETCHED = Sequencer.FETCH_CYCLES + Sequencer.DESCRIPTION_CYCLES


class Surroundings(wiring.Component):
    """A sequencer and the program memory."""

    def __init__(self, program, cores):
        self.sequencer = Sequencer(CONFIG.replace(cores=cores))
        self._program = program
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequencer = sequencer = self.sequencer
        m.submodules.program = program = memory.Memory(shape=32, depth=CONFIG.program_words, init=self._program)
        read = program.read_port()
        m.d.comb += [
            read.addr.eq(sequencer.program_address),
            read.en.eq(1),
            sequencer.program_data.eq(read.data),
        ]
        return m


@dataclass
class Program:
    """Layer 0, BRANCH of exit 0, layers 1 and 2, STOP of exit 1."""

    words: list[int]
    layers: list[int]  # addresses of the descriptions
    exits: list[Exit]
    image_bytes: int
    image_channels: int
    zero_point: int
    addresses: dict[str, int] = field(default_factory=dict)


def random_program(rng, *, limit=NO_LIMIT, ops=(Opcode.LAYER, Opcode.LAYER, Opcode.LAYER)):
    entry = words_of(Header) + rng.randrange(10)
    layers = [rng.randrange(1 << 12) for _ in range(3)]
    decision = 1 + words_of(Decision)
    branch, second, stop = entry + 1, entry + 1 + decision, entry + 3 + decision
    thresholds = (rng.randrange(1, 1 << 32), None)
    ranges = [sorted(rng.randrange(1 << 32) for _ in range(2)) for _ in thresholds]
    exits = [
        Exit(logits="", threshold=t, low=low, high=high) for t, (low, high) in zip(thresholds, ranges, strict=True)
    ]
    channels, zero_point = rng.choice((1, 3, 8, 11)), rng.randrange(-128, 128)
    image_bytes = channels * rng.choice((1, 4, rng.randint(1, 10)))
    words = [0] * CONFIG.program_words

    def place(address, values):
        words[address : address + len(values)] = values

    header = {"entry": entry, "image_words": -(-image_bytes // 4), "image_bytes": image_bytes, "limit": limit}
    place(0, encode(Header, **header, image_channels=channels, image_zero_point=zero_point & 0xFF))
    for number, (address, layer) in enumerate(zip((entry, second, second + 1), layers, strict=True)):
        place(address, encode(Operation, op=ops[number], index=40 + number, target=layer))
    for number, (address, op) in enumerate(((branch, Opcode.BRANCH), (stop, Opcode.STOP))):
        head = exits[number]
        values = encode(Decision, threshold=head.threshold or 0, low=head.low, high=head.high)
        place(address, encode(Operation, op=op, index=number, target=0) + values)
    addresses = {"first": entry, "second": second, "third": second + 1}
    return Program(words, layers, exits, image_bytes, channels, zero_point, addresses)


class Cores:
    """Stands for cores and exit unit: each core takes its own number of cycles for a layer, or none."""

    def __init__(self, rng, sequencer, cores):
        self._rng, self._sequencer, self._cores = rng, sequencer, cores
        self.layers, self.counters, self.codes = [], [], []
        self.resets = 0
        #: Class and margin that layers find, in order.
        self.heads = []
        self.never_done = self.nothing_to_do = False

    async def act(self, ctx):
        sequencer, rng, cores = self._sequencer, self._rng, self._cores
        left, clearing = [0] * cores, [CLEARING] * cores
        fetching, counted = 0, [0, 0, 0]
        fetched_from, taken = None, False
        while True:
            products = [rng.randrange(CONFIG.pes + 1) if n > QUIET else 0 for n in left]
            stalled = [rng.randrange(2) if n > QUIET else 0 for n in left]
            for port, value in zip(sequencer.products, products, strict=True):
                ctx.set(port, value)
            ctx.set(sequencer.stalled, bits(stalled))
            ctx.set(sequencer.done, bits(n == 0 for n in left))
            ctx.set(sequencer.clearing, bits(n > 0 for n in clearing))
            ctx.set(sequencer.fetched, fetching == 1)
            _, _, take, start, reset, fetch, window, address, valid, image = await ctx.tick().sample(
                sequencer.take,
                sequencer.start,
                sequencer.core_reset,
                sequencer.fetch,
                sequencer.fetch_window,
                sequencer.fetch_address,
                sequencer.image.valid,
                sequencer.image.payload,
            )
            running = any(left)
            counted = [counted[0] + running, counted[1] + sum(products), counted[2] + sum(stalled)]
            left = [max(0, n - (not self.never_done)) for n in left]
            if running and not any(left):
                # The barrier sees in the cycle after, and ends the layer in the next, that all cores are done.
                self.counters.append([counted[0] + 2, *counted[1:]])
            fetching = max(0, fetching - 1)
            clearing = [CLEARING - rng.randrange(5) if reset else max(0, n - 1) for n in clearing]
            self.resets += reset
            if reset:
                left, fetching = [0] * cores, 0
            if fetch:
                assert [any(clearing), window and any(left), fetching] == [False, False, 0]
                fetching = WINDOW_CYCLES if window else FETCH_CYCLES
                fetched_from = None if window else address
                if window:
                    self.codes.append([])
            assert start == taken
            taken = take
            if take:
                assert [any(left), fetching] == [False, 0]
                self.layers.append(fetched_from)
            if start:
                if self.heads:
                    label, margin = self.heads.pop(0)
                    ctx.set(sequencer.label, label)
                    ctx.set(sequencer.margin, margin)
                left = [rng.choice((0, rng.randint(QUIET, 60))) for _ in range(cores)]
                left[rng.randrange(cores)] = rng.randint(Sequencer.PREFETCH_CYCLES, 60)
                counted = [0, 0, 0]
                if self.nothing_to_do:
                    left = [0] * cores
            if valid:
                assert fetching == 0
                assert image.index == len(self.codes[-1])
                self.codes[-1].append(list(image.values))


def bits(flags):
    return sum(bool(flag) << n for n, flag in enumerate(flags))


class Records:
    """Takes records, with stalls, as the host port does."""

    def __init__(self, rng, sequencer, share):
        self._go, self._sequencer = seldom(rng, share), sequencer
        self.found = []

    async def act(self, ctx):
        sequencer = self._sequencer
        while True:
            ready = next(self._go)
            ctx.set(sequencer.record.ready, ready)
            _, _, valid, record = await ctx.tick().sample(sequencer.record.valid, sequencer.record.payload)
            if valid and ready:
                self.found.append((Reply(record.reply), ErrorCode(record.code), record.length, record.payload))


def unpack(payload, length):
    return [payload >> 32 * n & 0xFFFF_FFFF for n in range(length)]


async def idle(ctx, sequencer):
    while not ctx.get(sequencer.idle):
        await ctx.tick()


async def prepare(ctx, sequencer, program):
    await idle(ctx, sequencer)
    ctx.set(sequencer.prepare, 1)
    await ctx.tick()
    ctx.set(sequencer.prepare, 0)
    await idle(ctx, sequencer)
    assert ctx.get(sequencer.run_words) == words_of(RunOptions) + -(-program.image_bytes // 4)


async def run(ctx, rng, sequencer, program, flags, conditions=DEFAULT):
    """One run up to idle; returns the image's codes."""
    codes = [rng.randrange(-128, 128) for _ in range(program.image_bytes)]
    padded = [code & 0xFF for code in codes] + [rng.randrange(256) for _ in range(-len(codes) % 4)]
    words = [int.from_bytes(bytes(padded[n : n + 4]), "little") for n in range(0, len(padded), 4)]
    words = encode(RunOptions, **conditions.options()) + words
    ctx.set(sequencer.run, 1)
    ctx.set(sequencer.flags, flags)
    await ctx.tick()
    ctx.set(sequencer.run, 0)
    await send(ctx, sequencer.word, words, seldom(rng, 0.5))
    # More words than an image has are not taken.
    ctx.set(sequencer.word.valid, 1)
    while not ctx.get(sequencer.idle):
        assert not ctx.get(sequencer.word.ready)
        resume = ctx.get(sequencer.paused) and rng.random() < 0.2
        ctx.set(sequencer.resume, resume)
        await ctx.tick()
        ctx.set(sequencer.resume, 0)
    ctx.set(sequencer.word.valid, 0)
    # The observers record what they sampled at an edge after it.
    await ctx.tick()
    return codes


NO_FLAGS = {"report": 0, "step": 0, "constant": 0, "reserved": 0}
REPORT = NO_FLAGS | {"report": 1}
STEP = REPORT | {"step": 1}


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
                    codes = await run(ctx, rng, sequencer, program, flags)
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
                        assert unpack(record[3], 4) == [40 + number, *counted]
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
                await run(ctx, rng, sequencer, program, NO_FLAGS)
                address = program.addresses[place]
                assert records.found.pop() == (Reply.ERROR, ErrorCode.BAD_INSTRUCTION, 1, address)
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
