import zlib
from itertools import pairwise

import pytest
from amaranth import Module, Signal, signed
from amaranth.lib import wiring

from hw.config import AcceleratorConfig
from hw.program.bits import encode
from hw.program.isa import MAX_CLASSES
from hw.program.protocol import (
    PROTOCOL_VERSION,
    CommandHeader,
    ErrorCode,
    HostCommand,
    LayerRecord,
    Memory,
    Place,
    Reply,
    ReplyHeader,
    RunFlags,
    memory_depths,
)
from hw.rtl.host.host_port import HostPort
from tests.hw.simulate import Bench, always, receive, reused, seldom, send, simulate

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
    """A host port, and the cores' three cycles of activation reads and one cycle of logit reads."""

    def __init__(self):
        self.port = HostPort(CONFIG)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.port = port = self.port
        m.d.sync += port.logits.logit.eq(port.logits.address * 12_345 - 300_000)
        for half, value in enumerate(pair(port.read_core, port.read.bank, port.read.address)):
            values = [Signal(signed(24), name=f"value_{half}_{n}") for n in range(3)]
            m.d.sync += [values[0].eq(value), values[1].eq(values[0]), values[2].eq(values[1])]
            m.d.comb += port.read.pair[half].eq(values[2])
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
                _, _, resume = await ctx.tick().sample(control.resume)
            self.events.append("resume")
            ctx.set(control.paused, 0)
        for _ in range(rng.randrange(20)):
            await ctx.tick()
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


@pytest.mark.parametrize("seed", [1, 2])
def test_load_run_and_read(tmp_path, seed):
    def build(rng):
        loading, loads = good_load(rng)
        images = [[rng.getrandbits(32) for _ in range(IMAGE_WORDS)] for _ in range(3)]
        info = (command(HostCommand.INFO), reply(Reply.INFO, payload=[PROTOCOL_VERSION, CONFIG.word_digest]))
        exchanges = [info, *loading]
        exchanges += [
            (command(HostCommand.RUN, flags, image), answer)
            for flags, image, answer in zip((0, 1, 3), images, (RESULT, [*LAYER, *RESULT], LAYER), strict=True)
        ]
        for memory, bank in ((Memory.ACTIVATIONS_0, 0), (Memory.ACTIVATIONS_1, 1)):
            for core in (0, rng.randrange(1, CONFIG.cores)):
                count = rng.randint(0, 20)
                first = rng.choice((0, PAIRS[bank] - max(count, 1), rng.randrange(PAIRS[bank] - 20)))
                values = [pair(core, bank, n) for n in range(first, first + count)]
                words = [low & 0xFFFF | (high & 0xFFFF) << 16 for low, high in values]
                payload = [place(first, core), count]
                exchanges.append((command(HostCommand.READ, memory, payload), reply(Reply.DATA, payload=words)))
        exchanges.append((command(HostCommand.RESUME), RESULT))
        words = [logit(n) & 0xFFFF_FFFF for n in range(MAX_CLASSES)]
        exchanges.append((command(HostCommand.READ, Memory.LOGITS, [0, MAX_CLASSES]), reply(Reply.DATA, payload=words)))
        events = ["prepare", ("switch", 0), "run", "run", "run", "resume"]
        return bench(rng, exchanges, loads=loads, events=events, images=images)

    simulate(build, seed=seed, folder=tmp_path)


def out_of_range(memory, depth):
    """Payloads of WRITEs that would leave a memory."""
    yield [place(depth), 5]
    yield [place(depth - 1), 5, 6]
    yield [place(0, cores_of(memory) - 1), *range(depth + 1)]
    yield [place(0, cores_of(memory)), 5]
    yield [place(0, 255), 5]
    yield [place(0, 0, reserved=1), 5]
    yield [(1 << 32) - 1, 5]


def unreadable(memory, depth):
    """Payloads of READs that would leave a memory."""
    yield [place(depth), 1]
    yield [place(depth - 1), 2]
    yield [place(0), 1 << 31]
    yield [place(0), depth + 1]
    yield [place(0, cores_of(memory)), 1]
    yield [place(0, 0, reserved=128), 1]


def malformed_commands():
    """(words, reply) of commands that are refused without a program."""
    begin = (command(HostCommand.BEGIN), [])

    def each(words, code):
        return words, refused(words, code)

    yield each(command(0), ErrorCode.BAD_COMMAND)
    yield each(command(200, 3, [1, 2, 3]), ErrorCode.BAD_COMMAND)
    yield each(command(HostCommand.INFO, 0, [1]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.BEGIN, 0, [1, 2]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.READ, Memory.LOGITS, [1]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.READ, Memory.PROGRAM, [0, 1]), ErrorCode.BAD_MEMORY)
    yield each(command(HostCommand.WRITE, 0, [0, 1, 2]), ErrorCode.NOT_LOADING)
    yield each(command(HostCommand.COMMIT, 0, [0, 0]), ErrorCode.NOT_LOADING)
    yield each(command(HostCommand.RUN, 0, [0] * IMAGE_WORDS), ErrorCode.NO_PROGRAM)
    yield each(command(HostCommand.RESUME), ErrorCode.NOT_STEPPING)
    yield each(command(HostCommand.RESUME, 0, [1]), ErrorCode.NOT_STEPPING)
    for memory, depth in (
        (Memory.ACTIVATIONS_0, PAIRS[0]),
        (Memory.ACTIVATIONS_1, PAIRS[1]),
        (Memory.LOGITS, MAX_CLASSES),
    ):
        for payload in unreadable(memory, depth):
            yield command(HostCommand.READ, memory, payload), refused([], ErrorCode.BAD_ADDRESS, payload[0])
    yield begin
    yield each(command(HostCommand.WRITE, 0), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.COMMIT, 0, [0]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.COMMIT, 0, [0, 0, 0]), ErrorCode.BAD_LENGTH)
    yield each(command(HostCommand.WRITE, Memory.LOGITS, [0, 1]), ErrorCode.BAD_MEMORY)
    yield each(command(HostCommand.WRITE, Memory.LISTS.value + CONFIG.pes, [0, 1]), ErrorCode.BAD_MEMORY)
    for memory, depth in DEPTHS.items():
        for payload in out_of_range(memory, depth):
            yield command(HostCommand.WRITE, memory, payload), refused([], ErrorCode.BAD_ADDRESS, payload[0])
    # Nothing was written, but the places that were refused have entered the checksum.
    seen = [payload[:1] for memory, depth in DEPTHS.items() for payload in out_of_range(memory, depth)]
    yield command(HostCommand.COMMIT, 0, [checksum(), 0]), refused([], ErrorCode.BAD_CHECKSUM, checksum(*seen))
    # The refused COMMIT ended the loading.
    yield each(command(HostCommand.COMMIT, 0, [0, 0]), ErrorCode.NOT_LOADING)
    yield begin
    other = CONFIG.word_digest ^ 0x8000_0000
    yield command(HostCommand.COMMIT, 0, [checksum(), other]), refused([], ErrorCode.WRONG_CONFIG, CONFIG.word_digest)
    yield each(command(HostCommand.RUN, 0, [0] * IMAGE_WORDS), ErrorCode.NO_PROGRAM)


@pytest.mark.parametrize("stalls", [True, False])
def test_malformed_commands_are_refused_and_the_next_good_program_runs(tmp_path, stalls):
    def build(rng):
        loading, loads = good_load(rng)
        image = [rng.getrandbits(32) for _ in range(IMAGE_WORDS)]
        exchanges = [*malformed_commands(), *loading, (command(HostCommand.RUN, 0, image), RESULT)]
        return bench(
            rng, exchanges, loads=loads, events=["prepare", ("switch", 0), "run"], images=[image], stalls=stalls
        )

    simulate(build, seed=1, folder=tmp_path)


def test_what_is_refused_with_a_program_and_in_a_stepped_run(tmp_path):
    def build(rng):
        loading, loads = good_load(rng)
        image = [rng.getrandbits(32) for _ in range(IMAGE_WORDS)]
        short, long = (command(HostCommand.RUN, 0, [1] * n) for n in (IMAGE_WORDS - 1, IMAGE_WORDS + 1))
        running = [
            command(HostCommand.INFO),
            command(HostCommand.BEGIN),
            command(HostCommand.RUN, 0, image),
            command(HostCommand.WRITE, 0, [0, 1]),
            command(99, 0, [4, 5]),
        ]
        extra = command(HostCommand.RESUME, 0, [1])
        again = command(HostCommand.RUN, 0, image)
        exchanges = [
            *loading,
            *((words, refused(words, ErrorCode.BAD_LENGTH)) for words in (short, long)),
            (command(HostCommand.RUN, 3, image), LAYER),
            *((words, refused(words, ErrorCode.RUNNING)) for words in running),
            (extra, refused(extra, ErrorCode.BAD_LENGTH)),
            (command(HostCommand.RESUME), RESULT),
            # The refusals changed nothing; only BEGIN forgets the program.
            (again, RESULT),
            (command(HostCommand.BEGIN), []),
            (again, refused(again, ErrorCode.NO_PROGRAM)),
        ]
        events = ["prepare", ("switch", 0), "run", "resume", "run"]
        return bench(rng, exchanges, loads=loads, events=events, images=[image, image])

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("stalls", [True, False])
def test_runs_are_of_programs_that_were_accepted_and_can_be_served(tmp_path, stalls):
    """The payload of what is refused is skipped; programs beside it run."""

    def build(rng):
        loading, loads = good_load(rng, last=2)

        def of(program, more=0):
            image = [rng.getrandbits(32) for _ in range(IMAGE_WORDS + program + more)]
            flags = encode(RunFlags, report=0, step=0, constant=0, program=program)[0]
            return image, command(HostCommand.RUN, flags, image)

        runs = [of(0), of(2), of(0), of(0)]
        bad = [of(UNSERVABLE), of(UNSERVABLE, more=3), of(UNSERVABLE, more=-IMAGE_WORDS - UNSERVABLE)]
        # What is refused at once would be answered before the result; a READ waits for that.
        behind = command(HostCommand.READ, Memory.LOGITS, [0, 0]), reply(Reply.DATA)
        good = [(words + behind[0], RESULT + behind[1]) for _, words in runs]
        refusals = [(words, refused(words, ErrorCode.BAD_HEADER)) for _, words in bad]
        unknown = [(words, refused(words, ErrorCode.NO_PROGRAM)) for _, words in (of(3), of(31))]
        exchanges = [*loading, good[0], *refusals, good[1], *unknown, good[2], refusals[0], unknown[0], good[3]]
        switches = [("switch", number) for number in (0, UNSERVABLE, 2, 0, UNSERVABLE, 0)]
        events = ["prepare", switches[0], "run", *switches[1:3], "run", switches[3], "run", *switches[4:], "run"]
        return bench(rng, exchanges, loads=loads, events=events, images=[image for image, _ in runs], stalls=stalls)

    simulate(build, seed=1, folder=tmp_path)


def test_throughput_of_writing_and_reading(tmp_path):
    """A command word per cycle, a read word per five."""

    def build(rng):
        dut = reused(Surroundings)
        port = dut.port
        words, count = 60, 20
        loads, answers = [], []

        async def host(ctx):
            ctx.set(port.sequencer.idle, 1)
            ctx.set(port.o.ready, 1)
            await send(ctx, port.i, command(HostCommand.BEGIN), always())
            await send(ctx, port.i, command(HostCommand.WRITE, 0, [0, *range(words)]), always())
            await send(ctx, port.i, command(HostCommand.READ, Memory.LOGITS, [0, count]), always())
            await ctx.tick().repeat(5 * count + 20)

        async def watch(ctx):
            cycle = 0
            while True:
                _, _, load, answer = await ctx.tick().sample(port.load.valid, port.o.valid)
                loads.extend([cycle] * load)
                answers.extend([cycle] * answer)
                cycle += 1

        def check():
            assert [after - before for before, after in pairwise(loads)] == [1] * (words - 1)
            assert [after - before for before, after in pairwise(answers)] == [5] * count

        return Bench(dut=dut, testbenches=[host], background=[watch], check=check)

    simulate(build, seed=1, folder=tmp_path)
