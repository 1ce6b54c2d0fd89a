import pytest
from amaranth import Module
from amaranth.lib import memory, wiring

from hw.program import isa
from hw.program.bits import bits_of, decode, words_of
from hw.rtl.fetcher import Fetcher
from hw.rtl.structs import struct
from tests.hw.simulate import Bench, reused, simulate

WORDS = 7
DEPTH = 64


class Surroundings(wiring.Component):
    """A fetcher and the memory it reads."""

    def __init__(self):
        self.fetcher = Fetcher(WORDS)
        self.ram = memory.MemoryData(shape=32, depth=DEPTH, init=[])
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetcher = fetcher = self.fetcher
        m.submodules.ram = ram = memory.Memory(self.ram)
        read = ram.read_port()
        m.d.comb += [read.addr.eq(fetcher.read.address), read.en.eq(1), fetcher.read.data.eq(read.data)]
        return m


@pytest.mark.parametrize("seed", [1, 2])
def test_words_are_in_view_when_done_and_stay(tmp_path, seed):
    def build(rng):
        contents = [rng.getrandbits(32) for _ in range(DEPTH)]
        dut = reused(Surroundings)
        fetcher = dut.fetcher

        async def drive(ctx):
            for count in [*range(1, WORDS + 1), *(rng.randint(1, WORDS) for _ in range(20))]:
                first = rng.randrange(DEPTH - count + 1)
                ctx.set(fetcher.start, 1)
                ctx.set(fetcher.first, first)
                ctx.set(fetcher.count, count)
                await ctx.tick()
                ctx.set(fetcher.start, 0)
                ctx.set(fetcher.first, rng.randrange(DEPTH))
                ctx.set(fetcher.count, rng.randrange(WORDS))
                for _ in range(Fetcher.cycles(count) - 1):
                    assert not ctx.get(fetcher.done)
                    await ctx.tick()
                assert ctx.get(fetcher.done)
                wanted = sum(word << 32 * n for n, word in enumerate(contents[first : first + count]))
                for _ in range(rng.randrange(4)):
                    assert ctx.get(fetcher.words) >> 32 * (WORDS - count) == wanted
                    await ctx.tick()
                    assert not ctx.get(fetcher.done)
                assert ctx.get(fetcher.words) >> 32 * (WORDS - count) == wanted

        return Bench(dut=dut, testbenches=[drive], memories={dut.ram: contents})

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("layout", [isa.Operation, isa.Decision, isa.Target])
def test_top_is_the_layout_fetched_last(tmp_path, layout):
    def build(rng):
        contents = [rng.getrandbits(32) for _ in range(DEPTH)]
        dut = reused(Surroundings)
        fetcher, count = dut.fetcher, words_of(layout)

        async def drive(ctx):
            for first in (3, 20):
                ctx.set(fetcher.start, 1)
                ctx.set(fetcher.first, first)
                ctx.set(fetcher.count, count)
                await ctx.tick()
                ctx.set(fetcher.start, 0)
                await ctx.tick().repeat(Fetcher.cycles(count))
                top = ctx.get(fetcher.top(struct(layout)).as_value())
                words = [top >> 32 * n & 0xFFFF_FFFF for n in range(count)]
                wanted = contents[first : first + count]
                wanted[-1] &= (1 << (bits_of(layout) - 32 * (count - 1))) - 1
                assert words == wanted
                assert decode(layout, words) == decode(layout, wanted)

        return Bench(dut=dut, testbenches=[drive], memories={dut.ram: contents})

    simulate(build, seed=1, folder=tmp_path)
