"""The streams as AXI4-Stream: null bytes, packets, stalls, reset amid a reply."""

import random

import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.program.bits import encode
from hw.program.protocol import ErrorCode, Reply, ReplyHeader
from hw.rtl.axi_stream import AxiStream
from hw.rtl.structs import Burst


class Echo(wiring.Component):
    """Says every word again, a cycle later; asks external memory for the word and says what comes, where it has one."""

    def __init__(self, beat_bits=0):
        reader = {"request": Out(stream.Signature(Burst)), "weights": In(stream.Signature(beat_bits or 1))}
        host = {"i": In(stream.Signature(32)), "o": Out(stream.Signature(32))}
        super().__init__(host | (reader if beat_bits else {}))
        self._reads = bool(beat_bits)

    def elaborate(self, platform):
        m = Module()
        if self._reads:
            m.d.comb += [
                self.request.payload.address.eq(self.i.payload),
                self.request.payload.beats.eq(1),
                self.request.valid.eq(self.i.valid),
                self.i.ready.eq(self.request.ready),
                self.o.payload.eq(self.weights.payload),
                self.o.valid.eq(self.weights.valid),
                self.weights.ready.eq(self.o.ready),
            ]
            return m
        full, word = Signal(), Signal(32)
        m.d.comb += [self.i.ready.eq(~full | self.o.ready), self.o.valid.eq(full), self.o.payload.eq(word)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [full.eq(1), word.eq(self.i.payload)]
        with m.Elif(self.o.ready):
            m.d.sync += full.eq(0)
        return m


def header(length: int) -> int:
    return encode(ReplyHeader, reply=Reply.DATA, code=ErrorCode.NONE, length=length)[0]


def simulated(dut: AxiStream, *processes) -> None:
    """Run for 2,000 cycles at most; the clock is the port's, which the simulator drives as any signal."""

    async def clock(ctx):
        while True:
            ctx.set(dut.aclk, 0)
            await ctx.delay(5e-9)
            ctx.set(dut.aclk, 1)
            await ctx.delay(5e-9)

    simulator = Simulator(dut)
    simulator.add_process(clock)
    for process in processes:
        simulator.add_testbench(process)
    simulator.run_until(20e-6)


async def edge(ctx, dut):
    await ctx.posedge(dut.aclk)


def exchanged(beats: list[tuple[int, int]], count: int, seed: int):
    """Words that come out, with ``tlast``, of beats (word, tkeep) that go in, both with random stalls."""
    dut, found = AxiStream(Echo()), []

    async def send(ctx):
        rng = random.Random(seed)
        ctx.set(dut.aresetn, 1)
        for word, keep in beats:
            while rng.random() < 0.3:
                await edge(ctx, dut)
            ctx.set(dut.s_axis_tdata, word)
            ctx.set(dut.s_axis_tkeep, keep)
            ctx.set(dut.s_axis_tlast, rng.getrandbits(1))
            ctx.set(dut.s_axis_tvalid, 1)
            await ctx.delay(1e-9)
            while not ctx.get(dut.s_axis_tready):
                await edge(ctx, dut)
                await ctx.delay(1e-9)
            await edge(ctx, dut)
            await ctx.delay(1e-10)
            ctx.set(dut.s_axis_tvalid, 0)

    async def receive(ctx):
        rng = random.Random(seed + 1)
        while len(found) < count:
            ready = rng.random() < 0.6
            ctx.set(dut.m_axis_tready, ready)
            await ctx.delay(1e-9)
            if ready and ctx.get(dut.m_axis_tvalid):
                assert ctx.get(dut.m_axis_tkeep) == 0xF
                found.append((ctx.get(dut.m_axis_tdata), ctx.get(dut.m_axis_tlast)))
            await edge(ctx, dut)
            await ctx.delay(1e-10)

    simulated(dut, send, receive)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_replies_are_packets(seed):
    """Whatever their lengths: 0, 1 and the most that a few words can have."""
    rng = random.Random(seed)
    replies = [[header(length), *(rng.getrandbits(32) for _ in range(length))] for length in (0, 1, 3, 0, 0, 12, 2)]
    words = [word for reply in replies for word in reply]
    lasts = [int(place == len(reply)) for reply in replies for place in range(1, len(reply) + 1)]
    found = exchanged([(word, 0xF) for word in words], len(words), seed)
    assert found == list(zip(words, lasts, strict=True))


def test_null_bytes_are_zeros_and_null_beats_nothing():
    beats = [(header(3), 0xF), (0xFFFFFFFF, 0), (0x44332211, 0x3), (0x44332211, 0xC), (0, 0), (0x44332211, 0x1)]
    found = exchanged(beats, 4, 5)
    assert found == [(header(3), 0), (0x2211, 0), (0x44330000, 0), (0x11, 1)]


def test_null_beats_wait_for_nobody():
    """A word that nobody takes holds the next one back, and no beat without bytes."""
    dut, ready = AxiStream(Echo()), []

    async def process(ctx):
        ctx.set(dut.aresetn, 1)
        ctx.set(dut.s_axis_tkeep, 0xF)
        ctx.set(dut.s_axis_tvalid, 1)
        await edge(ctx, dut)
        for keep in (0xF, 0):
            ctx.set(dut.s_axis_tkeep, keep)
            await ctx.delay(1e-10)
            ready.append(ctx.get(dut.s_axis_tready))

    simulated(dut, process)
    assert ready == [0, 1]


@pytest.mark.parametrize("words", [1, 4])
def test_after_reset_the_next_word_is_a_header(words):
    """However many words of a reply of 9 were out."""
    dut, lasts = AxiStream(Echo()), []

    async def process(ctx):
        ctx.set(dut.s_axis_tkeep, 0xF)
        ctx.set(dut.s_axis_tvalid, 1)
        ctx.set(dut.m_axis_tready, 1)
        for resetn, word in [(1, header(9))] * (words + 1) + [(0, 0), (1, header(0)), (1, 0)]:
            ctx.set(dut.aresetn, resetn)
            ctx.set(dut.s_axis_tdata, word)
            await edge(ctx, dut)
            await ctx.delay(1e-10)
        lasts.append((ctx.get(dut.m_axis_tvalid), ctx.get(dut.m_axis_tlast)))

    simulated(dut, process)
    assert lasts == [(1, 1)]


def test_external_memory_is_asked_and_heard():
    dut, found = AxiStream(Echo(64), 64), []

    async def process(ctx):
        ctx.set(dut.aresetn, 1)
        ctx.set(dut.s_axis_tdata, 0x89ABCDEF)
        ctx.set(dut.s_axis_tkeep, 0xF)
        ctx.set(dut.s_axis_tvalid, 1)
        ctx.set(dut.s_axis_weights_tdata, 0x1_8000_0001)
        for ready, valid in ((0, 1), (1, 0), (1, 1)):
            ctx.set(dut.m_axis_request_tready, ready)
            ctx.set(dut.s_axis_weights_tvalid, valid)
            ctx.set(dut.m_axis_tready, ready)
            await ctx.delay(1e-9)
            names = ("m_axis_request_tdata", "m_axis_request_tvalid", "s_axis_tready", "m_axis_tdata", "m_axis_tvalid")
            found.append([ctx.get(getattr(dut, name)) for name in (*names, "s_axis_weights_tready")])

    simulated(dut, process)
    burst, low = 1 << 32 | 0x89ABCDEF, 0x80000001
    assert found == [[burst, 1, 0, low, 1, 0], [burst, 1, 1, low, 0, 1], [burst, 1, 1, low, 1, 1]]
