"""What the RTL must report, by golden model and simulator, and where it reports something else."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fpga.runs import RunOutcome
from hw.config import WORD_CHANNELS
from hw.network.zero_points import storage_zero_points
from hw.program.instructions import Instruction
from hw.program.program import Program
from models.integer.golden import Result
from offramp.rtl.job import BatchOutcome
from sim import Simulation, has_known_time, time_batch

__all__ = ["compare", "compare_batch", "expected_outputs"]

#: Differences that are described; the rest is counted.
_DESCRIBED = 20


def expected_outputs(
    program: Program, layer: Instruction, golden: Result, image: int, zero_points: Mapping[str, int]
) -> list[tuple[np.ndarray | slice, np.ndarray]]:
    """What a LAYER instruction must leave, as :class:`fpga.runs.RunOutcome` holds it.

    Parameters
    ----------
    zero_points : mapping of str to int
        The network's :func:`hw.network.zero_points.storage_zero_points`.

    Returns
    -------
    list of (rows, values)
        Of a head, the logits. Else for each core which words of its window this instruction makes, in any core, and
        those words, (words, 8), dummy channels zero; the other words of the map are other instructions'. A partial one
        makes none.
    """
    described = program.commands[layer.index]
    codes = golden.tensors[described.tensor][image].astype(np.int64)
    values = codes.reshape(-1, codes.shape[-1]) - zero_points[described.tensor]
    if not described.partial and any(head.logits == described.tensor for head in program.network.exits):
        return [(slice(None), values.reshape(-1))]
    channels = values.shape[1]
    pitch = program.config.padded_channels(channels) // WORD_CHANNELS
    words = np.pad(values, ((0, 0), (0, pitch * WORD_CHANNELS - channels))).reshape(-1, WORD_CHANNELS)
    row_words = pitch * codes.shape[1]
    first, last = described.channels
    outputs: list[tuple[np.ndarray | slice, np.ndarray]] = []
    for core in layer.cores:
        window = core.window
        index = np.arange(window.low, window.end)
        channel = index % pitch * WORD_CHANNELS
        made = np.any([(top <= index // row_words) & (index // row_words < end) for top, end in described.rows], axis=0)
        rows = made & (first <= channel) & (channel < last) & (not described.partial)
        outputs.append((rows, words[index[rows]]))
    return outputs


def compare(
    program: Program, outcomes: list[RunOutcome], golden: Result, timing: Simulation, *, first: int = 0
) -> dict[str, Any]:
    """Compare what the RTL reported with golden model and simulator; ``first`` is what the first image is called.

    Returns
    -------
    dict
        ``values_equal`` (every word that a layer has left in any core, and every class, exit and margin),
        ``cycles_equal`` (of every layer and of every run; with them products and stalls), ``layers`` and ``images``
        compared, ``early`` exits among them, ``differing`` images, ``mismatches``: the first of them in words.
    """
    values: list[str] = []
    cycles: list[str] = []
    differing: set[int] = set()
    layers = 0
    zero_points = storage_zero_points(program.network)

    def check(kind: list[str], image: int, what: str, rtl: Any, expected: Any) -> None:
        if not np.array_equal(rtl, expected):
            differing.add(image)
            kind.append(f"image {first + image}: {what}: RTL {_short(rtl)}, expected {_short(expected)}")

    for image, outcome in enumerate(outcomes):
        reported = {"label": outcome.label, "exit": outcome.exit, "margin": outcome.margin} | outcome.flags
        for name, decided in timing.decisions.result(image).items():
            check(values, image, name, reported[name], decided)
        check(cycles, image, "cycles of the run", outcome.cycles, timing.cycles[image])
        ran = np.flatnonzero(timing.layer_cycles[image])
        check(values, image, "layers run", [record["index"] for record in outcome.layers], ran.tolist())
        for number, record in enumerate(outcome.layers):
            index = record["index"]
            name = program.commands[index].name
            layers += 1
            simulated = {
                "cycles": timing.layer_cycles,
                "products": timing.products,
                "stalls": timing.stalls,
                "waited": timing.waited,
            }
            for counter, found in simulated.items():
                check(cycles, image, f"{counter} of {name}", record[counter], found[image, index])
            if not outcome.outputs:
                continue
            wanted = expected_outputs(program, program.decoded.layers[index], golden, image, zero_points)
            for core, (part, (rows, words)) in enumerate(zip(outcome.outputs[number], wanted, strict=True)):
                check(values, image, f"{name} in core {core}", part[rows], words)
    return {
        "values_equal": not values,
        "cycles_equal": not cycles,
        "layers": layers,
        "images": len(outcomes),
        "early": sum(outcome.exit < len(program.network.exits) - 1 for outcome in outcomes),
        "cycles": sum(outcome.cycles for outcome in outcomes),
        "differing": sorted(differing),
        "mismatches": (values + cycles)[:_DESCRIBED],
    }


def compare_batch(program: Program, batch: BatchOutcome, timing: Simulation, *, first: int = 0) -> dict[str, Any]:
    """Compare what a program's images did back to back, behind another run of it, with the simulator.

    ``first`` is what the first image is called.

    Returns
    -------
    dict
        ``values_equal`` (every decision), ``cycles_equal`` (of every run, and, where the simulator knows it, the cycle
        in which each result came),
        ``cycles_per_image`` of the batch, ``differing`` images, ``mismatches``.
    """
    values: list[str] = []
    cycles: list[str] = []
    differing: set[int] = set()
    known = has_known_time(program, timing)
    expected = time_batch(program, timing, selected=True).results.tolist() if known else batch.results
    for image, (outcome, came) in enumerate(zip(batch.outcomes, batch.results, strict=True)):
        reported = {"label": outcome.label, "exit": outcome.exit, "margin": outcome.margin} | outcome.flags
        wanted = timing.decisions.result(image)
        if {name: reported[name] for name in wanted} != wanted:
            differing.add(image)
            values.append(f"image {first + image} back to back: RTL {reported}, expected {wanted}")
        for what, found, right in (
            ("cycles of the run", outcome.cycles, int(timing.cycles[image])),
            ("cycle of the result", came, expected[image]),
        ):
            if found != right:
                differing.add(image)
                cycles.append(f"image {first + image} back to back: {what}: RTL {found}, expected {right}")
    return {
        "values_equal": not values,
        "cycles_equal": not cycles,
        "cycles_per_image": batch.results[-1] / len(batch.results),
        "differing": sorted(differing),
        "mismatches": (values + cycles)[:_DESCRIBED],
    }


def _short(value: Any) -> str:
    array = np.asarray(value)
    if array.size <= 8:
        return str(array.tolist())
    return f"{array.dtype} {array.shape}, sum {array.sum()}"
