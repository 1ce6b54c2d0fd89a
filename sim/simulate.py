"""Runs a program on images, cycle by cycle as the RTL would, without stepping through cycles."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from hw.config import AcceleratorConfig
from hw.network.active import active_mask
from hw.network.base_layer import Layer
from hw.network.exits import DEFAULT, Conditions, Decisions
from hw.network.network import INPUT, Network
from hw.network.zero_points import storage_zero_points
from hw.numerics import top2
from hw.program.isa import Opcode
from hw.program.program import Program
from hw.weight_source import PROMPT, WeightSource
from sim.bound import constant_time
from sim.kernel import CAUSES, layer_cycles
from sim.loading import Loading
from sim.plan import Plan

if TYPE_CHECKING:
    from models.integer.golden import Result

__all__ = ["Simulation", "active_inputs", "simulate"]


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Timing of a program on N images; L is the number of LAYER instructions.

    Attributes
    ----------
    layer_names : tuple of str
    cycles : int64 array (N,)
        Whole inference, as the hardware's result reports it.
    select_cycles : int64 array (N, L)
        Those of the selection before each layer, which are no part of the layer's.
    layer_cycles, stalls, products : int64 arrays (N, L)
        As the hardware's layer records; 0 where an image left before.
    jobs : int64 array (N, L)
        Nonzero activations that the dispatchers of all cores hand out, each as often as there are lists for it.
    waited : int64 array (N, L)
        Those of the layer's cycles that it waited for its lists.
    layer_ends : int64 array (N, L)
        Cycles of the run up to the end of each layer; 0 where an image left before.
    spent : dict of str to int64 array (N, L)
        PE-cycles by cause; over all causes they add up to ``layer_cycles`` times the PEs. "edges" is a cause on configs
        with split lists.
    multipliers : int
        Of the config.
    decisions : Decisions
        What every run reports.
    """

    layer_names: tuple[str, ...]
    cycles: np.ndarray
    select_cycles: np.ndarray
    layer_cycles: np.ndarray
    stalls: np.ndarray
    products: np.ndarray
    jobs: np.ndarray
    waited: np.ndarray
    layer_ends: np.ndarray
    spent: dict[str, np.ndarray]
    multipliers: int
    decisions: Decisions

    @property
    def exit_index(self) -> np.ndarray:
        """The exit taken: int64 array (N,)."""
        return self.decisions.exit

    @property
    def classes(self) -> np.ndarray:
        """Its class: int64 array (N,)."""
        return self.decisions.label

    @property
    def limit(self) -> np.ndarray:
        """Fewest cycles that the nonzero products of each layer could take: float array (N, L)."""
        return self.products / self.multipliers

    @property
    def share_of_limit(self) -> float:
        """Nonzero products per multiplier and cycle, over all images, everything included."""
        return float(self.products.sum() / (self.multipliers * self.cycles.sum()))

    @property
    def loss(self) -> dict[str, np.ndarray]:
        """Cycles lost by cause, averaged over the PEs: float arrays (N, L)."""
        return {cause: value / self.multipliers for cause, value in self.spent.items() if cause != "products"}


def active_inputs(
    codes: np.ndarray, zero_point: int, layer: Layer, shape: tuple[int, int, int], config: AcceleratorConfig
) -> np.ndarray:
    """Activations that are multiplied, as words of a map of that shape hold them, (images, activations)."""
    active = active_mask(layer, codes, zero_point).reshape(len(codes), *shape)
    extra = config.padded_channels(shape[2]) - shape[2]
    padded = np.pad(active, ((0, 0), (0, 0), (0, 0), (0, extra))) if extra else active
    return np.ascontiguousarray(padded.reshape(len(codes), -1))


def _values(golden: "Result", images: slice) -> "Result":
    """The golden model's results on some of its images."""
    return replace(
        golden,
        tensors={name: tensor[images] for name, tensor in golden.tensors.items()},
        logits=[logits[images] for logits in golden.logits],
        margins=golden.margins[images],
        exit_index=golden.exit_index[images],
        classes=golden.classes[images],
    )


def _check_values(network: Network, golden: "Result", codes: np.ndarray) -> None:
    """Refuse results of another network's form, of other images, or without their tensors."""
    expected = {name: (len(codes), *tensor.shape) for name, tensor in network.tensors().items()}
    found = {name: tensor.shape for name, tensor in golden.tensors.items()}
    if found != expected:
        name = next(name for name in (*expected, *found) if found.get(name) != expected.get(name))
        raise ValueError(
            f"{network.name}: golden must hold all tensors of these {len(codes)} images: {name} must be "
            f"{expected.get(name, 'left out')}, not {found.get(name, 'left out')}"
        )
    if not np.array_equal(golden.tensors[INPUT], codes):
        raise ValueError(f"{network.name}: golden must be of the images that are simulated, not of others")


def _check_timeout(program: Program, cycles: np.ndarray) -> None:
    """Refuse runs that the accelerator gives up (TIMEOUT)."""
    timeout = program.decoded.header.timeout
    if cycles.max() > timeout:
        raise ValueError(
            f"{program.network.name}: a run must take at most {timeout} cycles, then the accelerator gives it up, not "
            f"{cycles.max()}: its lists come too slowly, or its header isn't the compiler's"
        )


@dataclass(frozen=True)
class _Counts:
    """What is counted of each image: the arrays of :class:`Simulation`."""

    clock: np.ndarray
    selects: np.ndarray
    times: np.ndarray
    stalls: np.ndarray
    jobs: np.ndarray
    waited: np.ndarray
    ends: np.ndarray
    spent: np.ndarray

    @classmethod
    def of(cls, images: int, layers: int) -> "_Counts":
        """All 0."""
        clock, spent = np.zeros(images, np.int64), np.zeros((images, layers, len(CAUSES)), np.int64)
        selects, times, stalls, jobs, waited, ends = (np.zeros((images, layers), np.int64) for _ in range(6))
        return cls(clock, selects, times, stalls, jobs, waited, ends, spent)

    def some(self, images: slice) -> "_Counts":
        """Of some images: what is written there is written here."""
        return _Counts(*(getattr(self, field.name)[images] for field in fields(self)))


def _time(
    program: Program, plan: Plan, values: "Result", counts: _Counts, decisions: Decisions, conditions: Conditions
) -> None:
    """Follow some images through the program, instruction by instruction, and fill in their counts and decisions."""
    now, deadline = counts.clock, conditions.deadline
    zero_points, tensors = storage_zero_points(program.network), program.packed.tensors()
    loading, number = plan.loading(len(now)), 0
    steps = zip(plan.instructions, plan.fetch, plan.control, plan.selecting, strict=True)
    for instruction, fetch, control, selecting in steps:
        here = decisions.running.copy()
        now += here * fetch
        expired = (now > deadline) & (deadline > 0)
        now += here * control
        if instruction.op is Opcode.SELECT:
            counts.selects[:, number] = here * selecting
            now += counts.selects[:, number]
        elif instruction.op is Opcode.LAYER:
            timed = plan.layers[number]
            layer, name = program.network.layer(program.commands[number].layer), timed.source
            shape = tensors[name].shape
            active = active_inputs(values.tensors[name], zero_points[name], layer, shape, program.config)
            _time_layer(plan, number, active, here, counts, loading, program.config.multipliers)
            number += 1
            loading.ended(number, now)
        else:
            labels, margins = top2(values.logits[instruction.index])
            head = program.network.exits[instruction.index]
            if instruction.op is Opcode.BRANCH:
                decisions.branch(instruction.index, head, labels, margins, expired)
            else:
                decisions.stop(instruction.index, head, labels, margins)
    _check_timeout(program, now)
    if conditions.constant:
        decisions.overrun[:] = now > deadline
        np.maximum(now, deadline, out=now)


def _time_layer(
    plan: Plan,
    number: int,
    active: np.ndarray,
    here: np.ndarray,
    counts: _Counts,
    loading: Loading,
    multipliers: int,
) -> None:
    """A LAYER, by its number, of the images that are still ``here``, with what is ``active`` in their inputs."""
    now = counts.clock
    wait = here * loading.wait(plan.layers[number].chunks, now)
    now += wait
    timing = plan.times(number, active, here, loading.held(now))
    cycles, counts.stalls[:, number], counts.jobs[:, number], counts.spent[:, number] = timing
    now += cycles
    counts.times[:, number], counts.waited[:, number] = cycles + wait, wait
    counts.spent[:, number, CAUSES.index("load")] += wait * multipliers
    counts.ends[:, number] = now * here


def simulate(
    program: Program,
    codes: np.ndarray,
    *,
    golden: "Result | None" = None,
    conditions: Conditions = DEFAULT,
    source: WeightSource = PROMPT,
    batch: int = 256,
    progress: Callable[[int, int, str], None] | None = None,
) -> Simulation:
    """Time a program on images.

    Parameters
    ----------
    codes : int8 array (N, height, width, channels)
    golden : Result, optional
        The golden model's results on these images, all tensors kept, if they are known already.
    conditions : Conditions
        Of the runs, one per image. Constant time without a deadline means the worst case's.
    source : WeightSource
        Where lists come from that don't fit.
    batch : int
        Images whose activations are held at a time.
    progress : callable, optional
        Called with images done, images in all, and what is going on.

    Raises
    ------
    ValueError
        When the images aren't those of the program's network, the results aren't of this network and these images, or
        a run would take longer than the accelerator waits.
    """
    # Torch takes seconds to load; whoever needs only the sources and bounds of this package doesn't wait for it.
    from models.integer.golden import checked_images, run

    codes = checked_images(program.network, codes)
    if golden is not None:
        _check_values(program.network, golden, codes)
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    conditions = constant_time(program, conditions, source)
    plan = Plan(program, source)
    counts = _Counts.of(len(codes), len(plan.layers))
    decisions = Decisions(len(codes), conditions)
    if progress is not None and not layer_cycles.signatures:
        progress(0, len(codes), "get the simulator ready: the first time it is compiled")
    for first in range(0, len(codes), batch):
        images = slice(first, first + batch)
        values = _values(golden, images) if golden is not None else run(program.network, codes[images])
        _time(program, plan, values, counts.some(images), decisions.some(images), conditions)
        if progress is not None:
            progress(min(first + batch, len(codes)), len(codes), "simulate")
    return Simulation(
        layer_names=tuple(command.name for command in program.commands),
        cycles=counts.clock,
        select_cycles=counts.selects,
        layer_cycles=counts.times,
        stalls=counts.stalls,
        jobs=counts.jobs,
        waited=counts.waited,
        products=counts.spent[..., CAUSES.index("products")],
        layer_ends=counts.ends,
        spent={
            cause: counts.spent[..., n]
            for n, cause in enumerate(CAUSES)
            if cause != "edges" or program.config.split_lists
        },
        multipliers=program.config.multipliers,
        decisions=decisions,
    )
