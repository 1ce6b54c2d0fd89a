"""Top level of a board whose link is USB: clocks, resets and pads around :class:`fpga.gateware.usb.UsbShell`."""

from types import SimpleNamespace

from amaranth import ClockDomain, ClockSignal, Instance, Module, Signal
from amaranth.hdl import IOPort
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from fpga.boards import Board
from fpga.gateware.top import clock_and_reset, clock_network, pll_instance
from fpga.gateware.usb import UsbShell
from hw.rtl.verilog import convert

__all__ = ["UsbBoardTop", "direct_bus", "ulpi_bus", "usb_board_verilog"]

#: Most bytes of a bulk packet (USB 2.0, 5.8.3).
FULL_SPEED_BYTES, HIGH_SPEED_BYTES = 64, 512


def ulpi_bus() -> SimpleNamespace:
    """Wires to a PHY with ULPI, as LUNA takes them."""
    wires = {name: SimpleNamespace(i=Signal(name=f"{name}_i")) for name in ("dir", "nxt")}
    wires |= {name: SimpleNamespace(o=Signal(name=f"{name}_o")) for name in ("stp", "rst")}
    return SimpleNamespace(data=SimpleNamespace(i=Signal(8), o=Signal(8), oe=Signal()), **wires)


def direct_bus() -> SimpleNamespace:
    """D+, D- and the pull-up of D+, as LUNA takes them."""
    wires = {name: SimpleNamespace(i=Signal(), o=Signal(), oe=Signal()) for name in ("d_p", "d_n")}
    return SimpleNamespace(pullup=SimpleNamespace(o=Signal()), **wires)


class UsbBoardTop(wiring.Component):
    """What is synthesized: PLLs, resets and the USB shell, one port for each pin of the board.

    Parameters
    ----------
    core : wiring.Component
        As in :class:`fpga.gateware.usb.UsbShell`.
    board : Board
    clock_mhz : float
        Clock of the core; the PLL makes it from the board's oscillator.

    Attributes
    ----------
    pads : list of IOPort
        Ports that are driven from both ends.

    Members
    -------
    clock, reset, ready, overflow; held_high where the board has it
        As in :class:`fpga.boards.Board`; ``overflow`` is never lit: nothing is lost on this link.
    ulpi_clk, ulpi_dir, ulpi_nxt, ulpi_stp, ulpi_rst; or usb_pullup
        As in :class:`fpga.boards.UsbPins`.

    Latency, throughput and back-pressure: those of :class:`fpga.gateware.usb.UsbShell`. Reset: by ``reset``, and
    until the PLL of the core has locked.

    Raises
    ------
    ValueError
        When the board's PLL can't make the clock, or the board has no USB.
    """

    def __init__(self, core: wiring.Component, board: Board, *, clock_mhz: float) -> None:
        self._pll = board.pll(clock_mhz)
        self._low = {name for name, pin in board.pins("usb").items() if pin.inverted}
        self._held_high = board.held_high is not None
        ports = {"clock": In(1), "reset": In(1), "ready": Out(1), "overflow": Out(1)}
        if self._held_high:
            ports |= {"held_high": Out(1)}
        if board.usb_pins().high_speed:
            self._bus, packet_bytes, self._usb_pll = ulpi_bus(), HIGH_SPEED_BYTES, None
            self.pads = [IOPort(8, name="ulpi_data")]
            ports |= {f"ulpi_{name}": In(1) for name in ("clk", "dir", "nxt")}
            ports |= {f"ulpi_{name}": Out(1) for name in ("stp", "rst")}
        else:
            self._bus, packet_bytes, self._usb_pll = direct_bus(), FULL_SPEED_BYTES, board.usb_pll()
            self.pads = [IOPort(1, name=name) for name in ("usb_d_p", "usb_d_n")]
            ports |= {"usb_pullup": Out(1)}
        self._shell = UsbShell(core, self._bus, packet_bytes)
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        reset = clock_and_reset(m, self._pll, self.clock, ~self.reset if "reset" in self._low else self.reset)
        m.domains.usb = ClockDomain()
        m.submodules.shell = shell = self._shell
        m.d.comb += [
            shell.reset.eq(reset),
            self.overflow.eq("overflow" in self._low),
            self.ready.eq(reset if "ready" in self._low else ~reset),
        ]
        if self._held_high:
            m.d.comb += self.held_high.eq(1)
        if self._usb_pll is None:
            self._connect_ulpi(m, reset)
        else:
            self._connect_direct(m, reset)
        return m

    def _connect_ulpi(self, m: Module, reset: Signal) -> None:
        """A PHY with ULPI: it makes the clock of USB, perhaps not during its reset, which so is the core's."""
        bus, (data,) = self._bus, self.pads
        m.submodules.usb_reset = ResetSynchronizer(reset, domain="usb")
        m.d.comb += [
            ClockSignal("usb").eq(self.ulpi_clk),
            self.ulpi_rst.eq(reset),
            self.ulpi_stp.eq(bus.stp.o),
            bus.dir.i.eq(self.ulpi_dir),
            bus.nxt.i.eq(self.ulpi_nxt),
        ]
        for bit in range(len(data)):
            m.submodules[f"data_{bit}"] = _pad(data[bit], bus.data.i[bit], bus.data.o[bit], bus.data.oe)

    def _connect_direct(self, m: Module, reset: Signal) -> None:
        """D+ and D- themselves: a PLL makes 48 MHz to sample them, and 12 MHz, the clock of USB."""
        bus = self._bus
        m.domains.usb_io = ClockDomain()
        locked, unready = Signal(), Signal()
        clocks = {"CLKOS": (1, ClockSignal("usb_io")), "CLKOS2": (4, ClockSignal("usb"))}
        m.submodules.usb_pll = pll_instance(self._usb_pll, self.clock, locked, **clocks)
        m.d.comb += unready.eq(reset | ~locked)
        for domain in ("usb", "usb_io"):
            m.submodules[f"{domain}_reset"] = ResetSynchronizer(unready, domain=domain)
        for pad, wire in zip(self.pads, (bus.d_p, bus.d_n), strict=True):
            m.submodules[pad.name] = _pad(pad, wire.i, wire.o, wire.oe)
        m.d.comb += self.usb_pullup.eq(bus.pullup.o)


def _pad(pad: IOPort, seen: Signal, driven: Signal, driving: Signal) -> Instance:
    """A bidirectional pin."""
    return Instance("BB", io_B=pad, o_O=seen, i_I=driven, i_T=~driving)


def usb_board_verilog(core: wiring.Component, board: Board, *, clock_mhz: float) -> str:
    """Verilog of :class:`UsbBoardTop`, module ``board``."""
    top = UsbBoardTop(core, board, clock_mhz=clock_mhz)
    return convert(top, "board", clock_network, top.pads)
