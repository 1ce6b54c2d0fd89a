"""What a file holds, as tables: of what :mod:`offramp.files.inspect` says."""

from typing import Any

from rich.console import Group, RenderableType

from hw.config import PRESETS
from offramp.report.tables.columns import Columns
from offramp.report.tables.result_tables import key_values, metric_rows
from offramp.report.tables.units import count, points

__all__ = ["contents", "word_rows"]

#: Kinds of files whose name alone says too little.
_KINDS = {"trained": "trained network", "compressed": "compressed network"}


def contents(found: dict[str, Any]) -> Group:
    """Tables of :func:`offramp.files.inspect.describe` or :func:`offramp.files.inspect.program_dict`."""
    rows = [("kind", _KINDS.get(found["kind"], found["kind"]))] if "kind" in found else []
    parts: list[RenderableType] = []
    if found.get("kind") == "network of the zoo":
        from offramp.report.tables.zoo_tables import network_facts

        facts, taken = network_facts(found)
        rows, parts = rows + facts, [taken]
    else:
        rows += [(name, str(found[name])) for name in ("data", "seed") if name in found]
    if "network" in found:
        rows += _network(found["network"])
        parts += [Columns(*_layers(found["network"])), Columns(*_exits(found["network"]))]
    if "memories" in found:
        rows += _program(found)
        parts.append(Columns(*word_rows(found["memories"])))
    rows += metric_rows(found.get("metrics", {}))
    return Group(key_values(rows), *(part for table in parts for part in ("", table)))


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def _network(network: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("network", f"{network['name']}: {count(len(network['layers']))} layers, {network['classes']} classes"),
        ("input", _shape(network["input"])),
        ("weights", f"{count(network['nonzero_weights'])} of {count(network['weights'])} are not zero"),
    ]


def _program(found: dict[str, Any]) -> list[tuple[str, str]]:
    name = next((f"{name}: " for name, known in PRESETS.items() if known.digest() == found["config_digest"]), "")
    return [
        ("config", f"{name}{found['cores']} x {found['pes']} PEs, digest {found['config_digest'][:16]}"),
        ("commands", count(len(found["commands"]))),
    ] + (
        [("worst case", f"{count(found['worst_case_cycles'])} cycles, whatever the image")]
        if "worst_case_cycles" in found
        else []
    )


def _selected(select: dict[str, Any]) -> str:
    """What a layer selects of its input."""
    what = "elements" if select["kind"] == "elements" else "channels"
    fixed = ", always the same" if select["kind"] == "mask" else ""
    return f"{count(select['selected'])} of {count(select['of'])} {what}{fixed}"


def _layers(network: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: every layer; what is selected of inputs only where something is."""
    selects = any("select" in layer for layer in network["layers"])
    head = ["layer", "kind", "output", "weights", "not zero", *["selects"] * selects]
    return head, [
        [
            layer["name"],
            layer["kind"],
            _shape(layer["output"]),
            count(layer.get("weights")),
            count(layer.get("nonzero_weights")),
            *([_selected(layer["select"]) if "select" in layer else "-"] if selects else []),
        ]
        for layer in network["layers"]
    ]


def _exits(network: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: every exit, and the margin from which a run leaves there."""
    lines = [
        [each["logits"], "always" if each["threshold"] is None else f"margin from {count(each['threshold'])}"]
        for each in network["exits"]
    ]
    return ["exit", "taken"], lines


def word_rows(memories: dict[str, dict[str, int]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: words used of words there, in the core and PE that needs most."""
    lines = [
        [name, count(use["used"]), count(use["available"]), points(use["used"] / use["available"], 1)]
        for name, use in memories.items()
    ]
    return ["memory", "used words", "words", "share, %"], lines
