from dataclasses import dataclass, field

import pytest
from amaranth import Module
from amaranth.lib import memory, wiring

from hw.config import AcceleratorConfig
from hw.isa import (
    Branch,
    ErrorCode,
    Header,
    Layer,
    LayerRecord,
    Opcode,
    Operation,
    Reply,
    Result,
    Target,
    bits_of,
    encode,
    words_of,
)
from hw.sequencer import Sequencer
from tests.hw.simulate import Bench, seldom, send, simulate

CONFIG = AcceleratorConfig(pes=2, program_words=256)
#: Cycles for which a core is clearing after its reset.
CLEARING = 20
NO_LIMIT = (1 << 32) - 1


class Surroundings(wiring.Component):
    """A sequencer and the program memory."""

    def __init__(self, program):
        self.sequencer = Sequencer(CONFIG)
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


def random_bits(rng, layout):
    """Words of a layout with all fields random."""
    value = rng.getrandbits(bits_of(layout))
    return [value >> 32 * n & 0xFFFF_FFFF for n in range(words_of(layout))]


@dataclass
class Program:
    """Layer 0, a branch of exit 0 to a STOP, layer 1, STOP of exit 1; and what the core makes of it."""

    words: list[int]
    layers: list[int]
    threshold: int
    image_bytes: int
    target: dict[str, int]
    addresses: dict[str, int] = field(default_factory=dict)


def random_program(rng, *, limit=NO_LIMIT, ops=(Opcode.LAYER, Opcode.LAYER)):
    entry = words_of(Header) + rng.randrange(10)
    layers = [random_bits(rng, Layer) for _ in range(2)]
    size = 1 + words_of(Layer)
    branch, second, stop = entry + size, entry + size + 2, entry + 2 * size + 2
    leaving = stop + 1 + rng.randrange(10)
    threshold, image_bytes = rng.randrange(1, 1 << 32), rng.choice((4, 20, rng.randint(1, 40)))
    target = {
        "bank": 1,
        "base": rng.randrange(1000),
        "pitch": 3,
        "channels": 3,
        "mask_base": 5,
        "mask_pitch": 1,
        "zero_point": rng.randrange(256),
    }
    words = [0] * CONFIG.program_words

    def place(address, values):
        words[address : address + len(values)] = values

    image_words = -(-image_bytes // 4)
    place(0, encode(Header, entry=entry, image_words=image_words, image_bytes=image_bytes, limit=limit, image=target))
    for number, (address, layer) in enumerate(zip((entry, second), layers, strict=True)):
        place(address, encode(Operation, op=ops[number], index=40 + number, target=0))
        place(address + 1, layer)
    place(branch, encode(Operation, op=Opcode.BRANCH, index=0, target=leaving))
    place(branch + 1, encode(Branch, threshold=threshold))
    place(stop, encode(Operation, op=Opcode.STOP, index=1, target=0))
    place(leaving, encode(Operation, op=Opcode.STOP, index=0, target=0))
    packed = [sum(word << 32 * n for n, word in enumerate(layer)) for layer in layers]
    addresses = {"first": entry, "second": second}
    return Program(words, packed, threshold, image_bytes, target, addresses)


class Core:
    """Stands for core and exit unit: every layer takes a number of cycles, with products and stalls."""

    def __init__(self, rng, sequencer):
        self._rng, self._sequencer = rng, sequencer
        self.layers, self.counters, self.pixels, self.images = [], [], [], []
        self.resets = 0
        self.never_done = False

    async def act(self, ctx):
        sequencer, rng = self._sequencer, self._rng
        left, clearing, counted = 0, CLEARING, [0, 0, 0]
        while True:
            products, stalled = rng.randrange(CONFIG.pes + 1), rng.randrange(2)
            ctx.set(sequencer.products, products)
            ctx.set(sequencer.stalled, stalled)
            ctx.set(sequencer.done, left == 1 and not self.never_done)
            ctx.set(sequencer.clearing, clearing > 0)
            _, _, start, layer, reset, image_start, image, valid, pixel = await ctx.tick().sample(
                sequencer.start,
                sequencer.layer.as_value(),
                sequencer.core_reset,
                sequencer.image_start,
                sequencer.image,
                sequencer.pixel.valid,
                sequencer.pixel.payload,
            )
            if left:
                counted = [counted[0] + 1, counted[1] + products, counted[2] + stalled]
                assert layer == self.layers[-1]
                left -= 1
                if left == 0:
                    self.counters.append(counted)
            clearing = CLEARING if reset else max(0, clearing - 1)
            self.resets += reset
            left = 0 if reset else left
            if start:
                assert clearing == 0
                self.layers.append(layer)
                left, counted = rng.randint(1, 60), [0, 0, 0]
            if image_start:
                assert clearing == 0
                self.images.append((image.base, image.zero_point))
                self.pixels.append([])
            if valid:
                self.pixels[-1].append(pixel)


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
    assert ctx.get(sequencer.image_words) == -(-program.image_bytes // 4)


async def run(ctx, rng, sequencer, program, flags):
    """One run up to idle; returns the image's codes."""
    codes = [rng.randrange(-128, 128) for _ in range(program.image_bytes)]
    padded = [code & 0xFF for code in codes] + [rng.randrange(256) for _ in range(-len(codes) % 4)]
    words = [int.from_bytes(bytes(padded[n : n + 4]), "little") for n in range(0, len(padded), 4)]
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


NO_FLAGS = {"report": 0, "step": 0, "reserved": 0}
REPORT = {"report": 1, "step": 0, "reserved": 0}
STEP = {"report": 1, "step": 1, "reserved": 0}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_runs_leave_where_the_margin_says_and_count_their_cycles(tmp_path, seed, share):
    """Margins around the threshold; neither reports, pauses nor a slow host change the count of cycles."""

    def build(rng):
        program = random_program(rng)
        dut = Surroundings(program.words)
        sequencer = dut.sequencer
        core, records = Core(rng, sequencer), Records(rng, sequencer, share)
        zero = program.target["zero_point"] - (program.target["zero_point"] >> 7 << 8)

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            margins = (program.threshold - 1, program.threshold, 0, (1 << 32) - 1)
            for flags in (NO_FLAGS, REPORT, STEP):
                for margin in margins:
                    label = rng.randrange(256)
                    ctx.set(sequencer.margin, margin)
                    ctx.set(sequencer.label, label)
                    for record in (records.found, core.layers, core.counters, core.pixels, core.images):
                        record.clear()
                    codes = await run(ctx, rng, sequencer, program, flags)
                    exits = margin >= program.threshold
                    layers = 1 if exits else 2
                    assert core.images == [(program.target["base"], program.target["zero_point"])]
                    assert core.pixels == [[code - zero for code in codes]]
                    assert core.layers == program.layers[:layers]
                    *reports, result = records.found
                    assert [record[:3] for record in reports] == (
                        [(Reply.LAYER, ErrorCode.NONE, words_of(LayerRecord))] * layers if flags["report"] else []
                    )
                    for number, (record, counted) in enumerate(zip(reports, core.counters, strict=False)):
                        assert unpack(record[3], 4) == [40 + number, *counted]
                    cycles = (
                        sum(counted[0] for counted in core.counters)
                        + layers * Sequencer.LAYER_OVERHEAD
                        + Sequencer.BRANCH_CYCLES
                        + Sequencer.STOP_CYCLES
                    )
                    assert result[:3] == (Reply.RESULT, ErrorCode.NONE, words_of(Result))
                    expected = encode(Result, label=label, exit=0 if exits else 1, margin=margin, cycles=cycles)
                    assert unpack(result[3], words_of(Result)) == expected

        return Bench(dut=dut, testbenches=[drive], background=[core.act, records.act])

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("op", [0, 4, 15])
@pytest.mark.parametrize("place", ["first", "second"])
def test_a_bad_instruction_ends_the_run_and_resets_the_core(tmp_path, op, place):
    def build(rng):
        ops = (op, Opcode.LAYER) if place == "first" else (Opcode.LAYER, op)
        program = random_program(rng, ops=ops)
        dut = Surroundings(program.words)
        sequencer = dut.sequencer
        core, records = Core(rng, sequencer), Records(rng, sequencer, 0.3)

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
            if place == "second":
                ctx.set(sequencer.margin, program.threshold)
                await run(ctx, rng, sequencer, program, NO_FLAGS)
                assert records.found.pop()[0] is Reply.RESULT

        return Bench(dut=dut, testbenches=[drive], background=[core.act, records.act])

    simulate(build, seed=1, folder=tmp_path)


def test_a_layer_that_never_ends_is_given_up_and_the_next_run_is_right(tmp_path):
    def build(rng):
        limit = 300
        program = random_program(rng, limit=limit)
        dut = Surroundings(program.words)
        sequencer = dut.sequencer
        core, records = Core(rng, sequencer), Records(rng, sequencer, 0.3)
        waited = []

        async def drive(ctx):
            await prepare(ctx, sequencer, program)
            core.never_done = True
            await run(ctx, rng, sequencer, program, NO_FLAGS)
            assert records.found == [(Reply.ERROR, ErrorCode.TIMEOUT, 1, program.addresses["first"])]
            # The cycle that exceeds the limit is seen two cycles later.
            assert len(waited) == limit + 3 - Sequencer.LAYER_OVERHEAD
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


def test_target_of_the_image_is_the_headers(tmp_path):
    def build(rng):
        program = random_program(rng)
        dut = Surroundings(program.words)

        async def drive(ctx):
            await prepare(ctx, dut.sequencer, program)
            image = ctx.get(dut.sequencer.image)
            assert {name: getattr(image, name) for name, _ in Target.as_shape()} == program.target

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)
