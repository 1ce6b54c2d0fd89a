"""A compilation as data: what was tried and chosen, why, and what it uses of every memory."""

from collections.abc import Sequence
from typing import Any

from hw.compiler.attempts import Attempt
from hw.compiler.choose import Chosen
from hw.compiler.compile import Compilation
from hw.compiler.steps.partition import Partition
from hw.compiler.use import MemoryUse, memory_use

__all__ = ["explanation"]


def explanation(found: Compilation) -> dict[str, Any]:
    """All that ``offramp compile --explain`` says, ready for JSON.

    Figures of layers and memories are of the attempt that made the program, or of the last one that came to a choice.

    Returns
    -------
    dict
        ``network``, ``steps``; ``refusal``, None where there is a program; ``attempts`` in order; ``expected_cycles``,
        ``layers`` and ``memories``, empty or None where it was refused before there were any.
    """
    told, proven = found.told, found.proven
    chosen = None if told is None else told.chosen
    return {
        "network": found.network.name,
        "steps": 0 if found.lowered is None else len(found.lowered.steps),
        "refusal": None if found.refusal is None else str(found.refusal),
        "attempts": [_attempt(attempt) for attempt in found.attempts],
        "expected_cycles": None if chosen is None else chosen.compared[0],
        "layers": [] if chosen is None else _layers(chosen),
        "memories": [] if proven is None else [_memory(use) for use in memory_use(proven, found.expanded, told)],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    way, chosen = attempt.way, attempt.chosen
    return {
        "strips": way.strips,
        "in_place": way.in_place,
        "streamed": way.streamed,
        "list_words": None if chosen is None else chosen.list_words,
        "expected_cycles": None if chosen is None else chosen.compared[0],
        "refusal": None if attempt.refusal is None else str(attempt.refusal),
    }


def _partition(partition: Partition) -> dict[str, Any]:
    names = ("bands", "groups", "commands", "passes", "merged", "column_major", "split")
    return {name: getattr(partition, name) for name in names}


def _layers(chosen: Chosen) -> list[dict[str, Any]]:
    """Every layer's option and its runner-up."""
    groups, steps = chosen.expanded.groups, chosen.expanded.proven.steps
    cycles = _by_step(chosen)
    layers = []
    for group, second in zip(groups, chosen.compared[1], strict=True):
        options = chosen.expanded.options[group[0]]
        layers.append(
            {
                "layer": steps[group[0]].layer.name,
                "tensor": steps[group[0]].result.name,
                "options": len(options),
                **_partition(options[chosen.choice[group[0]]].partition),
                "strips": len(group),
                "expected_cycles": sum(cycles[n] for n in group),
                "runner_up": None
                if second is None
                else {**_partition(options[second[0]].partition), "expected_cycles": second[1]},
            }
        )
    return layers


def _by_step(chosen: Chosen) -> Sequence[float]:
    """Expected cycles of every step: of all its commands."""
    cycles, found = iter(chosen.cycles), []
    for option in chosen.options:
        found.append(sum(next(cycles) for _ in option.cost.work))
    return found


def _memory(use: MemoryUse) -> dict[str, Any]:
    names = ("memory", "certainty", "used", "words", "common", "shared")
    return {name: getattr(use, name) for name in names} | {"layers": dict(use.layers)}
