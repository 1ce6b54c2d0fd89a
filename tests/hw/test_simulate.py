import pytest
from amaranth import Module
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tests.hw.simulate import Bench, always, receive, seldom, send, simulate


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
