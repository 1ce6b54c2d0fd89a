"""The loader with a random external memory, in runs that end in time or too soon."""

from collections import deque

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import memory, wiring

from hw.config import AcceleratorConfig
from hw.program.bits import encode
from hw.program.chunks import ChunkRows, pack_chunk
from hw.program.isa import Chunk
from hw.rtl.loader import Loader
from tests.hw.simulate import Bench, always, reused, seldom, simulate

TABLE = 5


class Surroundings(wiring.Component):
    """A loader and the program memory."""

    def __init__(self, config):
        self.loader = Loader(config)
        self.program = memory.MemoryData(shape=32, depth=64, init=[])
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.loader = self.loader
        m.submodules.program = program = memory.Memory(self.program)
        read = program.read_port()
        m.d.comb += [
            read.addr.eq(self.loader.table.address),
            read.en.eq(1),
            self.loader.table.data.eq(read.data),
        ]
        return m


class External:
    """External memory: what it was asked for, and a beat in the cycles that its ``go`` says."""

    def __init__(self, loader, words, go, asks):
        self._loader, self._words, self._go, self._asks = loader, words, go, asks
        self.bursts = []

    async def act(self, ctx):
        loader, queue = self._loader, deque()
        offered = False
        while True:
            ready = next(self._asks)
            ctx.set(loader.request.ready, ready)
            if not offered and queue and next(self._go):
                offered = True
                ctx.set(loader.weights.payload, queue[0])
            ctx.set(loader.weights.valid, offered)
            _, _, valid, burst, taken, finished = await ctx.tick().sample(
                loader.request.valid, loader.request.payload, loader.weights.ready, loader.run.finished
            )
            if offered and taken:
                queue.popleft()
                offered = False
            if valid and ready:
                self.bursts.append((burst.address, burst.beats, finished))
                queue.extend(self._words[burst.address : burst.address + burst.beats])


class Rows:
    """What was written."""

    def __init__(self, loader):
        self._loader = loader
        self.found = []

    async def act(self, ctx):
        while True:
            _, _, valid, row = await ctx.tick().sample(self._loader.row.valid, self._loader.row.payload)
            if valid:
                self.found.append((row.cores, row.address, tuple(row.words)))


def random_chunk(rng, config):
    """Segments of a chunk, and the rows they are."""
    segments = []
    for _ in range(rng.randint(1, 3)):
        rows, cores = rng.randint(1, 6), sorted(rng.sample(range(8), rng.randint(1, 8)))
        words = np.array([[rng.randrange(1 << 18) for _ in range(config.pes)] for _ in range(rows)], dtype=np.uint32)
        segments.append(ChunkRows(cores=tuple(cores), address=rng.randrange(config.list_words - rows), words=words))
    rows = [
        (sum(1 << core for core in s.cores), s.address + n, tuple(int(w) for w in s.words[n]))
        for s in segments
        for n in range(len(s.words))
    ]
    return pack_chunk(segments, config), rows


@pytest.mark.parametrize(("pes", "width"), [(2, 1), (4, 1), (4, 4), (8, 1), (8, 2)])
@pytest.mark.parametrize("stalls", [False, True])
def test_chunks_come_whole_and_in_order(tmp_path, pes, width, stalls):
    """Runs that see all chunks, and runs that end early: these leave nothing behind."""
    config = AcceleratorConfig(pes=pes, list_words=256, loader=width)

    def build(rng):
        chunks = [random_chunk(rng, config) for _ in range(4)]
        afters = sorted(rng.randrange(4) for _ in chunks)
        words, table, expected = [], [0] * TABLE, []
        for (beats, _), after in zip(chunks, afters, strict=True):
            joined = [sum(int(w) << 32 * n for n, w in enumerate(beat)) for beat in beats.reshape(-1, width)]
            expected.append((len(words), len(joined), after))
            table += encode(Chunk, address=len(words), beats=len(joined), after=after)
            words += joined
        dut = reused(Surroundings, config)
        loader = dut.loader
        go, asks, counts = (seldom(rng, 0.4) if stalls else always() for _ in range(3))
        external, rows = External(loader, words, go, asks), Rows(loader)

        async def tick(ctx, running):
            ctx.set(loader.run.running, running)
            await ctx.tick()

        async def drive(ctx):
            ctx.set(loader.run.chunk_table, TABLE)
            ctx.set(loader.run.chunks, len(chunks))
            for whole in (True, False, True, False, False, True):
                external.bursts.clear()
                rows.found.clear()
                ctx.set(loader.run.finished, 0)
                ctx.set(loader.run.active, 1)
                left = None if whole else rng.randrange(60)
                while ctx.get(loader.run.written) < len(chunks) if whole else left > 0:
                    running = next(counts)
                    left = None if whole else left - 1
                    if running and rng.random() < 0.05:
                        ctx.set(loader.run.finished, min(ctx.get(loader.run.finished) + 1, 4))
                    await tick(ctx, running)
                seen = ctx.get(loader.run.written)
                for _ in range(Loader.WRITE):
                    await tick(ctx, 0)
                done = [row for _, written in chunks[:seen] for row in written]
                assert rows.found[: len(done)] == done
                assert not whole or len(rows.found) == len(done)
                ctx.set(loader.run.active, 0)
                await tick(ctx, 0)
                while ctx.get(loader.run.busy):
                    await tick(ctx, 0)
                assert [burst[:2] for burst in external.bursts] == [e[:2] for e in expected[: len(external.bursts)]]
                assert not whole or len(external.bursts) == len(chunks)
                assert all(b[2] >= e[2] for b, e in zip(external.bursts, expected, strict=False))

        return Bench(dut=dut, testbenches=[drive], background=[external.act, rows.act], memories={dut.program: table})

    simulate(build, seed=pes + width + stalls, folder=tmp_path)


def test_beats_that_nobody_asked_for_are_dropped(tmp_path):
    """What an external memory sends too much leaves no trace: the chunk behind it comes whole, and nothing is due."""
    config = AcceleratorConfig(pes=8, list_words=256, loader=1)

    def build(rng):
        words = np.array([[1] * 8, [2] * 8], dtype=np.uint32)
        beats = pack_chunk([ChunkRows(cores=(0,), address=3, words=words)], config).tolist()
        dut = reused(Surroundings, config)
        loader = dut.loader
        rows = Rows(loader)

        async def drive(ctx):
            ctx.set(loader.weights.payload, beats[0])
            ctx.set(loader.weights.valid, 1)
            await ctx.tick().repeat(3)
            ctx.set(loader.weights.valid, 0)
            assert not ctx.get(loader.run.busy)
            for signal, value in (
                (loader.run.chunk_table, TABLE),
                (loader.run.chunks, 1),
                (loader.run.active, 1),
                (loader.run.running, 1),
            ):
                ctx.set(signal, value)
            ctx.set(loader.request.ready, 1)
            await ctx.tick().until(loader.request.valid)
            ctx.set(loader.weights.valid, 1)
            for beat in beats:
                ctx.set(loader.weights.payload, beat)
                await ctx.tick()
            ctx.set(loader.weights.valid, 0)
            await ctx.tick().repeat(Loader.WRITE)
            assert [(address, values) for _, address, values in rows.found] == [(3, (1,) * 8), (4, (2,) * 8)]
            assert ctx.get(loader.run.written) == 1
            assert not ctx.get(loader.run.busy)

        table = [0] * TABLE + encode(Chunk, address=0, beats=len(beats), after=0)
        return Bench(dut=dut, testbenches=[drive], background=[rows.act], memories={dut.program: table})

    simulate(build, seed=0, folder=tmp_path)


def test_requests_and_beats_take_the_stated_cycles(tmp_path):
    """From the first cycle on, with a memory that answers at once."""
    config = AcceleratorConfig(pes=8, list_words=256, loader=1)

    def build(rng):
        words = np.array([[1] * 8, [2] * 8], dtype=np.uint32)
        beats = pack_chunk([ChunkRows(cores=(0,), address=3, words=words)], config).tolist()
        table = [0] * TABLE + encode(Chunk, address=0, beats=len(beats), after=0) * 2
        dut = reused(Surroundings, config)
        loader = dut.loader
        seen = {"request": [], "row": [], "written": []}

        async def watch(ctx):
            cycle = 0
            while True:
                _, _, active, asked, row, written = await ctx.tick().sample(
                    loader.run.active, loader.request.valid, loader.row.valid, loader.run.written
                )
                for name, happens in (("request", asked), ("row", row), ("written", written > len(seen["written"]))):
                    if active and happens:
                        seen[name].append(cycle)
                cycle += active

        async def drive(ctx):
            for signal, value in (
                (loader.run.chunk_table, TABLE),
                (loader.run.chunks, 2),
                (loader.run.active, 1),
                (loader.run.running, 1),
            ):
                ctx.set(signal, value)
            ctx.set(loader.request.ready, 1)
            for _ in range(60):
                await ctx.tick()
            period = Loader.REQUEST_CYCLES
            assert seen["request"] == [period, 2 * period]
            first = period + 1  # the memory's first beat
            second = first + len(beats)
            ends = [start + n for start in (first, second) for n in (config.list_row_beats, 2 * config.list_row_beats)]
            assert seen["row"] == [end + 1 for end in ends]
            assert seen["written"] == [ends[1] + 1, ends[3] + 1]

        external = External(loader, beats, always(), always())
        return Bench(dut=dut, testbenches=[drive], background=[external.act, watch], memories={dut.program: table})

    simulate(build, seed=0, folder=tmp_path)
