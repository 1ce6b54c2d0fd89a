"""The gateware behind a PHY with ULPI at high speed, and the boards' tops."""

import random
import re

import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from luna.gateware.interface.ulpi import UTMITranslator
from luna.gateware.usb.usb2.reset import USBResetSequencer

from fpga.boards import BOARDS, board
from fpga.gateware.usb import UsbShell
from fpga.gateware.usb_top import (
    FULL_SPEED_BYTES,
    HIGH_SPEED_BYTES,
    UsbBoardTop,
    direct_bus,
    ulpi_bus,
    usb_board_verilog,
)
from tests.fpga.cores import RunningSum, running_sums, word_bytes
from tests.fpga.gateware.test_usb import DATA, brought_up, collect, put, send_break
from tests.fpga.gateware.usb_host import UsbHost
from tests.fpga.gateware.usb_wires import DirectWire, UlpiWire


class Unhurried(wiring.Component):
    """Takes every word at once, and always has one: it counts them."""

    i: In(stream.Signature(32))
    o: Out(stream.Signature(32))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.i.ready.eq(1), self.o.valid.eq(1)]
        with m.If(self.o.ready):
            m.d.sync += self.o.payload.eq(self.o.payload + 1)
        return m


class UlpiBench(wiring.Component):
    """The shell behind a PHY with ULPI, and the cycles of its clock."""

    def __init__(self, core):
        super().__init__({})
        self.bus = ulpi_bus()
        self.core = core
        self.cycles = Signal(32)

    def elaborate(self, platform):
        m = Module()
        m.submodules.shell = UsbShell(self.core, self.bus, HIGH_SPEED_BYTES)
        m.d.usb += self.cycles.eq(self.cycles + 1)
        return m


@pytest.fixture
def quick(monkeypatch):
    """Milliseconds of waiting in LUNA's gateware made shorter."""
    monkeypatch.setattr(UTMITranslator, "_CYCLES_1_MILLISECONDS", 100)
    monkeypatch.setattr(USBResetSequencer, "_CYCLES_2_MILLISECONDS", 200)


def simulate(scenario, core, pace=0):
    dut = UlpiBench(core)
    wire = UlpiWire(dut.bus, pace)
    host = UsbHost(wire, HIGH_SPEED_BYTES)
    simulator = Simulator(dut)
    simulator.add_clock(1 / 60e6, domain="usb")
    simulator.add_clock(1 / 50e6)

    async def testbench(ctx):
        await wire.plug(ctx)
        await host.reset(ctx)
        await scenario(ctx, host, dut)

    simulator.add_testbench(testbench)
    simulator.add_testbench(wire.run, background=True)
    simulator.run()


@pytest.mark.parametrize("pace", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_words_at_high_speed_through_a_phy(quick, pace):
    generator = random.Random(pace)
    values = [generator.randrange(1 << 32) for _ in range(300)]

    async def scenario(ctx, host, _):
        told = await brought_up(ctx, host)
        assert told[2][-3:-1] == (512).to_bytes(2, "little")
        data, found, packets = word_bytes(values), bytearray(), []
        unsent = data
        for _ in range(200):
            if unsent and await host.bulk_out(ctx, DATA, unsent[:512]):
                unsent = unsent[512:]
            packets.append(await host.bulk_in(ctx, DATA) or b"")
            found += packets[-1]
            if len(found) == len(data):
                break
        assert bytes(found) == running_sums(values)
        assert max(map(len, packets)) == 512
        await put(ctx, host, word_bytes([9]) + b"\x01")
        await send_break(ctx, host, 0xFFFF)
        await send_break(ctx, host, 0)
        await put(ctx, host, word_bytes([0x0003_0005]))
        assert await collect(ctx, host, 4) == word_bytes([15])

    simulate(scenario, RunningSum(), pace)


def test_a_packet_at_high_speed_takes_a_cycle_a_byte_and_few_more(quick):
    """Nothing is refused where the core keeps up: the bus alone says how fast it is."""
    count, taken = 4, {}

    async def scenario(ctx, host, dut):
        await brought_up(ctx, host)
        await ctx.tick("usb").repeat(700)
        for way in ("out", "in"):
            begin = ctx.get(dut.cycles)
            for number in range(count):
                if way == "out":
                    assert await host.bulk_out(ctx, DATA, bytes(512))
                else:
                    expected = word_bytes(range(128 * number, 128 * (number + 1)))
                    assert await host.bulk_in(ctx, DATA) == expected
            taken[way] = (ctx.get(dut.cycles) - begin) / count

    simulate(scenario, Unhurried())
    assert 512 < taken["out"] < 540
    assert 512 < taken["in"] < 540


class DirectBench(wiring.Component):
    """The shell behind D+ and D-."""

    def __init__(self):
        super().__init__({})
        self.bus = direct_bus()

    def elaborate(self, platform):
        m = Module()
        m.submodules.shell = UsbShell(RunningSum(), self.bus, FULL_SPEED_BYTES)
        return m


@pytest.mark.slow
def test_words_at_full_speed_over_two_wires():
    dut = DirectBench()
    host = UsbHost(DirectWire(dut.bus), FULL_SPEED_BYTES)
    generator = random.Random(1)
    values = [generator.randrange(1 << 32) for _ in range(40)]
    simulator = Simulator(dut)
    # Not quite 12 and 48 MHz: periods whose edges fall together.
    for domain, period in (("usb", 80e-9), ("usb_io", 20e-9), ("sync", 33e-9)):
        simulator.add_clock(period, domain=domain, phase=period)

    async def testbench(ctx):
        await host.wire.plug(ctx)
        await host.reset(ctx)
        await brought_up(ctx, host)
        unsent, found = word_bytes(values), bytearray()
        for _ in range(100):
            if unsent and await host.bulk_out(ctx, DATA, unsent[:FULL_SPEED_BYTES]):
                unsent = unsent[FULL_SPEED_BYTES:]
            found += await host.bulk_in(ctx, DATA) or b""
            if len(found) == 4 * len(values):
                break
        assert bytes(found) == running_sums(values)
        await put(ctx, host, word_bytes([9]) + b"\x01")
        await send_break(ctx, host, 1)
        await put(ctx, host, word_bytes([0x0003_0005]))
        assert await collect(ctx, host, 4) == word_bytes([15])

    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("name", ["ulx3s-25f", "orangecrab-25f", "ecpix5-85f"])
def test_top_level_ports_are_the_boards_pins(name):
    target = board(name)
    text = usb_board_verilog(RunningSum(), target, clock_mhz=50.0)
    header = text[text.index("module board(") :]
    ports = {port.strip() for port in header[len("module board(") : header.index(")")].split(",")}
    assert ports == {pin.partition("[")[0] for pin in target.pins("usb")}
    both_ways = {pin for pin in ports if re.search(rf"^  inout (\[7:0\] )?{pin};", header, re.MULTILINE)}
    assert both_ways == ({"ulpi_data"} if target.usb.high_speed else {"usb_d_p", "usb_d_n"})
    assert ("assign held_high = 1'h1;" in text) == ("held_high" in ports)
    assert text.count("EHXPLLL") == (1 if target.usb.high_speed else 2)
    # Names of LUNA's parts that come of addresses in memory would make every build another one.
    assert usb_board_verilog(RunningSum(), target, clock_mhz=50.0) == text


def test_a_board_without_usb_has_no_such_top():
    assert [name for name, each in BOARDS.items() if each.usb is None] == ["colorlight-i5", "colorlight-i9"]
    with pytest.raises(ValueError, match=r"^colorlight-i9: link must be serial, not usb"):
        UsbBoardTop(RunningSum(), board("colorlight-i9"), clock_mhz=50.0)
