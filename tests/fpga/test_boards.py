import importlib
import re

import pytest

from fpga.boards import BOARDS, board
from fpga.flow.build import build_core
from fpga.gateware.top import board_verilog
from tests.fpga.cores import RunningSum

#: What the PLLs make of each oscillator; 62.5 and 81.25 MHz don't come of 48 MHz.
FREQUENCIES = {
    25.0: (25.0, 50.0, 62.5, 75.0, 80.0, 81.25, 100.0),
    48.0: (25.0, 50.0, 75.0, 80.0, 100.0),
    100.0: (25.0, 50.0, 62.5, 75.0, 80.0, 81.25, 100.0),
}
#: Classes of amaranth-boards by our boards, and what each says of the pins that we use.
KNOWN = {
    **{f"ulx3s-{size}f": ("ulx3s", f"ULX3S_{size}F_Platform") for size in (12, 25, 45, 85)},
    **{f"ecpix5-{size}f": ("ecpix5", f"ECPIX5{size}Platform") for size in (45, 85)},
    **{f"orangecrab-{size}f": ("orangecrab_r0_2", f"OrangeCrabR0_2_{size}FPlatform") for size in (25, 85)},
}
#: Lattice's package codes, and nextpnr's names.
PACKAGES = {"BG381": "CABGA381", "BG554": "CABGA554", "MG285": "CSFBGA285"}


@pytest.mark.parametrize(
    ("name", "frequency"),
    [(name, frequency) for name, known in BOARDS.items() for frequency in FREQUENCIES[known.clock_mhz]],
)
def test_pll_makes_the_frequency(name, frequency):
    target = board(name)
    pll = target.pll(frequency)
    compare = target.clock_mhz / pll.reference_divider
    oscillator = compare * pll.loop_divider
    assert pll.output_mhz(target.clock_mhz) == oscillator / pll.output_divider == pytest.approx(frequency, abs=1e-6)
    assert compare >= 10
    assert 400 <= oscillator == pll.oscillator_mhz(target.clock_mhz) <= 800


def test_pll_refuses_what_it_cannot_make():
    with pytest.raises(ValueError, match=r"ulx3s-25f: the clock must be .* as 64\.0625 MHz, not 64 MHz"):
        board("ulx3s-25f").pll(64.0)


def found_in(platform) -> dict[str, dict[str, bool]]:
    """Sites of a platform's resources, and whether they are inverted, by the resource's name."""
    sites: dict[str, dict[str, bool]] = {}
    for resource in platform.resources:
        for part in (resource, *(io for io in resource.ios if hasattr(io, "ios"))):
            for pins in part.ios:
                if hasattr(pins, "names"):
                    name = resource.name if part is resource else f"{resource.name}.{part.name}"
                    sites.setdefault(name, {}).update(dict.fromkeys(pins.names, pins.invert))
    return sites


@pytest.mark.parametrize("name", KNOWN)
def test_pins_are_those_of_amaranth_boards(name):
    module, platform = KNOWN[name]
    known = getattr(importlib.import_module(f"amaranth_boards.{module}"), platform)
    target, sites = board(name), found_in(known)
    size = name.partition("-")[2]
    assert known.device.endswith(size.upper())
    assert known.device.startswith("LFE5UM5G" if target.device.startswith("um5g-") else "LFE5U-")
    assert (target.package, target.speed) == (PACKAGES[known.package], int(known.speed))
    (clock,) = [each for each in known.resources if each.name == known.default_clk]
    assert (target.clock.site, target.clock_mhz) == (clock.ios[0].names[0], clock.clock.frequency / 1e6)
    reset = next(kind for kind in ("rst", "button_fire", "button") if kind in sites)
    assert sites[reset][target.reset.site] == target.reset.inverted
    lamps = {
        site: low for name, each in sites.items() if name.startswith(("led", "rgb_led")) for site, low in each.items()
    }
    assert all(lamps[pin.site] == pin.inverted for pin in (target.ready, target.overflow))
    if "uart.rx" in sites:
        assert (target.receive.site, target.transmit.site) == (*sites["uart.rx"], *sites["uart.tx"])
    else:
        (header,) = known.connectors
        assert (target.transmit.site, target.receive.site) == (header.mapping["0"], header.mapping["1"])
    held = None if target.held_high is None else {target.held_high.site: False}
    assert held == sites.get("esp32.gpio0")


@pytest.mark.parametrize("name", KNOWN)
def test_wires_of_usb_are_those_of_amaranth_boards(name):
    module, platform = KNOWN[name]
    resources = getattr(importlib.import_module(f"amaranth_boards.{module}"), platform).resources
    (known,) = [each for each in resources if each.name == "usb" or (each.name, each.number) == ("ulpi", 0)]
    sites = {part.name: list(part.ios[0].names) for part in known.ios if hasattr(part, "ios")}
    wires = board(name).usb_pins()
    prefix = "ulpi" if wires.high_speed else "usb"
    assert {f"{prefix}_{part}" for part in sites} == {port.partition("[")[0] for port in wires.pins}
    for part, names in sites.items():
        ports = [f"{prefix}_{part}"] if len(names) == 1 else [f"{prefix}_{part}[{bit}]" for bit in range(len(names))]
        assert [wires.pins[port].site for port in ports] == names


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_tools_know_the_pins_of_usb_and_its_clocks_are_met(tmp_path, name):
    built = build_core(RunningSum(), board(name), tmp_path, clock_mhz=50.0, baud=0, link="usb", seed=1)
    assert built.timing_met
    assert built.block_rams.used == 0


@pytest.mark.parametrize("name", KNOWN)
def test_the_clock_of_usb_is_within_the_tolerance_of_full_speed(name):
    target = board(name)
    pll = target.usb_pll()
    assert target.clock_mhz / pll.reference_divider >= 10
    assert pll.output_mhz(target.clock_mhz) == pytest.approx(48.0, rel=0.0025)
    assert 4 * pll.output_divider <= 128


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_tools_know_the_device_and_its_pins(tmp_path, name):
    built = build_core(RunningSum(), board(name), tmp_path, clock_mhz=50.0, baud=1_000_000, seed=1)
    assert built.bitstream.stat().st_size > 10_000


@pytest.mark.parametrize("name", BOARDS)
def test_low_buttons_and_lamps_are_inverted(name):
    """A button that is low when pressed resets, and a lamp that is lit when low is lit, out of reset."""
    target = board(name)
    text = board_verilog(RunningSum(), target, clock_mhz=50.0, baud=1_000_000)
    assert bool(re.search(r"= ~ ?reset\b", text)) == target.reset.inverted
    assert bool(re.search(r"assign ready = ~", text)) != target.ready.inverted
    assert bool(re.search(r"assign overflow = ~", text)) == target.overflow.inverted


@pytest.mark.parametrize(("name", "link"), [*((name, "serial") for name in BOARDS), *((name, "usb") for name in KNOWN)])
def test_constraints_name_every_pin_once(name, link):
    target = board(name)
    text = target.constraints(link)
    pins = target.pins(link)
    sites = [pin.site for pin in pins.values()]
    assert len(set(sites)) == len(sites) == len(pins)
    assert len(pins) - (target.held_high is not None) == (6 if link == "serial" else 4 + len(target.usb.pins))
    assert ('FREQUENCY PORT "ulpi_clk" 60 MHZ;' in text) == ("ulpi_clk" in pins)
    for port, pin in pins.items():
        assert text.count(f'LOCATE COMP "{port}" SITE "{pin.site}";') == 1
        assert text.count(f'IOBUF PORT "{port}" ') == 1


def test_boards_can_be_keys_of_what_is_kept():
    """A build is made once for a board."""
    assert len({known: name for name, known in BOARDS.items()}) == len(BOARDS)


def test_unknown_board():
    with pytest.raises(ValueError, match=r"board must be one of ulx3s-12f, .*, colorlight-i9, not 'ulx4'"):
        board("ulx4")


@pytest.mark.parametrize("clock", [-5.0, 0.0, 3.0, 801.0, float("nan"), float("inf")])
def test_a_clock_that_no_pll_makes_is_refused(clock):
    with pytest.raises(ValueError, match=f"^ulx3s-25f: the clock must be 3.125 to 800 MHz, not {clock:g} MHz$"):
        board("ulx3s-25f").pll(clock)


def test_the_oscillator_runs_near_the_middle_of_its_range_and_never_above():
    target = board("ulx3s-25f")
    assert target.pll(50.0).oscillator_mhz(target.clock_mhz) == 600
    with pytest.raises(ValueError, match=r"ulx3s-25f: the clock must be a frequency its PLL can make"):
        target.pll(825 / 31)  # 825 MHz divided by 31 would be
