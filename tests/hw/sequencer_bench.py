"""What surrounds a sequencer in its tests: program memory, cores, a host, and random programs."""

from dataclasses import dataclass, field

from amaranth import Module
from amaranth.lib import memory, wiring

from hw.config import AcceleratorConfig
from hw.network.exits import DEFAULT
from hw.network.network import Exit
from hw.program.bits import encode, words_of
from hw.program.isa import NEVER, Decision, Header, LayerDescription, Opcode, Operation, Window
from hw.program.protocol import ErrorCode, Reply, RunOptions
from hw.rtl.control.sequencer import Sequencer
from hw.rtl.fetcher import Fetcher
from tests.hw.simulate import seldom, send

CONFIG = AcceleratorConfig(pes=2, program_words=256)
#: Cycles for which cores are clearing after their reset; each takes its own time.
CLEARING = 20
#: Cycles that cores take to fetch the image's window, and a description.
WINDOW_CYCLES, FETCH_CYCLES = Fetcher.cycles(words_of(Window)), Fetcher.cycles(words_of(LayerDescription))
#: Cycles before a layer's end in which nothing happens in a core any more.
QUIET = 6
NO_TIMEOUT = (1 << 31) - 1
#: Cycles to fetch a LAYER that is not behind another one, and its description.
FETCHED = Sequencer.FETCH_CYCLES + Sequencer.DESCRIPTION_CYCLES


class Surroundings(wiring.Component):
    """A sequencer and the program memory."""

    def __init__(self, cores, selector=0):
        self.sequencer = Sequencer(CONFIG.replace(cores=cores, selector=selector))
        self.program = memory.MemoryData(shape=32, depth=CONFIG.program_words, init=[])
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequencer = sequencer = self.sequencer
        m.submodules.program = program = memory.Memory(self.program)
        read = program.read_port()
        m.d.comb += [
            read.addr.eq(sequencer.program.address),
            read.en.eq(1),
            sequencer.program.data.eq(read.data),
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
    image_window: int  # address of the image's Window
    addresses: dict[str, int] = field(default_factory=dict)


def random_program(
    rng,
    *,
    timeout=NO_TIMEOUT,
    ops=(Opcode.LAYER, Opcode.LAYER, Opcode.LAYER),
    chunks=(0, 0, 0),
    number=0,
    image_free=NEVER,
):
    """Of that number, with nothing in front of its Header."""
    entry = (number + 1) * words_of(Header) + rng.randrange(10)
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

    header = {"entry": entry, "image_words": -(-image_bytes // 4), "image_bytes": image_bytes, "timeout": timeout}
    header |= {"image_channels": channels, "image_zero_point": zero_point}
    header |= {"image_window": rng.randrange(1 << 12), "image_free": image_free, "chunk_table": 0, "chunks": 0}
    place(number * words_of(Header), encode(Header, **header))
    for index, (address, layer) in enumerate(zip((entry, second, second + 1), layers, strict=True)):
        place(address, encode(Operation, op=ops[index], index=index, target=layer, chunks=chunks[index]))
    for index, (address, op) in enumerate(((branch, Opcode.BRANCH), (stop, Opcode.STOP))):
        head = exits[index]
        values = encode(Decision, threshold=head.threshold or 0, low=head.low, high=head.high)
        place(address, encode(Operation, op=op, index=index, target=0, chunks=0) + values)
    addresses = {"first": entry, "second": second, "third": second + 1}
    return Program(words, layers, exits, image_bytes, channels, zero_point, header["image_window"], addresses)


class Cores:
    """Stands for cores and exit unit: each core takes its own number of cycles for a layer, or none.

    Selections are to them as layers.
    """

    def __init__(self, rng, sequencer, cores):
        self._rng, self._sequencer, self._cores = rng, sequencer, cores
        self.layers, self.counters, self.codes = [], [], []
        self.resets = self.selects = 0
        self.window = None  # address of the window fetched since the last reset
        #: Class and margin that layers find, in order.
        self.heads = []
        #: Cycles of the layers that follow in every core, in order; drawn when there is none.
        self.spans = []
        self.never_done = self.nothing_to_do = False

    async def act(self, ctx):
        sequencer, rng, cores = self._sequencer, self._rng, self._cores
        control = sequencer.control
        ctx.set(sequencer.image.room, 1)
        ctx.set(sequencer.selector.done, 1)
        left, clearing = [0] * cores, [CLEARING] * cores
        fetching, counted = 0, [0, 0, 0]
        fetched_from, taken, told = None, False, False
        while True:
            products = [rng.randrange(CONFIG.pes + 1) if n > QUIET else 0 for n in left]
            stalled = [rng.randrange(2) if n > QUIET else 0 for n in left]
            for n, core in enumerate(sequencer.cores):
                ctx.set(core.products, products[n])
                ctx.set(core.stalled, stalled[n])
                ctx.set(core.done, left[n] == 0)
                ctx.set(core.clearing, clearing[n] > 0)
                ctx.set(core.fetched, fetching == 1)
            _, _, take, start, select, reset, fetch, window, address, valid, image = await ctx.tick().sample(
                control.take | control.take_selection,
                control.start | sequencer.selector.start,
                sequencer.selector.start,
                control.reset,
                control.fetch,
                control.fetch_window,
                control.fetch_address,
                sequencer.image.words.valid,
                sequencer.image.words.payload,
            )
            running = any(left)
            counted = [counted[0] + running, counted[1] + sum(products), counted[2] + sum(stalled)]
            left = [max(0, n - (not self.never_done)) for n in left]
            if running and not any(left):
                # The barrier sees in the cycle after, and ends the layer in the next, that all cores are done.
                self.counters.append([counted[0] + 2, *counted[1:]])
            fetching = max(0, fetching - 1)
            # Cores hear of their reset a cycle late.
            clearing = [CLEARING - rng.randrange(5) if told else max(0, n - 1) for n in clearing]
            self.resets += reset
            if told:
                left, fetching, self.window = [0] * cores, 0, None
            told = reset
            if fetch:
                assert [any(clearing), window and any(left), fetching] == [False, False, 0]
                fetching = WINDOW_CYCLES if window else FETCH_CYCLES
                fetched_from = None if window else address
                if window:
                    self.window = address
            taken |= take
            assert taken or not start
            taken &= not start
            self.selects += select
            if take:
                assert [any(left), fetching] == [False, 0]
                self.layers.append(fetched_from)
            if start:
                if self.heads:
                    label, margin = self.heads.pop(0)
                    ctx.set(sequencer.head.label, label)
                    ctx.set(sequencer.head.margin, margin)
                left = [rng.choice((0, rng.randint(QUIET, 60))) for _ in range(cores)]
                left[rng.randrange(cores)] = rng.randint(Sequencer.PREFETCH_CYCLES, 60)
                counted = [0, 0, 0]
                if self.spans:
                    left = [self.spans.pop(0)] * cores
                if self.nothing_to_do:
                    left = [0] * cores
            if valid:
                assert self.window is not None
                if image.index == 0:
                    self.codes.append([])
                assert image.index == len(self.codes[-1])
                self.codes[-1].append(list(image.values))


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
    while not ctx.get(sequencer.host.idle):
        await ctx.tick()


async def prepare(ctx, sequencer, program):
    await idle(ctx, sequencer)
    ctx.set(sequencer.host.prepare, 1)
    await ctx.tick()
    ctx.set(sequencer.host.prepare, 0)
    await switch(ctx, sequencer, program, 0)


async def select(ctx, sequencer, number):
    """The program of that number, without a look at what it asks for."""
    await idle(ctx, sequencer)
    ctx.set(sequencer.host.flags.program, number)
    await ctx.tick()
    ctx.set(sequencer.host.switch, 1)
    await ctx.tick()
    ctx.set(sequencer.host.switch, 0)
    await idle(ctx, sequencer)


async def switch(ctx, sequencer, program, number):
    await select(ctx, sequencer, number)
    assert ctx.get(sequencer.host.servable)
    assert ctx.get(sequencer.host.run_words) == words_of(RunOptions) + -(-program.image_bytes // 4)


async def send_run(ctx, rng, sequencer, program, flags, conditions=DEFAULT, tag=0):
    """A RUN and its payload; returns the image's codes."""
    codes = [rng.randrange(-128, 128) for _ in range(program.image_bytes)]
    padded = [code & 0xFF for code in codes] + [rng.randrange(256) for _ in range(-len(codes) % 4)]
    words = [int.from_bytes(bytes(padded[n : n + 4]), "little") for n in range(0, len(padded), 4)]
    words = encode(RunOptions, **conditions.options(), tag=tag) + words
    ctx.set(sequencer.host.run, 1)
    ctx.set(sequencer.host.flags, flags)
    await ctx.tick()
    ctx.set(sequencer.host.run, 0)
    await send(ctx, sequencer.word, words, seldom(rng, 0.5))
    return codes


async def run(ctx, rng, sequencer, program, flags, conditions=DEFAULT, tag=0):
    """One run up to idle; returns the image's codes."""
    codes = await send_run(ctx, rng, sequencer, program, flags, conditions, tag)
    # More words than an image has are not taken.
    ctx.set(sequencer.word.valid, 1)
    while not ctx.get(sequencer.host.idle):
        assert not ctx.get(sequencer.word.ready)
        resume = ctx.get(sequencer.host.paused) and rng.random() < 0.2
        ctx.set(sequencer.host.resume, resume)
        await ctx.tick()
        ctx.set(sequencer.host.resume, 0)
    ctx.set(sequencer.word.valid, 0)
    # The observers record what they sampled at an edge after it.
    await ctx.tick()
    return codes


def spent(core, layers):
    """Cycles of the run that the cores have just made: of its one or three layers, and the sequencer's own."""
    parts = 1 if layers == 1 else 2
    control = layers * Sequencer.LAYER_CYCLES + parts * (FETCHED + Sequencer.DECISION_CYCLES)
    return sum(counted[0] for counted in core.counters) + control


NO_FLAGS = {"report": 0, "step": 0, "constant": 0, "program": 0}
REPORT = NO_FLAGS | {"report": 1}
STEP = REPORT | {"step": 1}
