"""The gateware behind a PHY with ULPI at high speed, and the boards' tops."""

import random
import re

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator
from luna.gateware.interface.ulpi import UTMITranslator
from luna.gateware.usb.usb2.reset import USBResetSequencer

from fpga.boards import BOARDS, board
from fpga.usb import UsbShell
from fpga.usb_top import HIGH_SPEED_BYTES, UsbBoardTop, ulpi_bus, usb_board_verilog
from tests.fpga.cores import RunningSum
from tests.fpga.test_usb import DATA, brought_up, collect, expected, put, send_break, words
from tests.fpga.usb_host import UlpiWire, UsbHost


class UlpiBench(wiring.Component):
    def __init__(self):
        super().__init__({})
        self.bus = ulpi_bus()

    def elaborate(self, platform):
        m = Module()
        m.submodules.shell = UsbShell(RunningSum(), self.bus, HIGH_SPEED_BYTES)
        return m


@pytest.fixture
def quick(monkeypatch):
    """Milliseconds of waiting in LUNA's gateware made shorter."""
    monkeypatch.setattr(UTMITranslator, "_CYCLES_1_MILLISECONDS", 100)
    monkeypatch.setattr(USBResetSequencer, "_CYCLES_2_MILLISECONDS", 200)


def simulate(scenario, pace=0):
    dut = UlpiBench()
    wire = UlpiWire(dut.bus, pace)
    host = UsbHost(wire, HIGH_SPEED_BYTES)
    simulator = Simulator(dut)
    simulator.add_clock(1 / 60e6, domain="usb")
    simulator.add_clock(1 / 50e6)

    async def testbench(ctx):
        await wire.plug(ctx)
        await host.reset(ctx)
        await scenario(ctx, host)

    simulator.add_testbench(testbench)
    simulator.add_testbench(wire.run, background=True)
    simulator.run()


@pytest.mark.parametrize("pace", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_words_at_high_speed_through_a_phy(quick, pace):
    generator = random.Random(pace)
    values = [generator.randrange(1 << 32) for _ in range(300)]

    async def scenario(ctx, host):
        told = await brought_up(ctx, host)
        assert told[2][-3:-1] == (512).to_bytes(2, "little")
        data, found, packets = words(values), bytearray(), []
        unsent = data
        while len(found) < len(data):
            if unsent and await host.bulk_out(ctx, DATA, unsent[:512]):
                unsent = unsent[512:]
            packets.append(await host.bulk_in(ctx, DATA) or b"")
            found += packets[-1]
        assert bytes(found) == expected(values)
        assert max(map(len, packets)) == 512
        await put(ctx, host, words([9]) + b"\x01")
        await send_break(ctx, host, 0xFFFF)
        await send_break(ctx, host, 0)
        await put(ctx, host, words([0x0003_0005]))
        assert await collect(ctx, host, 4) == words([15])

    simulate(scenario, pace)


@pytest.mark.parametrize("name", ["ulx3s-25f", "orangecrab-25f", "ecpix5-85f"])
def test_top_level_ports_are_the_boards_pins(name):
    target = board(name)
    text = usb_board_verilog(RunningSum(), target, clock_mhz=50.0)
    header = text[text.index("module board(") :]
    ports = {port.strip() for port in header[len("module board(") : header.index(")")].split(",")}
    assert ports == {pin.partition("[")[0] for pin in target.pins("usb")}
    both_ways = {pin for pin in ports if re.search(rf"^  inout (\[7:0\] )?{pin};", header, re.MULTILINE)}
    assert both_ways == ({"ulpi_data"} if target.usb.high_speed else {"usb_d_p", "usb_d_n"})
    assert text.count("EHXPLLL") == (1 if target.usb.high_speed else 2)
    # Names of LUNA's parts that come of addresses in memory would make every build another one.
    assert usb_board_verilog(RunningSum(), target, clock_mhz=50.0) == text


def test_a_board_without_usb_has_no_such_top():
    assert [name for name, each in BOARDS.items() if each.usb is None] == ["colorlight-i5", "colorlight-i9"]
    with pytest.raises(ValueError, match=r"^colorlight-i9: link must be serial, not usb"):
        UsbBoardTop(RunningSum(), board("colorlight-i9"), clock_mhz=50.0)
