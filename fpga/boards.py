"""FPGA boards: the device, the pins and the clock that a bitstream is made for."""

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["BAUD", "BOARDS", "CLOCKS_MHZ", "LINKS", "Board", "Pin", "Pll", "UsbPins", "board"]

#: Links that a bitstream may have to its host; which of them a board has is said by its pins.
LINKS = ("serial", "usb")

#: Bits per second of a board's serial link, unless told otherwise: the most that an FT231X makes (FTDI DS_FT231X).
BAUD = 3_000_000
#: Frequencies of the oscillator inside a PLL, and the most it is divided by.
_OSCILLATOR_MHZ, _MOST_DIVIDER = (400, 800), 128
#: Clock that samples D+ and D- at full speed, four times a bit.
_USB_MHZ = 48.0
#: Lowest and highest clock that a PLL can make.
CLOCKS_MHZ = (_OSCILLATOR_MHZ[0] / _MOST_DIVIDER, float(_OSCILLATOR_MHZ[1]))


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One pin of the top level.

    Parameters
    ----------
    site : str
        Ball of the package.
    attributes : str
        What follows ``IOBUF PORT name`` in the constraints file.
    inverted : bool
        A button that is low when pressed, a lamp that is lit when low.
    """

    site: str
    attributes: str
    inverted: bool = False


@dataclass(frozen=True, kw_only=True)
class UsbPins:
    """Wires of a board to its USB socket.

    Parameters
    ----------
    high_speed : bool
        A PHY for high speed with ULPI, which makes the clock of 60 MHz; without, D+ and D- themselves, for full speed.
    pins : dict of str to Pin
        By the name of the top level's port. ULPI: ``ulpi_data[0]`` to ``ulpi_data[7]``, ``ulpi_clk``, ``ulpi_dir``,
        ``ulpi_nxt``, ``ulpi_stp``, ``ulpi_rst``; else ``usb_d_p``, ``usb_d_n`` and ``usb_pullup``, the pull-up of D+.
    """

    high_speed: bool
    pins: dict[str, Pin] = field(hash=False)


@dataclass(frozen=True, kw_only=True)
class Pll:
    """Dividers of an ECP5 PLL (EHXPLLL) whose feedback comes from an output of its own.

    The oscillator inside runs at ``reference / reference_divider * loop_divider``, which must stay within 400 to 800
    MHz, the phase comparison at 10 MHz or more (Lattice FPGA-DS-02012, PLL timing); the output is the oscillator's
    frequency divided by ``output_divider``.
    """

    reference_divider: int
    loop_divider: int
    output_divider: int

    def oscillator_mhz(self, reference_mhz: float) -> float:
        """Frequency of the oscillator inside."""
        return reference_mhz / self.reference_divider * self.loop_divider

    def output_mhz(self, reference_mhz: float) -> float:
        """Frequency of the output."""
        return self.oscillator_mhz(reference_mhz) / self.output_divider


class _Rank(NamedTuple):
    """How far a PLL's output is from what was asked for, and its oscillator from the middle of its range."""

    distance: float
    middle: float


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board with an ECP5 device.

    Parameters
    ----------
    name : str
    device : str
        Device option of nextpnr-ecp5, as "25k" or "um5g-85k".
    package : str
    speed : int
        Speed grade, 6 (slowest) to 8.
    clock_mhz : float
        Frequency of the board's oscillator in MHz.
    clock, reset, receive, transmit : Pin
        Oscillator, reset button, serial data to and from the FPGA.
    ready, overflow : Pin
        Lamps: out of reset; words from the host were lost.
    loader_name : str
        What openFPGALoader calls the board.
    port : str
        Where Linux shows its serial link, if no other adapter is connected.
    flash_options : tuple of str
        Options of ecppack that suit the board's configuration memory.
    usb : UsbPins, optional
    held_high : Pin, optional
        An output that is always high, for another chip of the board.
    """

    name: str
    device: str
    package: str
    speed: int
    clock_mhz: float
    clock: Pin
    reset: Pin
    receive: Pin
    transmit: Pin
    ready: Pin
    overflow: Pin
    loader_name: str
    port: str
    flash_options: tuple[str, ...] = ()
    usb: UsbPins | None = None
    held_high: Pin | None = None

    def usb_pins(self) -> UsbPins:
        """Wires to the USB socket.

        Raises
        ------
        ValueError
            When there are none.
        """
        if self.usb is None:
            having = ", ".join(each.name for each in BOARDS.values() if each.usb is not None)
            raise ValueError(f"{self.name}: link must be serial, not usb, which these boards have: {having}")
        return self.usb

    def pins(self, link: str = "serial") -> dict[str, Pin]:
        """Pins by the name of the top level's port, with one of :data:`LINKS`.

        Raises
        ------
        ValueError
            When the board doesn't have that link.
        """
        wires = {"receive": self.receive, "transmit": self.transmit} if link == "serial" else self.usb_pins().pins
        held = {} if self.held_high is None else {"held_high": self.held_high}
        lamps = {"ready": self.ready, "overflow": self.overflow}
        return {"clock": self.clock, "reset": self.reset, **wires, **lamps, **held}

    def link_name(self, link: str) -> str:
        """Name of one of :data:`LINKS` that says how fast it is (:data:`fpga.links.HOST_LINKS`); as :meth:`pins`."""
        if link == "serial":
            return link
        return "usb-high" if self.usb_pins().high_speed else "usb-full"

    def constraints(self, link: str = "serial") -> str:
        """Lattice preference file (LPF) that places the top level's ports; as :meth:`pins`."""
        lines = [f'FREQUENCY PORT "clock" {self.clock_mhz:g} MHZ;']
        pins = self.pins(link)
        if "ulpi_clk" in pins:
            lines.append('FREQUENCY PORT "ulpi_clk" 60 MHZ;')
        for name, pin in pins.items():
            lines += [f'LOCATE COMP "{name}" SITE "{pin.site}";', f'IOBUF PORT "{name}" {pin.attributes};']
        return "\n".join(lines) + "\n"

    def pll(self, frequency_mhz: float) -> Pll:
        """Dividers that make exactly the given frequency.

        Raises
        ------
        ValueError
            When no dividers do; the message names the nearest frequency that can be made.
        """
        lowest, highest = CLOCKS_MHZ
        if not lowest <= frequency_mhz <= highest:
            raise ValueError(f"{self.name}: the clock must be {lowest:g} to {highest:g} MHz, not {frequency_mhz:g} MHz")
        rank, pll = self._nearest(frequency_mhz)
        if rank.distance > 1e-6:
            nearest = pll.output_mhz(self.clock_mhz)
            raise ValueError(
                f"{self.name}: the clock must be a frequency its PLL can make, as {nearest:g} MHz, "
                f"not {frequency_mhz:g} MHz"
            )
        return pll

    def usb_pll(self) -> Pll:
        """Dividers that make four times the clock of USB at full speed, 48 MHz within 0.25 % (USB 2.0, 7.1.11)."""
        _, pll = self._nearest(_USB_MHZ)
        assert abs(pll.output_mhz(self.clock_mhz) / _USB_MHZ - 1) < 0.0025
        return pll

    def _nearest(self, frequency_mhz: float) -> tuple[_Rank, Pll]:
        """Dividers whose frequency is nearest to the given one."""
        best: tuple[_Rank, Pll] | None = None
        for reference in range(1, int(self.clock_mhz // 10) + 1):
            for loop in range(1, 81):
                oscillator = self.clock_mhz / reference * loop
                output = round(oscillator / frequency_mhz)
                if not (1 <= output <= _MOST_DIVIDER and _OSCILLATOR_MHZ[0] <= oscillator <= _OSCILLATOR_MHZ[1]):
                    continue
                # Of equally good ones, the oscillator nearest to the middle of its range.
                rank = _Rank(round(abs(oscillator / output - frequency_mhz), 9), abs(oscillator - 600))
                if best is None or rank < best[0]:
                    best = rank, Pll(reference_divider=reference, loop_divider=loop, output_divider=output)
        assert best is not None
        return best


_PLAIN = "PULLMODE=NONE IO_TYPE=LVCMOS33"
_INPUT_UP = "PULLMODE=UP IO_TYPE=LVCMOS33"
_INPUT_DOWN = "PULLMODE=DOWN IO_TYPE=LVCMOS33"
_OUTPUT = "PULLMODE=NONE IO_TYPE=LVCMOS33 DRIVE=4"
_ULPI = "IO_TYPE=LVCMOS33 SLEWRATE=SLOW"


def _direct_usb(positive: str, negative: str, pullup: str) -> UsbPins:
    """D+, D- and the pull-up of D+, at these sites."""
    sites = {"usb_d_p": positive, "usb_d_n": negative, "usb_pullup": pullup}
    return UsbPins(high_speed=False, pins={name: Pin(site=site, attributes=_PLAIN) for name, site in sites.items()})


def _ulx3s(name: str, device: str) -> Board:
    """ULX3S (Radiona, open hardware) with one of its devices; button FIRE1 resets, LED 0 and LED 1 are the lamps.

    Pins: its constraints file, github.com/emard/ulx3s, doc/constraints/ulx3s_v20.lpf, for boards v2.x and v3.0.x.
    USB is the socket US2. GPIO0 of the ESP32 is held high: low, it may load another bitstream (its examples say: "keep
    board from rebooting").
    """
    return Board(
        name=name,
        device=device,
        package="CABGA381",
        speed=6,
        clock_mhz=25.0,
        clock=Pin(site="G2", attributes=_PLAIN),
        reset=Pin(site="R1", attributes=_INPUT_DOWN),
        receive=Pin(site="M1", attributes=_INPUT_UP),
        transmit=Pin(site="L4", attributes="PULLMODE=UP IO_TYPE=LVCMOS33 DRIVE=4"),
        ready=Pin(site="B2", attributes=_OUTPUT),
        overflow=Pin(site="C2", attributes=_OUTPUT),
        loader_name="ulx3s",
        port="/dev/ttyUSB0",
        flash_options=("--compress",),
        usb=_direct_usb("D15", "E15", pullup="B12"),
        held_high=Pin(site="L2", attributes="PULLMODE=UP IO_TYPE=LVCMOS33 DRIVE=4"),
    )


def _ecpix5(name: str, device: str) -> Board:
    """ECPIX-5 (LambdaConcept) with one of its devices; its FTDI chip has JTAG first, and the serial port second.

    The reset button resets; the green and the red of LED 0 are the lamps. USB is the socket USB-C, behind a PHY.
    Pins: amaranth-boards, ``ecpix5.py``.
    """
    data = ("M26", "L25", "L26", "K25", "K26", "J23", "P25", "H25")
    sites = {f"ulpi_data[{bit}]": site for bit, site in enumerate(data)}
    sites |= {"ulpi_clk": "H24", "ulpi_dir": "F22", "ulpi_nxt": "F23", "ulpi_stp": "H23", "ulpi_rst": "E23"}
    return Board(
        name=name,
        device=device,
        package="CABGA554",
        speed=8,
        clock_mhz=100.0,
        clock=Pin(site="K23", attributes=_PLAIN),
        reset=Pin(site="AB1", attributes=_INPUT_UP, inverted=True),
        receive=Pin(site="R26", attributes=_INPUT_UP),
        transmit=Pin(site="R24", attributes=_OUTPUT),
        ready=Pin(site="R21", attributes=_OUTPUT, inverted=True),
        overflow=Pin(site="T23", attributes=_OUTPUT, inverted=True),
        loader_name="ecpix5",
        port="/dev/ttyUSB1",
        flash_options=("--compress",),
        usb=UsbPins(high_speed=True, pins={name: Pin(site=site, attributes=_ULPI) for name, site in sites.items()}),
    )


def _orangecrab(name: str, device: str) -> Board:
    """OrangeCrab r0.2 (Good Stuff Department) with one of its devices; an adapter for 3.3 V serves as serial link.

    Pin 0 of the header sends, pin 1 receives; the button resets; the green and the red of the LED are the lamps. Pins:
    amaranth-boards, ``orangecrab_r0_2.py``.
    """
    return Board(
        name=name,
        device=device,
        package="CSFBGA285",
        speed=8,
        clock_mhz=48.0,
        clock=Pin(site="A9", attributes=_PLAIN),
        reset=Pin(site="J17", attributes="IO_TYPE=SSTL135_I", inverted=True),
        receive=Pin(site="M18", attributes=_INPUT_UP),
        transmit=Pin(site="N17", attributes=_OUTPUT),
        ready=Pin(site="M3", attributes=_OUTPUT, inverted=True),
        overflow=Pin(site="K4", attributes=_OUTPUT, inverted=True),
        loader_name="orangeCrab",
        port="/dev/ttyUSB0",
        flash_options=("--compress", "--freq", "38.8"),
        usb=_direct_usb("N1", "M2", pullup="N2"),
    )


def _colorlight(name: str, device: str, lamp: str) -> Board:
    """Colorlight i5 7.0 or i9 7.2 on the extension board of Muse Lab, whose DAPLink has the serial port.

    Its button resets. There is one lamp, for ``ready``; ``overflow`` is on pin 1 of connector P2 (PMOD E). Pins:
    LiteX-Boards, ``colorlight_i5.py``, after github.com/wuxx/Colorlight-FPGA-Projects.
    """
    return Board(
        name=name,
        device=device,
        package="CABGA381",
        speed=6,
        clock_mhz=25.0,
        clock=Pin(site="P3", attributes=_PLAIN),
        reset=Pin(site="K18", attributes=_INPUT_UP, inverted=True),
        receive=Pin(site="H18", attributes=_INPUT_UP),
        transmit=Pin(site="J17", attributes=_OUTPUT),
        ready=Pin(site=lamp, attributes=_OUTPUT, inverted=True),
        overflow=Pin(site="C17", attributes=_OUTPUT),
        loader_name=name,
        port="/dev/ttyACM0",
        flash_options=("--compress",),
    )


#: Boards by name.
BOARDS = {
    made.name: made
    for made in (
        *(_ulx3s(f"ulx3s-{size}f", f"{size}k") for size in (12, 25, 45, 85)),
        *(_ecpix5(f"ecpix5-{size}f", f"um5g-{size}k") for size in (45, 85)),
        *(_orangecrab(f"orangecrab-{size}f", f"{size}k") for size in (25, 85)),
        _colorlight("colorlight-i5", "25k", lamp="U16"),
        _colorlight("colorlight-i9", "45k", lamp="L2"),
    )
}


def board(name: str) -> Board:
    """The named board.

    Raises
    ------
    ValueError
        When there is no board of that name.
    """
    if name not in BOARDS:
        raise ValueError(f"board must be one of {', '.join(BOARDS)}, not {name!r}")
    return BOARDS[name]
