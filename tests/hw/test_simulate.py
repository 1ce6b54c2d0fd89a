import pytest
from amaranth import Module
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tests.hw.simulate import Bench, always, receive, reused, seldom, send, simulate


class Queue(wiring.Component):
    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=8, depth=4)
        connect(m, flipped(self.i), queue.w_stream)
        connect(m, queue.r_stream, flipped(self.o))
        return m


def bench(rng, *, ready, wrong=None, drawn=None):
    dut = Queue()
    data = [rng.randrange(256) for _ in range(50)]
    found = []
    if drawn is not None:
        drawn.append(data)

    async def source(ctx):
        await send(ctx, dut.i, data, seldom(rng, 0.5))

    async def sink(ctx):
        found.extend(await receive(ctx, dut.o, len(data), ready(rng)))
        if wrong == "testbench":
            raise ValueError("wrong in a testbench")

    def check():
        assert found == data
        assert wrong != "check"

    return Bench(dut=dut, testbenches=[source, sink], check=check)


@pytest.mark.parametrize("ready", [lambda rng: always(), lambda rng: seldom(rng, 0.3)])
def test_streams_lose_nothing_and_a_passing_run_writes_nothing(tmp_path, ready):
    simulate(lambda rng: bench(rng, ready=ready), seed=1, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("wrong", "kind"), [("testbench", ValueError), ("check", AssertionError)])
def test_a_failure_is_repeated_with_a_waveform(tmp_path, wrong, kind):
    drawn = []
    with pytest.raises(kind) as caught:
        simulate(lambda rng: bench(rng, ready=lambda rng: always(), wrong=wrong, drawn=drawn), seed=7, folder=tmp_path)
    waveform = tmp_path / "seed_7.vcd"
    assert caught.value.__notes__ == [f"seed 7, waveform {waveform}"]
    assert waveform.read_text().startswith("$")
    assert len(drawn) == 2
    assert drawn[0] == drawn[1]


def test_a_bench_that_waits_for_ever_is_stopped(tmp_path):
    def never(rng):
        return iter(lambda: False, True)

    with pytest.raises(TimeoutError, match="still wait after 300 cycles"):
        simulate(lambda rng: bench(rng, ready=never), seed=2, folder=tmp_path, max_cycles=300)


class Table(wiring.Component):
    address: In(2)
    data: Out(8)

    def __init__(self):
        self.rows = memory.MemoryData(shape=8, depth=4, init=[1, 2, 3, 4])
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(self.rows)
        read = rows.read_port()
        m.d.comb += [read.addr.eq(self.address), read.en.eq(1), self.data.eq(read.data)]
        return m


@pytest.mark.parametrize("held", [[9, 8], [7]])
def test_memories_hold_what_they_are_told_and_their_initial_values(tmp_path, held):
    def build(rng):
        dut = reused(Table)

        async def drive(ctx):
            for address, value in enumerate(held + [1, 2, 3, 4][len(held) :]):
                ctx.set(dut.address, address)
                await ctx.tick()
                assert ctx.get(dut.data) == value

        return Bench(dut=dut, testbenches=[drive], memories={dut.rows: held})

    simulate(build, seed=1, folder=tmp_path)


def test_benches_of_one_unit_begin_at_reset(tmp_path):
    """Whatever the one before has left in it, and left undone."""
    units = []

    def build(rng):
        dut = reused(Queue)
        units.append(dut)

        async def drive(ctx):
            assert not ctx.get(dut.o.valid)
            await send(ctx, dut.i, [1, 2, 3], always())
            await ctx.tick()
            assert ctx.get(dut.o.payload) == 1

        async def wait(ctx):
            await receive(ctx, dut.o, 1, seldom(rng, 0.0))

        return Bench(dut=dut, testbenches=[drive], background=[wait])

    for seed in (1, 2):
        simulate(build, seed=seed, folder=tmp_path)
    assert units[0] is units[1]
    assert reused(Queue) is units[0]
