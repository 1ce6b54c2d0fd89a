"""What surrounds a host port in its tests: memories that it reads, a sequencer, and a host's commands and replies."""

import zlib
from itertools import pairwise

from amaranth import Module, Signal, signed
from amaranth.lib import wiring

from hw.config import AcceleratorConfig
from hw.program.bits import encode
from hw.program.protocol import (
    CommandHeader,
    ErrorCode,
    HostCommand,
    LayerRecord,
    Memory,
    Place,
    Reply,
    ReplyHeader,
    memory_depths,
)
from hw.rtl.host.host_port import HostPort
from tests.hw.simulate import Bench, always, receive, reused, seldom, send

CONFIG = AcceleratorConfig(
    cores=4,
    pes=2,
    activation_words=64,
    second_bank_words=32,
    program_words=128,
    layer_words=128,
    channel_words=16,
    list_words=64,
)


IMAGE_WORDS = 5


#: Number of a program whose Header asks for what no RUN can bring.
UNSERVABLE = 1


DEPTHS = memory_depths(CONFIG)


#: Pairs of activations in each bank.
PAIRS = (256, 128)


def pair(core, bank, address):
    """The activations that a core of these tests holds at an address; as integers and as signals."""
    return [((2 * address + half) * 37 + bank * 101 + core * 53) % 511 - 255 for half in (0, 1)]


def place(address, core=0, reserved=0):
    """A Place as one word."""
    (word,) = encode(Place, address=address, core=core, reserved=reserved)
    return word


def cores_of(memory):
    """Cores that have this memory."""
    return 1 if memory in (Memory.PROGRAM.value, Memory.LOGITS) else CONFIG.cores


def logit(address):
    return address * 12_345 - 300_000


class Surroundings(wiring.Component):
    """A host port, and the cores' four cycles of activation reads and one cycle of logit reads."""

    def __init__(self):
        self.port = HostPort(CONFIG)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.port = port = self.port
        m.d.sync += port.logits.logit.eq(port.logits.address * 12_345 - 300_000)
        for half, value in enumerate(pair(port.read_core, port.read.bank, port.read.address)):
            values = [Signal(signed(24), name=f"value_{half}_{n}") for n in range(4)]
            m.d.sync += [later.eq(before) for before, later in pairwise([value, *values])]
            m.d.comb += port.read.pair[half].eq(values[-1])
        return m


def command(kind, argument=0, payload=(), length=None):
    """A command's words; ``kind`` may be a number that is no command."""
    fields = {"command": getattr(kind, "value", kind), "argument": getattr(argument, "value", argument)}
    return [*encode(CommandHeader, **fields, length=len(payload) if length is None else length), *payload]


def reply(kind, code=ErrorCode.NONE, payload=()):
    return [*encode(ReplyHeader, reply=kind, code=code, length=len(payload)), *payload]


def refused(words, code, detail=None):
    """The error that answers a command; its detail is the header where nothing else is said."""
    return reply(Reply.ERROR, code, [words[0] if detail is None else detail])


def checksum(*payloads):
    data = b"".join(word.to_bytes(4, "little") for payload in payloads for word in payload)
    return zlib.crc32(data)


class Sequencer:
    """Stands for the sequencer: answers ``prepare`` and ``switch``, takes images, sends records; one run at a time."""

    def __init__(self, rng, port):
        self._rng, self._port = rng, port
        self.events, self.images = [], []

    async def act(self, ctx):
        port, control, rng = self._port, self._port.sequencer, self._rng
        ctx.set(control.idle, 1)
        ctx.set(control.free, 1)
        while True:
            _, _, prepare, switch, program, run, flags = await ctx.tick().sample(
                control.prepare, control.switch, control.flags.program, control.run, control.flags
            )
            if prepare or switch or run:
                self.events.append("prepare" if prepare else ("switch", program) if switch else "run")
                ctx.set(control.idle, 0)
            if prepare or switch:
                for _ in range(rng.randrange(5)):
                    await ctx.tick()
            if switch:
                ctx.set(control.run_words, IMAGE_WORDS + program)
                ctx.set(control.servable, program != UNSERVABLE)
            if run:
                ctx.set(control.free, 0)
                ctx.set(control.stepping, flags.step)
                count = IMAGE_WORDS + flags.program
                self.images.append(await receive(ctx, port.word, count, seldom(rng, 0.5)))
                # An image's words are counted by the host port.
                ctx.set(port.word.ready, 1)
                for _ in range(3):
                    assert not ctx.get(port.word.valid)
                    await ctx.tick()
                ctx.set(port.word.ready, 0)
                await self._run(ctx, flags)
                ctx.set(control.free, 1)
                ctx.set(control.stepping, 0)
            if prepare or switch or run:
                ctx.set(control.idle, 1)

    async def _run(self, ctx, flags):
        control, rng = self._port.sequencer, self._rng
        if flags.report:
            await self._send(ctx, Reply.LAYER, [3, 1000, 2**32 - 1, 17, 5])
        if flags.step:
            ctx.set(control.paused, 1)
            resume = False
            while not resume:
                _, _, resume, ready = await ctx.tick().sample(control.resume, self._port.i.ready)
            # From here to the next pause no command is taken.
            assert not ready
            self.events.append("resume")
            ctx.set(control.paused, 0)
        for _ in range(rng.randrange(20)):
            _, _, ready = await ctx.tick().sample(self._port.i.ready)
            assert not (flags.step and ready)
        await self._send(ctx, Reply.RESULT, [7, 0xFFFF_FFFF, 123_456, 2])

    async def _send(self, ctx, kind, payload):
        word = sum(value << 32 * n for n, value in enumerate(payload))
        record = {"reply": kind, "code": ErrorCode.NONE, "length": len(payload), "payload": word}
        await send(ctx, self._port.record, [record], seldom(self._rng, 0.5))


LAYER = reply(
    Reply.LAYER, payload=encode(LayerRecord, index=3, tag=0, cycles=1000, products=2**32 - 1, stalls=17, waited=5)
)


RESULT = reply(Reply.RESULT, payload=[7, 0xFFFF_FFFF, 123_456, 2])


def bench(rng, exchanges, *, loads=(), events=(), images=(), stalls=True):
    """Sends all commands and compares all replies; ``exchanges`` are pairs of words."""
    dut = reused(Surroundings)
    port = dut.port
    sequencer = Sequencer(rng, port)
    commands = [word for words, _ in exchanges for word in words]
    replies = [word for _, words in exchanges for word in words]
    written = []

    def go():
        return seldom(rng, rng.choice((0.3, 0.8))) if stalls else always()

    async def host(ctx):
        await send(ctx, port.i, commands, go())

    async def answers(ctx):
        assert await receive(ctx, port.o, len(replies), go()) == replies
        await ctx.tick().repeat(30)
        assert not ctx.get(port.o.valid)

    async def memories(ctx):
        while True:
            _, _, valid, load = await ctx.tick().sample(port.load.valid, port.load.payload)
            if valid:
                written.append((load.core, load.memory, load.address, load.data))

    def check():
        assert written == list(loads)
        assert sequencer.events == list(events)
        assert sequencer.images == list(images)

    return Bench(dut=dut, testbenches=[host, answers], background=[memories, sequencer.act], check=check)


def good_load(rng, last=0):
    """Exchanges that load something into every memory, up to the program of that number, and the writes expected."""
    exchanges, loads, payloads = [(command(HostCommand.BEGIN), [])], [], []
    for memory, depth in DEPTHS.items():
        count, core = rng.randint(1, 12), rng.randrange(cores_of(memory))
        first = rng.choice((0, depth - count, rng.randrange(depth - count + 1)))
        words = [rng.getrandbits(32) for _ in range(count)]
        payloads.append([place(first, core), *words])
        exchanges.append((command(HostCommand.WRITE, memory, payloads[-1]), []))
        loads += [(core, memory, first + n, word) for n, word in enumerate(words)]
    commit = [checksum(*payloads), CONFIG.word_digest]
    return [*exchanges, (command(HostCommand.COMMIT, last, commit), reply(Reply.READY))], loads
