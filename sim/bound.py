"""The most cycles that a program can take, whatever the image.

A layer's time is a chain of sums and maxima over its jobs (:mod:`sim.kernel`): each event is the latest of what it
waits for, plus a constant, in slow layers rounded up to an odd number. None of these ever falls when one of its terms
rises, and one more nonzero activation only adds issue slots and jobs, so that every later event waits for the same or
for later ones: no input of a layer takes longer than the one without a zero. Its cycles are therefore the layer's worst
case, and their sum, with the sequencer's own cycles and those of selections, which depend on no activation, that of a
run.

Where lists are read during the run, each row of them holds the dispatcher for a cycle, wherever it falls: no event
comes later by more than one cycle for each row that may come in a layer, rounded up to an even number if that is slow.
And a layer waits no longer for its lists if those before it end sooner than they may.
"""

from dataclasses import replace

import numpy as np

from hw.network.exits import Conditions
from hw.program.isa import Opcode
from hw.program.program import Program
from hw.weight_source import PROMPT, WeightSource
from sim.plan import Plan

__all__ = ["constant_time", "layer_bounds", "worst_case"]


def layer_bounds(program: Program, *, source: WeightSource = PROMPT) -> list[int]:
    """Most cycles of each LAYER, in order, from when its lists are there."""
    return _bounds(program, Plan(program, source))


def _bounds(program: Program, plan: Plan) -> list[int]:
    tensors, bounds = program.packed.tensors(), []
    for number, layer in enumerate(plan.layers):
        height, width, channels = tensors[layer.source].shape
        nonzero = np.arange(program.config.padded_channels(channels)) < channels
        active = np.tile(nonzero, height * width)[None]
        free = int(plan.times(number, active, np.ones(1, dtype=bool))[0][0])
        held = plan.most_rows(number, free)
        bounds.append(free + held + (held & int(layer.slow)))
    return bounds


def worst_case(program: Program, *, deadline: int = 0, source: WeightSource = PROMPT) -> int:
    """Most cycles of a run, whatever the image.

    Parameters
    ----------
    deadline : int
        As of :class:`hw.program.protocol.RunOptions`, not in constant time. With one, a run that goes on at a branch
        has taken no more cycles by then.
    source : WeightSource
        Where lists come from that don't fit.
    """
    plan = Plan(program, source)
    layers, loading = enumerate(_bounds(program, plan)), plan.loading(1)
    now = worst = 0
    steps = zip(plan.instructions, plan.fetch, plan.control, plan.selecting, strict=True)
    for instruction, fetch, control, selecting in steps:
        now += fetch
        if instruction.op is Opcode.SELECT:
            now += control + selecting
        elif instruction.op is Opcode.LAYER:
            number, cycles = next(layers)
            now += control
            now += loading.wait(plan.layers[number].chunks, np.array([now])).item() + cycles
            loading.ended(number + 1, np.array([now]))
        else:
            worst = max(worst, now + control)
            now = (min(now, deadline) if deadline else now) + control
    return worst


def constant_time(program: Program, conditions: Conditions, source: WeightSource = PROMPT) -> Conditions:
    """The conditions, in constant time with the cycles that every run takes: if none are said, those of the worst case.

    Parameters
    ----------
    source : WeightSource
        As of :func:`worst_case`.
    """
    if not conditions.constant or conditions.deadline:
        return conditions
    return replace(conditions, deadline=worst_case(program, source=source))
