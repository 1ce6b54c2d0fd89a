"""The most cycles that a program can take, whatever the image.

A layer's time is a chain of sums and maxima over its jobs (:mod:`sim.kernel`): each event is the latest of what it
waits for, plus a constant, in slow layers rounded up to an odd number. None of these ever falls when one of its terms
rises, and one more nonzero activation only adds slots and jobs, so that every later event waits for the same or for
later ones: no input of a layer takes longer than the one without a zero. Its cycles are therefore the layer's worst
case, and their sum, with the sequencer's own cycles, that of a run.
"""

import numpy as np

from hw.isa import Opcode
from hw.program import Program
from sim.plan import Plan

__all__ = ["layer_bounds", "worst_case"]


def layer_bounds(program: Program) -> list[int]:
    """Most cycles of each LAYER, in order."""
    return _bounds(program, Plan(program))


def _bounds(program: Program, plan: Plan) -> list[int]:
    tensors, bounds = program.network.tensors(), []
    for number, step in enumerate(plan.steps):
        height, width, channels = tensors[step.source].shape
        nonzero = np.arange(program.config.padded_channels(channels)) < channels
        active = np.tile(nonzero, height * width)[None]
        bounds.append(int(plan.times(number, active, np.ones(1, dtype=bool))[0][0]))
    return bounds


def worst_case(program: Program, *, deadline: int = 0) -> int:
    """Most cycles of a run, whatever the image.

    Parameters
    ----------
    deadline : int
        As of :class:`hw.isa.RunOptions`. With one, a run that goes on at a branch has taken no more cycles by then.
    """
    plan = Plan(program)
    layers = iter(_bounds(program, plan))
    now = worst = 0
    for instruction, fetch, control in zip(plan.instructions, plan.fetch, plan.control, strict=True):
        now += fetch
        if instruction.op is Opcode.LAYER:
            now += control + next(layers)
        else:
            worst = max(worst, now + control)
            now = (min(now, deadline) if deadline else now) + control
    return worst
