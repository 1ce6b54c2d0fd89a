"""What ``offramp compile --explain`` prints: attempts, the choice for every layer, and the use of every memory."""

from typing import Any

from rich.console import Group, RenderableType

from offramp.report.tables.columns import Columns
from offramp.report.tables.result_tables import key_values
from offramp.report.tables.units import points

__all__ = ["attempt_rows", "choice_rows", "explained", "layer_use_rows", "memory_rows"]

#: How certain figures of memories are.
_CERTAINTY = {"exact": "exact", "expected": "by estimate", "least": "at least"}


def explained(found: dict[str, Any], *, refusal: bool = True) -> Group:
    """:func:`hw.compiler.explain.explanation` as tables; ``refusal``: with the reason for it above them, if there is
    one."""
    cycles = found["expected_cycles"]
    facts = [("network", f"{found['network']}: {found['steps']} steps")]
    if cycles is not None:
        facts.append(("expected", f"{cycles:,.0f} cycles of a run to the end"))
    if refusal and found["refusal"] is not None:
        facts.append(("refused", found["refusal"]))
    if refusal and "advice" in found:
        facts.append(("instead", found["advice"]))
    parts: list[RenderableType] = [key_values(facts)]
    rows = {
        "attempts": attempt_rows(found["attempts"]),
        "layers": choice_rows(found["layers"]),
        "memories": memory_rows(found["memories"]),
    }
    for name, (head, lines) in rows.items():
        if found[name]:
            parts += ["", Columns(head, lines)]
    if found["memories"]:
        names = {each["layer"]: _name(each) for each in found["layers"]}
        parts += ["", "words of every memory by layer", Columns(*layer_use_rows(found["memories"], names))]
    return Group(*parts)


def attempt_rows(attempts: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: what was tried in turn, and what came of it."""
    lines = []
    for number, each in enumerate(attempts, 1):
        maps = f"{each['strips']} strips" if each["strips"] > 1 else "whole maps"
        way = f"{maps}, sums {'in place' if each['in_place'] else 'in places of their own'}, lists "
        way += "read during the run" if each["streamed"] else "kept"
        if each["list_words"] is not None:
            way += f", planned with {each['list_words']:,} list words"
        cycles = each["expected_cycles"]
        figure = "-" if cycles is None else f"{cycles:,.0f}"
        lines.append([f"{number}", way, figure, each["refusal"] or "taken"])
    return ["attempt", "way", "expected cycles", "outcome"], lines


def _split(option: dict[str, Any]) -> str:
    """How a layer is split, in words."""
    lists = "split lists" if option["split"] else "merged" if option["merged"] else None
    words = ["column-major" if option["column_major"] else "row-major", *([lists] if lists else [])]
    words.append(f"{option['bands']}x{option['groups']}")
    counts = [(name, option.get(name, 1)) for name in ("commands", "passes", "strips")]
    return ", ".join([*words, *(f"{count} {name}" for name, count in counts if count > 1)])


def _name(layer: dict[str, Any]) -> str:
    """What a layer is called where cycles are told: by the tensor that it writes, so by the add that is fused to it.

    Results of before there was one have the layer alone.
    """
    return str(layer.get("tensor", layer["layer"]))


def choice_rows(layers: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: the chosen split of every layer, the runner-up, and what a run costs with it instead.

    The runner-up is the cheapest other split that fits and takes other cycles.
    """
    lines = []
    for each in layers:
        second = each["runner_up"]
        other = ["none", "-"] if second is None else [_split(second), f"{second['expected_cycles']:,.0f}"]
        lines.append([_name(each), f"{each['options']:,}", _split(each), f"{each['expected_cycles']:,.0f}", *other])
    return [
        "layer",
        "options",
        "split (bands x groups)",
        "expected cycles",
        "runner-up",
        "cycles of a run with it",
    ], lines


def memory_rows(memories: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: words used of words there, of every memory."""
    lines = [
        [
            each["memory"],
            f"{each['used']:,}",
            f"{each['words']:,}",
            points(each["used"] / each["words"] if each["words"] else None, 1),
            _CERTAINTY[each["certainty"]],
        ]
        for each in memories
    ]
    return ["memory", "used words", "words", "share, %", "figures"], lines


def layer_use_rows(memories: list[dict[str, Any]], names: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: words of every memory by layer; ``names`` are what those are called that have another name."""
    layers = dict.fromkeys(layer for each in memories for layer in each["layers"])
    lines = [[names.get(layer, layer), *(f"{each['layers'].get(layer, 0):,}" for each in memories)] for layer in layers]
    common = ["(no layer's)", *(f"{each['common']:,}" for each in memories)]
    return ["layer", *(each["memory"] for each in memories)], [*lines, common]
