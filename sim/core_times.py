"""When each core works on each layer of one image, what each of its PEs does, and when its lanes are done with each row
of outputs.

No event of a core depends on a later one: its first rows alone take until the last of these rows is done.
"""

from dataclasses import dataclass, replace

import numpy as np

from hw.network.exits import DEFAULT, Conditions
from hw.network.zero_points import storage_zero_points
from hw.program.program import Program
from hw.weight_source import PROMPT, WeightSource
from sim.kernel import CAUSES
from sim.plan import Plan, TimedLayer
from sim.simulate import active_inputs, simulate
from sim.timing import BEGIN

__all__ = ["CoreTimes", "core_times"]

_BARRIER = CAUSES.index("barrier")


@dataclass(frozen=True, kw_only=True)
class CoreTimes:
    """One core on one layer; times in cycles of the run.

    Attributes
    ----------
    layer : str
    core : int
    begin, end : int
        The core works in between; the layer ends with its last core.
    rows : tuple of int
        When the lanes have taken the last value of each row of outputs.
    pe_ends : tuple of int
        When each PE has issued its last entry.
    pe_jobs : tuple of int
        Jobs that each PE has entries of.
    pe_spent : dict of str to tuple of int
        Cycles of each PE by cause (:data:`sim.kernel.CAUSES`), from ``begin`` on; over all causes they add up to the
        layer's, to the end of its last core.
    """

    layer: str
    core: int
    begin: int
    end: int
    rows: tuple[int, ...]
    pe_ends: tuple[int, ...]
    pe_jobs: tuple[int, ...]
    pe_spent: dict[str, tuple[int, ...]]


def core_times(
    program: Program, codes: np.ndarray, *, conditions: Conditions = DEFAULT, source: WeightSource = PROMPT
) -> list[CoreTimes]:
    """What every working core does on an image, layer by layer up to the exit that it takes.

    Parameters
    ----------
    codes : int8 array (1, height, width, channels)
    conditions : Conditions
        Of the run.
    source : WeightSource
        Where lists come from that don't fit.

    Raises
    ------
    ValueError
        When it isn't one image, or not as :func:`sim.simulate.simulate` takes it.
    """
    from models.integer.golden import run

    if len(codes) != 1:
        raise ValueError(f"times of cores must be of 1 image, not {len(codes)}")
    values = run(program.network, codes)
    timing = simulate(program, codes, golden=values, conditions=conditions, source=source)
    plan, zero_points = Plan(program, source), storage_zero_points(program.network)
    tensors = program.packed.tensors()
    loading, found = plan.loading(1), []
    for number, (layer, command) in enumerate(zip(plan.layers, program.commands, strict=True)):
        ends = timing.layer_ends[:, number]
        if not ends[0]:
            break
        begin = ends - timing.layer_cycles[:, number] + timing.waited[:, number]
        tensor, own = values.tensors[layer.source], program.network.layer(command.layer)
        shape = tensors[layer.source].shape
        active = active_inputs(tensor, zero_points[layer.source], own, shape, program.config)
        held = loading.held(begin)
        _, _, _, taken, spent = plan.times_of(layer, active, ends > 0, held)
        for index, core in enumerate(layer.working[:, 0].tolist()):
            times = [int(plan.times_of(part, active, ends > 0, held)[0][0]) for part in _first_rows(layer, index)]
            last = int(begin[0]) + BEGIN - layer.latency
            found.append(
                CoreTimes(
                    layer=timing.layer_names[number],
                    core=core,
                    begin=int(begin[0]),
                    end=int(begin[0]) + times[-1],
                    rows=tuple(last + time for time in times),
                    pe_ends=tuple((begin[0] + BEGIN + times[-1] - spent[0, core, _BARRIER]).tolist()),
                    pe_jobs=tuple(taken[0, core].tolist()),
                    pe_spent={cause: tuple(spent[0, core, n].tolist()) for n, cause in enumerate(CAUSES)},
                )
            )
        loading.ended(number + 1, ends)
    return found


def _first_rows(layer: TimedLayer, index: int) -> list[TimedLayer]:
    """One core's part of a layer up to each row that completes a row of outputs; for times only, which entries without
    a product don't change.
    """
    core, first, last, *columns = layer.working[index].tolist()
    rows = [row for row in range(first, last) if layer.rows[row, 2]]
    walk = layer.walk[index : index + 1]
    return [replace(layer, working=np.array([[core, first, row + 1, *columns]]), walk=walk, skipped=()) for row in rows]
