"""The whole accelerator behind its two streams: one small network with stalls on both, and a reset in the middle."""

import numpy as np
import pytest
from amaranth import ResetInserter, Signal
from amaranth.hdl import Elaboratable

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import DEFAULT
from hw.network.network import INPUT
from hw.program.bits import encode
from hw.program.program import Program
from hw.program.protocol import (
    PROTOCOL_VERSION,
    Commit,
    ErrorCode,
    HostCommand,
    LayerRecord,
    Memory,
    Reply,
    RunFlags,
    RunOptions,
    RunResult,
)
from hw.rtl.accelerator import Accelerator
from models.integer import golden
from sim import simulate as simulated
from tests.hw.host_port_bench import checksum, command, place, refused, reply
from tests.hw.machine import map_words
from tests.hw.partitions import only
from tests.hw.simulate import Bench, always, receive, reused, seldom, send, simulate
from tests.random_networks import NetworkMaker

SIZES = {"list_words": 128, "accumulators": 64, "activation_words": 32, "layer_words": 128, "channel_words": 32}
CONFIG = preset("tiny").replace(cores=2, pes=2, selector=0, program_words=32, **SIZES)
INFO = command(HostCommand.INFO), reply(Reply.INFO, payload=[PROTOCOL_VERSION, CONFIG.word_digest])
TAG = 77


@pytest.fixture(scope="module")
def program() -> Program:
    maker = NetworkMaker(np.random.default_rng(1), (3, 2, 2))
    maker.head(maker.conv(INPUT, 3, (2, 1), density=0.8), 2)
    with pytest.MonkeyPatch.context() as patch:
        only(patch, bands=2)
        return compile_network(maker.network("small"), CONFIG)


class Resettable(Elaboratable):
    """An accelerator with a reset of its own."""

    def __init__(self):
        self.accelerator, self.reset = Accelerator(CONFIG), Signal()

    def elaborate(self, platform):
        return ResetInserter(self.reset)(self.accelerator)


def dense(program: Program) -> np.ndarray:
    """An image of random codes."""
    return np.random.default_rng(1).integers(-128, 128, program.network.input.shape).astype(np.int8)


def loaded(program: Program) -> tuple[list[int], list[int]]:
    """Commands that load a program, and their answer."""
    payloads = [(memory, [place(0, core), *words.tolist()]) for memory, core, words in program.writes()]
    words = command(HostCommand.BEGIN)
    for memory, payload in payloads:
        words += command(HostCommand.WRITE, memory, payload)
    accepted = encode(Commit, checksum=checksum(*(payload for _, payload in payloads)), digest=CONFIG.word_digest)
    return words + command(HostCommand.COMMIT, 0, accepted), reply(Reply.READY)


def run(program: Program, codes: np.ndarray) -> tuple[list[int], list[int]]:
    """A run with records of its layers, and all that must come of it by golden model and simulator."""
    image = np.pad(codes.reshape(-1), (0, -codes.size % 4)).view(np.uint32).tolist()
    options = encode(RunOptions, **DEFAULT.options(), tag=TAG)
    (flags,) = encode(RunFlags, report=1, step=0, constant=0, program=0)
    wanted, timed = golden.run(program.network, codes[None]), simulated(program, codes[None])
    replies = []
    for index in range(len(program.commands)):
        counts = {name: int(getattr(timed, name)[0, index]) for name in ("products", "stalls")}
        fields = counts | {"cycles": int(timed.layer_cycles[0, index]), "index": index, "tag": TAG, "waited": 0}
        replies += reply(Reply.LAYER, payload=encode(LayerRecord, **fields))
    names = ("exit", "early_label", "early_exit", "out_of_range", "forced", "passed", "differs", "overrun")
    result = dict.fromkeys(names, 0) | {"label": int(wanted.classes[0]), "margin": int(wanted.margins[0, 0])}
    result |= {"cycles": int(timed.cycles[0]), "tag": TAG}
    return command(HostCommand.RUN, flags, [*options, *image]), replies + reply(
        Reply.RESULT, payload=encode(RunResult, **result)
    )


def reads(program: Program, codes: np.ndarray):
    """READs of the image, of which each core keeps another part, and of the logits."""
    wanted, decoded = golden.run(program.network, codes[None]), program.decoded
    words = map_words(codes.astype(int) - decoded.header.image_zero_point)
    assert all(window.count for window in decoded.windows)
    assert len({window.low for window in decoded.windows}) == CONFIG.cores
    for core, window in enumerate(decoded.windows):
        pairs = words[window.low : window.end].reshape(-1, 2).tolist()
        payload = [place(4 * window.base, core), len(pairs)]
        answer = [low & 0xFFFF | (high & 0xFFFF) << 16 for low, high in pairs]
        memory = (Memory.ACTIVATIONS_0, Memory.ACTIVATIONS_1)[window.bank]
        yield command(HostCommand.READ, memory, payload), reply(Reply.DATA, payload=answer)
    logits = [int(logit) & 0xFFFF_FFFF for logit in wanted.logits[0][0]]
    yield command(HostCommand.READ, Memory.LOGITS, [place(0), 2]), reply(Reply.DATA, payload=logits)


async def exchange(ctx, accelerator, exchanges, rng):
    """Commands with gaps between their words, their answers taken as they come, one after the other."""
    for words, replies in exchanges:
        await send(ctx, accelerator.i, words, seldom(rng, 0.8))
        assert await receive(ctx, accelerator.o, len(replies), seldom(rng, 0.5)) == replies


def test_a_network_runs_whatever_the_host_holds_up(tmp_path, program):
    codes = dense(program)

    def build(rng):
        dut = reused(Resettable)

        async def drive(ctx):
            again = [run(program, codes), *reads(program, codes)]
            await exchange(ctx, dut.accelerator, [INFO, loaded(program), *again, INFO], rng)

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)


def test_a_reset_in_the_middle_of_a_command_forgets_the_program(tmp_path, program):
    """It is the way out for a host that went away in the middle of one."""
    codes = dense(program)

    def build(rng):
        dut = reused(Resettable)

        async def drive(ctx):
            await exchange(ctx, dut.accelerator, [loaded(program)], rng)
            asked, _ = run(program, codes)
            for cut in (1, len(asked) - 1, len(asked)):
                await send(ctx, dut.accelerator.i, asked[:cut], always())
                await ctx.tick().repeat(rng.randint(1, 20))
                ctx.set(dut.reset, 1)
                await ctx.tick()
                ctx.set(dut.reset, 0)
                await exchange(ctx, dut.accelerator, [INFO, (asked, refused(asked, ErrorCode.NO_PROGRAM))], rng)

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=2, folder=tmp_path)


@pytest.mark.parametrize("loader", [0, 2])
def test_only_a_loader_needs_external_memory(loader):
    ports = set(Accelerator(CONFIG.replace(loader=loader)).signature.members)
    assert ports == {"i", "o"} | ({"request", "weights"} if loader else set())
