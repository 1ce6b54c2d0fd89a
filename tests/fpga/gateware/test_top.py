import random
import re

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from fpga.baud import QUEUE_WORDS
from fpga.boards import board
from fpga.gateware.top import BoardTop, SerialShell, board_verilog
from hw.config import PRESETS
from hw.rtl.accelerator import Accelerator
from tests.fpga.cores import RunningSum, running_sums, word_bytes

CYCLES = 8


class Bench(wiring.Component):
    """The shell around a core that stalls when told."""

    receive: In(1, init=1)
    transmit: Out(1)
    overflow: Out(1)
    pause: In(1)
    reset: In(1)

    def elaborate(self, platform):
        m = Module()
        core = RunningSum()
        m.submodules.shell = shell = SerialShell(core, CYCLES)
        m.d.comb += [
            shell.receive.eq(self.receive),
            shell.reset.eq(self.reset),
            core.pause.eq(self.pause),
            self.transmit.eq(shell.transmit),
            self.overflow.eq(shell.overflow),
        ]
        return m


class Host:
    """The other end of the line, bit by bit, on its own clock count."""

    def __init__(self, dut):
        self.dut = dut
        self.received = bytearray()

    async def send(self, ctx, data):
        for byte in data:
            for bit in [0, *((byte >> n & 1) for n in range(8)), 1]:
                ctx.set(self.dut.receive, bit)
                await ctx.tick().repeat(CYCLES)

    async def interrupt(self, ctx):
        ctx.set(self.dut.receive, 0)
        await ctx.tick().repeat(20 * CYCLES)
        ctx.set(self.dut.receive, 1)
        await ctx.tick().repeat(4 * CYCLES)

    async def press_reset(self, ctx):
        ctx.set(self.dut.reset, 1)
        await ctx.tick()
        ctx.set(self.dut.reset, 0)
        await ctx.tick().repeat(2)

    async def listen(self, ctx):
        while True:
            while ctx.get(self.dut.transmit):
                await ctx.tick()
            for _ in range(CYCLES // 2):
                await ctx.tick()
            byte = 0
            for bit in range(10):
                value = ctx.get(self.dut.transmit)
                assert bit not in (0, 9) or value == (bit == 9), "frame without start or stop bit"
                byte |= value << bit
                if bit < 9:
                    for _ in range(CYCLES):
                        await ctx.tick()
            self.received.append(byte >> 1 & 0xFF)


def simulate(dut, scenario):
    host = Host(dut)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    async def testbench(ctx):
        await scenario(ctx, host)

    async def listener(ctx):
        await host.listen(ctx)

    simulator.add_testbench(testbench)
    simulator.add_testbench(listener, background=True)
    simulator.run()
    return host


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_words_through_the_shell_with_random_stalls(seed):
    dut = Bench()
    generator = random.Random(seed)
    values = [generator.randrange(1 << 32) for _ in range(20)]

    async def scenario(ctx, host):
        for value in values:
            ctx.set(dut.pause, generator.random() < 0.5)
            await host.send(ctx, word_bytes([value]))
            await ctx.tick().repeat(generator.choice([1, 60]))
        ctx.set(dut.pause, 0)
        await ctx.tick().repeat(len(values) * 4 * 11 * CYCLES)
        assert not ctx.get(dut.overflow)

    assert simulate(dut, scenario).received == running_sums(values)


@pytest.mark.parametrize("restart", [Host.interrupt, Host.press_reset])
def test_overflow_is_shown_and_a_break_or_a_reset_restarts_everything(restart):
    dut = Bench()

    async def scenario(ctx, host):
        ctx.set(dut.pause, 1)
        await host.send(ctx, word_bytes(range(QUEUE_WORDS)))
        assert not ctx.get(dut.overflow)
        await host.send(ctx, word_bytes([QUEUE_WORDS]))
        assert ctx.get(dut.overflow)
        await host.send(ctx, b"\x01")  # part of a word, forgotten then
        await restart(host, ctx)
        assert not ctx.get(dut.overflow)
        ctx.set(dut.pause, 0)
        await host.send(ctx, word_bytes([0x0003_0005]))
        await ctx.tick().repeat(5 * 11 * CYCLES)

    assert simulate(dut, scenario).received == word_bytes([15])


def test_top_level_ports_are_the_boards_pins():
    target = board("ulx3s-25f")
    text = board_verilog(RunningSum(), target, clock_mhz=50.0, baud=1_000_000)
    header = text[text.index("module board(") :]
    ports = {name.strip() for name in header[len("module board(") : header.index(")")].split(",")}
    assert ports == set(target.pins())
    assert ("assign held_high = 1'h1;" in text) == ("held_high" in ports)
    assert text.count("EHXPLLL") == 1


def test_top_level_refuses_a_clock_the_pll_cannot_make():
    with pytest.raises(ValueError, match="not 51 MHz"):
        BoardTop(RunningSum(), board("ulx3s-25f"), clock_mhz=51.0, baud=1_000_000)


@pytest.mark.parametrize(
    "config",
    [PRESETS["tiny"], pytest.param(PRESETS["tiny"].replace(cores=4, lanes=2), marks=pytest.mark.slow)],
    ids=["one", "four"],
)
def test_what_reaches_all_flip_flops_of_a_core_goes_over_clock_networks(config):
    text = board_verilog(Accelerator(config), board("ulx3s-85f"), clock_mhz=50.0, baud=1_000_000)
    networks = dict.fromkeys(re.findall(r"^module (\w+)", text, re.MULTILINE), 0)
    for module in re.split(r"^module ", text, flags=re.MULTILINE)[1:]:
        networks[module.split("(")[0].strip()] = len(re.findall(r"^  DCCA ", module, re.MULTILINE))
    # The reset of each core, that of what is between them, and the taking of descriptions.
    assert networks.pop("core") == 1
    assert sum(networks.values()) == 2
    assert len(re.findall(r"^  core \S+ \(", text, flags=re.MULTILINE)) == config.cores


@pytest.mark.parametrize("name", PRESETS)
def test_clock_networks_are_enough(name):
    """The device has 16; the clock takes one, each core one, and what is between them two."""
    assert 1 + PRESETS[name].cores + 2 <= 16
