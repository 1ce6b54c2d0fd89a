"""Memories that a host writes, reads and accepts."""

from itertools import pairwise

import pytest

from hw.program.protocol import (
    ErrorCode,
    HostCommand,
    Memory,
    Reply,
)
from tests.hw.host_port_bench import (
    CONFIG,
    DEPTHS,
    IMAGE_WORDS,
    PAIRS,
    Surroundings,
    bench,
    checksum,
    command,
    cores_of,
    good_load,
    logit,
    pair,
    place,
    refused,
    reply,
)
from tests.hw.simulate import Bench, always, reused, send, simulate


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


READABLE = {Memory.ACTIVATIONS_0: PAIRS[0], Memory.ACTIVATIONS_1: PAIRS[1], Memory.LOGITS: CONFIG.classes}
BEGIN = (command(HostCommand.BEGIN), [])


def refusal(kind, memory, payload, code, detail):
    """A command that is refused, and its answer."""
    return command(kind, memory, payload), refused([], code, detail)


@pytest.mark.parametrize("stalls", [True, False])
def test_places_outside_a_memory_are_refused_and_nothing_is_written(tmp_path, stalls):
    """Before the first word of a WRITE; the places that were refused have entered the checksum."""
    reads = [
        refusal(HostCommand.READ, memory, payload, ErrorCode.BAD_ADDRESS, payload[0])
        for memory, depth in READABLE.items()
        for payload in unreadable(memory, depth)
    ]
    beyond = [(memory, payload) for memory, depth in DEPTHS.items() for payload in out_of_range(memory, depth)]
    writes = [
        refusal(HostCommand.WRITE, memory, payload, ErrorCode.BAD_ADDRESS, payload[0]) for memory, payload in beyond
    ]
    seen = checksum(*(payload[:1] for _, payload in beyond))
    commit = command(HostCommand.COMMIT, 0, [seen, CONFIG.word_digest]), reply(Reply.READY)

    def build(rng):
        exchanges = [*reads, BEGIN, *writes, commit, *reads]
        return bench(rng, exchanges, events=["prepare"], stalls=stalls)

    simulate(build, seed=1, folder=tmp_path)


def test_programs_are_accepted_that_came_whole_and_are_for_this_config(tmp_path):
    """A refused COMMIT ends the loading, and no program is left."""

    def build(rng):
        loading, loads = good_load(rng)
        *writes, (commit, ready) = loading
        sent, digest = commit[1:]
        again = refused(commit, ErrorCode.NOT_LOADING)
        run = command(HostCommand.RUN, 0, [0] * IMAGE_WORDS)
        refusals = []
        for bit in (0, 17, 31):
            flipped = [sent ^ 1 << bit, digest], [sent, digest ^ 1 << bit]
            details = (ErrorCode.BAD_CHECKSUM, sent), (ErrorCode.WRONG_CONFIG, digest)
            for payload, (code, detail) in zip(flipped, details, strict=True):
                refusals += [*writes, refusal(HostCommand.COMMIT, 0, payload, code, detail)]
                refusals += [(commit, again), (run, refused(run, ErrorCode.NO_PROGRAM))]
        # The checksum begins anew with each BEGIN, and is of the words in their order.
        exchanges = [*refusals, *writes, (commit, ready)]
        return bench(rng, exchanges, loads=loads * 7, events=["prepare"], stalls=False)

    simulate(build, seed=1, folder=tmp_path, max_cycles=40_000)


def test_memories_are_read_to_their_last_word(tmp_path):
    """Of every core; of no word, too, and in two parts."""

    def build(rng):
        exchanges = []
        for bank, memory in enumerate((Memory.ACTIVATIONS_0, Memory.ACTIVATIONS_1)):
            for core in range(CONFIG.cores):
                middle = rng.randrange(PAIRS[bank])
                for first, last in ((PAIRS[bank] - 3, PAIRS[bank]), (middle, middle), (middle, middle + 1)):
                    values = [pair(core, bank, n) for n in range(first, last)]
                    words = [low & 0xFFFF | (high & 0xFFFF) << 16 for low, high in values]
                    payload = [place(first, core), last - first]
                    exchanges.append((command(HostCommand.READ, memory, payload), reply(Reply.DATA, payload=words)))
        for first, last in ((0, 5), (CONFIG.classes - 2, CONFIG.classes), (7, 7)):
            words = [logit(n) & 0xFFFF_FFFF for n in range(first, last)]
            payload = [place(first), last - first]
            exchanges.append((command(HostCommand.READ, Memory.LOGITS, payload), reply(Reply.DATA, payload=words)))
        rng.shuffle(exchanges)
        return bench(rng, exchanges)

    simulate(build, seed=1, folder=tmp_path)


def test_throughput_of_writing_and_reading(tmp_path):
    """A command word per cycle, a read word per six."""

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
            await ctx.tick().repeat(6 * count + 20)

        async def watch(ctx):
            cycle = 0
            while True:
                _, _, load, answer = await ctx.tick().sample(port.load.valid, port.o.valid)
                loads.extend([cycle] * load)
                answers.extend([cycle] * answer)
                cycle += 1

        def check():
            assert [after - before for before, after in pairwise(loads)] == [1] * (words - 1)
            assert [after - before for before, after in pairwise(answers)] == [6] * count

        return Bench(dut=dut, testbenches=[host], background=[watch], check=check)

    simulate(build, seed=1, folder=tmp_path)
