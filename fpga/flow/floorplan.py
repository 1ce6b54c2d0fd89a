"""Gives the block RAMs and multipliers of each core sites beside one another, which nextpnr's placer does not.

nextpnr 0.11 scatters a core's block RAMs over the whole device, and the logic follows them: long wires. It leaves a few
multipliers far from all that they are connected with.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from hw.output import write_file

__all__ = ["DEVICES", "Device", "fix_sites", "shares_of"]

_BLOCK_RAM, _MULTIPLIER = "DP16KD", "MULT18X18D"
#: What a person calls them.
_KINDS = {_BLOCK_RAM: "block RAMs", _MULTIPLIER: "multipliers"}
#: From so many cores on, half of them have the upper rows, half the lower ones.
_STACKED = 8


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where a device has what.

    Attributes
    ----------
    rams : tuple of int
        Columns of block RAM sites; the four sites of a block have their numbers in turn.
    ram_rows : tuple of int
    multipliers : tuple of int
        Columns of multiplier sites; the four sites of a block are called :attr:`NUMBERS` in turn.
    multiplier_rows : tuple of 2 tuple of int
        The rows of the upper cores and those of the lower ones, the nearest to their block RAMs first. Of a row that
        both have, the lower ones get what the others of their rows lack.
    """

    NUMBERS = (0, 1, 4, 5)

    rams: tuple[int, ...]
    ram_rows: tuple[int, ...]
    multipliers: tuple[int, ...]
    multiplier_rows: tuple[tuple[int, ...], tuple[int, ...]]


DEVICES = {
    "85k": Device(
        rams=(
            *(4, 6, 8, 10, 13, 15, 17, 19, 22, 24, 26, 28, 31, 33, 35, 37, 40, 42, 44, 46, 49, 51, 53, 55, 58, 60),
            *(62, 64, 69, 71, 73, 75, 78, 80, 82, 84, 87, 89, 91, 93, 96, 98, 100, 102, 105, 107, 109, 111, 114, 116),
            *(118, 120),
        ),
        ram_rows=(22, 46, 70, 82),
        multipliers=(
            *(4, 5, 8, 9, 13, 14, 17, 18, 22, 23, 26, 27, 31, 32, 35, 36, 40, 41, 44, 45, 49, 50, 53, 54, 58, 59),
            *(62, 63, 69, 70, 73, 74, 78, 79, 82, 83, 87, 88, 91, 92, 96, 97, 100, 101, 105, 106, 109, 110, 114, 115),
            *(118, 119),
        ),
        multiplier_rows=((34, 10), (58, 34)),
    ),
}


def shares_of(device: Device, cores: int, multipliers: int) -> list[dict[str, list[str]]]:
    """Sites of each core by type of cell: cores beside one another lie beside one another.

    Parameters
    ----------
    device : Device
    cores : int
        A power of two up to 8.
    multipliers : int
        That a core needs.

    Returns
    -------
    list of dict
        Of block RAMs nearest neighbours in turn; of multipliers the nearest rows first, of each row its middle.
    """
    stacks = 2 if cores >= _STACKED else 1
    beside, height = cores // stacks, len(device.ram_rows) // stacks
    found = []
    for core in range(cores):
        stack, part = divmod(core, beside)
        # Back again in the second stack.
        part = beside - 1 - part if stack else part
        rams: list[str] = []
        for number, row in enumerate(device.ram_rows[stack * height : (stack + 1) * height]):
            line = [f"X{column}/Y{row}/EBR{i % 4}" for i, column in _part(device.rams, part, beside)]
            rams += reversed(line) if number % 2 else line
        columns = _part(device.multipliers, part, beside)
        sites = [
            f"X{column}/Y{row}/MULT18_{Device.NUMBERS[i % 4]}"
            for row, of_row in _by_row(device, columns, stack if stacks == 2 else None, multipliers)
            for i, column in of_row
        ]
        found.append({_BLOCK_RAM: rams, _MULTIPLIER: sites})
    return found


def _by_row(
    device: Device, columns: Sequence[tuple[int, int]], stack: int | None, needed: int
) -> Iterator[tuple[int, Sequence[tuple[int, int]]]]:
    """The rows of multipliers of a stack, or of all, with the columns that a core has of each, those in its middle
    first.
    """
    upper, lower = device.multiplier_rows
    middle = len(columns) // 2
    columns = [columns[n] for n in sorted(range(len(columns)), key=lambda n: abs(n - middle))]
    shared = set(upper) & set(lower)
    to_lower = max(0, needed - len(columns) * (len(lower) - len(shared)))
    for row in dict.fromkeys(chain(upper, lower)) if stack is None else device.multiplier_rows[stack]:
        if stack is None or row not in shared:
            yield row, columns
        else:
            yield row, columns[:to_lower] if stack else columns[to_lower:]


def _part(columns: Sequence[int], part: int, parts: int) -> list[tuple[int, int]]:
    """The columns of one of several equal parts beside one another, with their numbers."""
    width = len(columns) // parts
    return list(enumerate(columns))[part * width : (part + 1) * width]


def fix_sites(netlist: Path, device: Device) -> str:
    """Fix block RAMs and multipliers of all cores in a netlist as Yosys writes it; returns what was done, for a person.

    Nothing is where a core needs more than its share of the block RAMs, which multipliers follow; only block RAMs are
    where one needs more than its share of the multipliers.

    Parameters
    ----------
    netlist : Path
        JSON, written anew.
    device : Device
    """
    design = json.loads(netlist.read_text())
    (top,) = (module for module in design["modules"].values() if module.get("attributes", {}).get("top"))
    cores: dict[int, dict[str, list[str]]] = {}
    for name, cell in top["cells"].items():
        found = re.search(r"\bcore_(\d+)\.", name)
        if found and cell["type"] in _KINDS:
            cores.setdefault(int(found[1]), {kind: [] for kind in _KINDS})[cell["type"]].append(name)
    if not cores:
        return "no core has block RAMs or multipliers"
    shares = shares_of(device, len(cores), max(len(of[_MULTIPLIER]) for of in cores.values()))
    shortages = {kind: _shortage(cores, shares, kind) for kind in _KINDS}
    if shortages[_BLOCK_RAM]:
        return f"none, {shortages[_BLOCK_RAM]}"
    for core, share in enumerate(shares):
        sites = dict(zip(_in_order(cores[core][_BLOCK_RAM]), share[_BLOCK_RAM], strict=False))
        if not shortages[_MULTIPLIER]:
            sites |= _beside(sites, cores[core][_MULTIPLIER], share[_MULTIPLIER])
        for name, site in sites.items():
            top["cells"][name].setdefault("attributes", {})["BEL"] = site
    write_file(netlist, json.dumps(design).encode())
    counts = [
        f"no {called}, {shortages[kind]}"
        if shortages[kind]
        else f"{sum(len(of[kind]) for of in cores.values())} {called}"
        for kind, called in _KINDS.items()
    ]
    return f"of {len(cores)} cores {' and '.join(counts)}"


def _shortage(cores: dict[int, dict[str, list[str]]], shares: Sequence[dict[str, list[str]]], kind: str) -> str:
    """Which core has more cells of a kind than sites; nothing if none has."""
    for core, share in enumerate(shares):
        if len(cores[core][kind]) > len(share[kind]):
            return f"core {core} has {len(cores[core][kind])} {_KINDS[kind]} for {len(share[kind])} sites"
    return ""


def _in_order(names: Iterable[str]) -> Sequence[str]:
    """Block RAMs of a core: those of a PE together, what all PEs use in their middle."""
    of_pe: dict[int, list[str]] = {}
    others = []
    for name in sorted(names):
        number = _pe(name)
        if number is None:
            others.append(name)
        else:
            of_pe.setdefault(number, []).append(name)
    pes = [of_pe[number] for number in sorted(of_pe)]
    half = len(pes) // 2
    return [*chain(*pes[:half]), *others, *chain(*pes[half:])]


def _beside(rams: dict[str, str], names: Sequence[str], sites: Sequence[str]) -> dict[str, str]:
    """Multipliers of a core with their sites, in the order of the columns in which their owners have block RAMs."""
    columns: dict[int | None, list[int]] = {}
    for name, site in rams.items():
        columns.setdefault(_pe(name), []).append(_column(site))

    def position(name: str) -> tuple[float, str]:
        own = columns.get(_pe(name), [0])  # what has no block RAM stands first
        return sum(own) / len(own), name

    return dict(zip(sorted(names, key=position), sorted(sites[: len(names)], key=_column), strict=True))


def _pe(name: str) -> int | None:
    """Number of the PE that a cell is of; None for what all PEs use."""
    found = re.search(r"\bpe_(\d+)\.", name)
    return int(found[1]) if found else None


def _column(site: str) -> int:
    return int(site[1 : site.index("/")])
