import random

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect
from amaranth.sim import Simulator

from fpga.baud import words_per_second
from fpga.gateware.uart import ByteReceiver, ByteTransmitter, WordAssembler, WordSplitter

CYCLES = 8


def run(dut, *testbenches):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    simulator.run()


async def send(ctx, line, byte, *, cycles=CYCLES, stop=1):
    """One frame, then the line is high again."""
    for bit in [0, *((byte >> n & 1) for n in range(8)), stop]:
        ctx.set(line, bit)
        await ctx.tick().repeat(cycles)
    ctx.set(line, 1)


async def collect(ctx, dut, count, most=20_000):
    """Bytes that the receiver delivers, and breaks as "break"."""
    found = []
    for _ in range(most):
        if len(found) == count:
            return found
        if ctx.get(dut.o.valid):
            found.append(ctx.get(dut.o.payload))
        if ctx.get(dut.broken):
            found.append("break")
        await ctx.tick()
    raise TimeoutError(f"only {found} of {count} after {most} cycles")


@pytest.mark.parametrize("skew", [0, 1])
def test_receiver_takes_every_byte_and_bits_of_unequal_length(skew):
    """A sender whose bits are 4 % longer than the receiver's must be understood."""
    dut = ByteReceiver(24)
    sent = [random.Random(1).randrange(256) for _ in range(40)] + [0x00, 0xFF, 0x55]

    async def sender(ctx):
        for byte in sent:
            await send(ctx, dut.line, byte, cycles=24 + skew)

    async def receiver(ctx):
        assert await collect(ctx, dut, len(sent)) == sent

    run(dut, sender, receiver)


def test_receiver_ignores_a_glitch_and_reports_a_break_once():
    dut = ByteReceiver(CYCLES)

    async def sender(ctx):
        ctx.set(dut.line, 0)
        await ctx.tick().repeat(2)
        ctx.set(dut.line, 1)
        await ctx.tick().repeat(3 * CYCLES)
        await send(ctx, dut.line, 0x31)
        ctx.set(dut.line, 0)
        await ctx.tick().repeat(40 * CYCLES)
        ctx.set(dut.line, 1)
        await ctx.tick().repeat(CYCLES)
        await send(ctx, dut.line, 0x32)

    async def receiver(ctx):
        assert await collect(ctx, dut, 3) == [0x31, "break", 0x32]

    run(dut, sender, receiver)


class Loop(wiring.Component):
    """Words to bytes to a line and back to words."""

    o: Out(WordAssembler().o.signature)

    def __init__(self):
        super().__init__()
        self.splitter = WordSplitter()

    def elaborate(self, platform):
        m = Module()
        m.submodules.splitter = splitter = self.splitter
        m.submodules.transmitter = transmitter = ByteTransmitter(CYCLES)
        m.submodules.receiver = receiver = ByteReceiver(CYCLES)
        m.submodules.assembler = assembler = WordAssembler()
        connect(m, splitter.o, transmitter.i)
        connect(m, receiver.o, assembler.i)
        m.d.comb += [
            receiver.line.eq(transmitter.line),
            self.o.valid.eq(assembler.o.valid),
            self.o.payload.eq(assembler.o.payload),
        ]
        return m


def test_words_survive_the_line_with_random_pauses():
    dut = Loop()
    generator = random.Random(2)
    sent = [generator.randrange(1 << 32) for _ in range(30)]

    async def sender(ctx):
        for word in sent:
            await ctx.tick().repeat(generator.choice([1, 1, 7, 200]))
            ctx.set(dut.splitter.i.payload, word)
            ctx.set(dut.splitter.i.valid, 1)
            await ctx.tick().until(dut.splitter.i.ready)
            ctx.set(dut.splitter.i.valid, 0)

    async def receiver(ctx):
        found = []
        for _ in range(30 * 4 * 11 * CYCLES + 30 * 200):
            if ctx.get(dut.o.valid):
                found.append(ctx.get(dut.o.payload))
            await ctx.tick()
        assert found == sent

    run(dut, sender, receiver)


def test_words_per_second_are_the_lines():
    """Words without pauses, but for a cycle of the transmitter's own after each byte."""
    dut, count, ends = Loop(), 6, []

    async def sender(ctx):
        ctx.set(dut.splitter.i.valid, 1)
        await ctx.tick().repeat(count * 4 * 11 * CYCLES)

    async def receiver(ctx):
        for now in range(count * 4 * 11 * CYCLES):
            if ctx.get(dut.o.valid):
                ends.append(now)
            await ctx.tick()

    run(dut, sender, receiver)
    assert len(ends) >= count
    word = (ends[count - 1] - ends[0]) / (count - 1)
    baud = 1_000_000
    cycles = CYCLES * baud / words_per_second(baud)
    assert cycles <= word <= cycles + 4
