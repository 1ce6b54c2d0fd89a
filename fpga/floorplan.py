"""Gives the block RAMs of each core sites beside one another, which nextpnr's placer does not.

nextpnr 0.11 scatters a core's block RAMs over the whole device, and the logic follows them: long wires.
"""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from hw.container import write_atomically

__all__ = ["SITES", "fix_block_rams", "sites_of"]

#: Columns and rows of block RAM sites, by device; the four sites of a block have their numbers in turn.
SITES = {
    "85k": (
        (
            *(4, 6, 8, 10, 13, 15, 17, 19, 22, 24, 26, 28, 31, 33, 35, 37, 40, 42, 44, 46, 49, 51, 53, 55, 58, 60),
            *(62, 64, 69, 71, 73, 75, 78, 80, 82, 84, 87, 89, 91, 93, 96, 98, 100, 102, 105, 107, 109, 111, 114, 116),
            *(118, 120),
        ),
        (22, 46, 70, 82),
    ),
}
#: From so many cores on, half of them have the upper rows, half the lower ones.
_STACKED = 8


def sites_of(device: str, cores: int) -> list[list[str]]:
    """Sites of each core, nearest neighbours in turn: cores beside one another lie beside one another.

    Parameters
    ----------
    device : str
        One of :data:`SITES`.
    cores : int
        A power of two up to 8.
    """
    columns, rows = SITES[device]
    stacks = 2 if cores >= _STACKED else 1
    found = []
    for core in range(cores):
        stack, place = divmod(core, cores // stacks)
        # Back again in the second stack.
        place = cores // stacks - 1 - place if stack else place
        width, height = len(columns) * stacks // cores, len(rows) // stacks
        region: list[str] = []
        for number, row in enumerate(rows[stack * height : (stack + 1) * height]):
            line = [f"X{columns[i]}/Y{row}/EBR{i % 4}" for i in range(place * width, (place + 1) * width)]
            region += reversed(line) if number % 2 else line
        found.append(region)
    return found


def fix_block_rams(netlist: Path, device: str) -> str:
    """Fix the block RAMs of all cores in a netlist as Yosys writes it; returns what was done, for a person.

    Nothing is where a core needs more than its share of the sites.

    Parameters
    ----------
    netlist : Path
        JSON, written anew.
    device : str
        One of :data:`SITES`.
    """
    design = json.loads(netlist.read_text())
    (top,) = (module for module in design["modules"].values() if module.get("attributes", {}).get("top"))
    rams = [name for name, cell in top["cells"].items() if cell["type"] == "DP16KD"]
    cores: dict[int, list[str]] = {}
    for name in rams:
        found = re.search(r"\bcore_(\d+)\.", name)
        if found:
            cores.setdefault(int(found[1]), []).append(name)
    if not cores:
        return "no core has block RAMs"
    shares = sites_of(device, len(cores))
    for core, names in cores.items():
        if len(names) > len(shares[core]):
            return f"none, core {core} has {len(names)} block RAMs for {len(shares[core])} sites"
    for core, names in cores.items():
        for name, site in zip(_in_order(names), shares[core], strict=False):
            top["cells"][name].setdefault("attributes", {})["BEL"] = site
    write_atomically(netlist, json.dumps(design).encode())
    return f"{sum(map(len, cores.values()))} block RAMs of {len(cores)} cores"


def _in_order(names: Iterable[str]) -> Sequence[str]:
    """Block RAMs of a core: those of a PE together, what all PEs use in their middle."""
    of_pe: dict[int, list[str]] = {}
    others = []
    for name in sorted(names):
        found = re.search(r"\bpe_(\d+)\.", name)
        if found:
            of_pe.setdefault(int(found[1]), []).append(name)
        else:
            others.append(name)
    pes = [of_pe[number] for number in sorted(of_pe)]
    half = len(pes) // 2
    return [*chain(*pes[:half]), *others, *chain(*pes[half:])]
