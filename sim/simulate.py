"""Runs a program on images, cycle by cycle as the RTL would, without stepping through cycles."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.decode import Instruction
from hw.isa import Opcode
from hw.network import INPUT
from hw.program import Program
from hw.sparse import unpack
from models.golden import Result, run
from sim.kernel import CAUSES, layer_cycles
from sim.timing import (
    BRANCH_CYCLES,
    FIRST_PUSH,
    LANE_LATENCY,
    LAYER_OVERHEAD,
    OUTPUT_LATENCY,
    RAW_LATENCY,
    RESIDUAL_LATENCY,
    STOP_CYCLES,
)

__all__ = ["Simulation", "simulate"]


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Timing of a program on N images; L is the number of LAYER instructions.

    Attributes
    ----------
    layer_names : tuple of str
    cycles : int64 array (N,)
        Whole inference, as the hardware's result reports it.
    layer_cycles, stalls, products : int64 arrays (N, L)
        As the hardware's layer records; 0 where an image left before.
    spent : dict of str to int64 array (N, L)
        PE-cycles by cause; over all causes they add up to ``layer_cycles`` times the PEs.
    multipliers : int
        Of the config.
    exit_index, classes : int64 arrays (N,)
        The golden model's decisions.
    """

    layer_names: tuple[str, ...]
    cycles: np.ndarray
    layer_cycles: np.ndarray
    stalls: np.ndarray
    products: np.ndarray
    spent: dict[str, np.ndarray]
    multipliers: int
    exit_index: np.ndarray
    classes: np.ndarray

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


@dataclass(frozen=True)
class _Step:
    """A LAYER instruction, as the kernel takes it."""

    source: str
    stored_channels: int
    rows: np.ndarray
    columns: np.ndarray
    walk: np.ndarray
    residual: bool
    latency: int


def _step(program: Program, instruction: Instruction, source: str) -> _Step:
    layer: Any = instruction.layer
    fields = layer["source"]
    height_width_channels = program.network.tensors()[source].shape
    channels = height_width_channels[2]
    stored = channels if source == INPUT else program.config.padded_channels(channels)
    raw, residual = bool(layer["lane"]["raw"]), bool(layer["residual"]["enable"])
    return _Step(
        source=source,
        stored_channels=stored,
        rows=np.array([[row["list"], row["count"], row["dumps"]] for row in instruction.rows], dtype=np.int64),
        columns=np.array([column["list"] for column in instruction.columns], dtype=np.int64),
        walk=np.array(
            [
                fields["row_pitch"],
                fields["column_pitch"],
                stored,
                fields["list_step"],
                fields["accumulator_step"],
            ],
            dtype=np.int64,
        ),
        residual=residual,
        latency=RAW_LATENCY if raw else RESIDUAL_LATENCY if residual else LANE_LATENCY,
    )


def _nonzero(codes: np.ndarray, zero_point: int, channels: int) -> np.ndarray:
    """Nonzero activations as stored, (images, activations)."""
    active = codes != zero_point
    padded = np.pad(active, ((0, 0), (0, 0), (0, 0), (0, channels - codes.shape[3])))
    return np.ascontiguousarray(padded.reshape(len(codes), -1))


def _counts(program: Program, steps: list[_Step], instructions: list[Instruction]) -> np.ndarray:
    """Entries of every list that the program uses, (lists, PEs)."""
    last = 0
    for step, instruction in zip(steps, instructions, strict=True):
        layer: Any = instruction.layer
        reach = (step.rows[:, 0] + (step.rows[:, 1] - 1) * layer["source"]["list_step"]).max() + step.columns.max()
        last = max(last, int(reach) + program.network.tensors()[step.source].shape[2])
    return unpack(program.images["lists"], last, program.config).counts.astype(np.int64)


def _values(golden: Result, part: slice) -> Result:
    """The golden model's results on some of its images."""
    return Result(
        tensors={name: tensor[part] for name, tensor in golden.tensors.items()},
        logits=[logits[part] for logits in golden.logits],
        margins=golden.margins[part],
        exit_index=golden.exit_index[part],
        classes=golden.classes[part],
    )


def simulate(
    program: Program,
    codes: np.ndarray,
    *,
    golden: Result | None = None,
    batch: int = 256,
    progress: Callable[[int, int, str], None] | None = None,
) -> Simulation:
    """Time a program on images.

    Parameters
    ----------
    codes : int8 array (N, height, width, channels)
    golden : Result, optional
        The golden model's results on these images, all tensors kept, if they are known already.
    batch : int
        Images whose activations are held at a time.
    progress : callable, optional
        Called with images done, images in all, and what is going on.

    Raises
    ------
    ValueError
        When the images aren't those of the program's network.
    """
    instructions = program.instructions()
    layers = [i for i in instructions if i.layer is not None]
    sources = [program.network.layer(command.layer).inputs[0] for command in program.commands]
    steps = [_step(program, instruction, source) for instruction, source in zip(layers, sources, strict=True)]
    counts = _counts(program, steps, layers)
    branches = [i.address for i in instructions if i.op is Opcode.BRANCH]
    config = program.config
    queues = np.array([config.job_queue, config.output_queue, FIRST_PUSH, OUTPUT_LATENCY], dtype=np.int64)
    zero_points = {name: tensor.zero_point for name, tensor in program.network.tensors().items()}

    shape = (len(codes), len(steps))
    times, stalls = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    spent = np.zeros((*shape, len(CAUSES)), np.int64)
    exits, classes = np.zeros(len(codes), np.int64), np.zeros(len(codes), np.int64)
    for first in range(0, len(codes), batch):
        part = slice(first, first + batch)
        values = _values(golden, part) if golden is not None else run(program.network, codes[part])
        tensors = {INPUT: np.asarray(codes[part]), **values.tensors}
        exits[part], classes[part] = values.exit_index, values.classes
        for number, step in enumerate(steps):
            passed = sum(address < layers[number].address for address in branches)
            times[part, number], stalls[part, number], spent[part, number] = layer_cycles(
                _nonzero(tensors[step.source], zero_points[step.source], step.stored_channels),
                np.asarray(values.exit_index >= passed),
                step.rows,
                step.columns,
                step.walk,
                counts,
                queues,
                step.residual,
                step.latency,
            )
        if progress is not None:
            progress(min(first + batch, len(codes)), len(codes), "simulate")
    decisions = np.minimum(exits + 1, len(branches)) * BRANCH_CYCLES + STOP_CYCLES
    return Simulation(
        layer_names=tuple(command.name for command in program.commands),
        cycles=times.sum(axis=1) + (times > 0).sum(axis=1) * LAYER_OVERHEAD + decisions,
        layer_cycles=times,
        stalls=stalls,
        products=spent[..., CAUSES.index("products")],
        spent={cause: spent[..., n] for n, cause in enumerate(CAUSES)},
        multipliers=config.multipliers,
        exit_index=exits,
        classes=classes,
    )
