"""Runs a program on images, cycle by cycle as the RTL would, without stepping through cycles."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.decode import Instruction, decode_windows
from hw.isa import Opcode
from hw.network import INPUT
from hw.program import Program
from models.golden import Result, run
from sim.kernel import CAUSES, layer_cycles
from sim.timing import (
    BRANCH_CYCLES,
    DESCRIPTION_CYCLES,
    FETCH_CYCLES,
    FIRST_PUSH,
    LANE_LATENCY,
    LAYER_CYCLES,
    OUTPUT_LATENCY,
    RAW_LATENCY,
    RESIDUAL_LATENCY,
    STOP_CYCLES,
    flush_cycles,
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
    """A LAYER instruction, as the kernel takes it; see :func:`sim.kernel.layer_cycles`."""

    source: str
    threshold: int
    parts: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    walk: np.ndarray
    slow: bool
    latency: int


def _step(program: Program, instruction: Instruction, source: str, windows: tuple[dict[str, int], ...]) -> _Step:
    """``windows`` are those that the cores keep of the source."""
    parts, walks = [], []
    rows: list[list[int]] = []
    columns: list[list[int]] = []
    for number, core in enumerate(instruction.cores):
        if not core.fields["enable"]:
            continue
        lane, fields = core.fields["lane"], core.fields["source"]
        slow = bool(lane["slow"] or core.fields["residual"]["enable"])
        latency = RESIDUAL_LATENCY if core.fields["residual"]["enable"] else LANE_LATENCY
        if lane["raw"]:
            # Logits leave one by one.
            latency = RAW_LATENCY + program.config.lanes - 1
        parts.append([number, len(rows), len(rows) + len(core.rows), len(columns), len(columns) + len(core.columns)])
        filled = len(core.rows) - fields["blank_rows"]
        rows += [[row["list"], row["count"], row["final"], y < filled] for y, row in enumerate(core.rows)]
        columns += [[column["list"], column["dumps"]] for column in core.columns]
        first = fields["base"] - windows[number]["base"] + windows[number]["low"]
        walks.append(
            [
                *(WORD_CHANNELS * n for n in (first, fields["row_pitch"], fields["column_pitch"], fields["words"])),
                fields["list_step"],
                fields["slots"],
            ]
        )
    return _Step(
        source=source,
        threshold=fields["threshold"],
        parts=np.array(parts, dtype=np.int64),
        rows=np.array(rows, dtype=np.int64),
        columns=np.array(columns, dtype=np.int64),
        walk=np.array(walks, dtype=np.int64),
        slow=slow,
        latency=latency + 1 + flush_cycles(program.config),
    )


def _steps(program: Program, layers: list[Instruction]) -> list[_Step]:
    """All steps; follows which part of every map each core keeps."""
    windows: dict[str, tuple[dict[str, int], ...]] = {INPUT: decode_windows(program.images)}
    steps = []
    for command, instruction in zip(program.commands, layers, strict=True):
        source = program.network.layer(command.layer).inputs[0]
        steps.append(_step(program, instruction, source, windows[source]))
        windows[command.tensor] = tuple(core.fields["window"] for core in instruction.cores)
    return steps


def _active(codes: np.ndarray, zero_point: int, threshold: int, config: AcceleratorConfig) -> np.ndarray:
    """Activations that are multiplied, as stored, (images, activations)."""
    active = codes != zero_point
    if threshold > 1:
        active = (codes >= zero_point + threshold) | (codes <= zero_point - threshold)
    extra = config.padded_channels(codes.shape[3]) - codes.shape[3]
    padded = np.pad(active, ((0, 0), (0, 0), (0, 0), (0, extra))) if extra else active
    return np.ascontiguousarray(padded.reshape(len(codes), -1))


def _counts(program: Program, layers: list[Instruction]) -> np.ndarray:
    """Entries of every list that the program uses, (cores, lists, PEs)."""
    config, last = program.config, 0
    for core in (core for instruction in layers for core in instruction.cores if core.fields["enable"]):
        step = core.fields["source"]["list_step"]
        reach = max(row["list"] + (row["count"] - 1) * step for row in core.rows if row["count"])
        reach += max(column["list"] for column in core.columns)
        last = max(last, reach + core.fields["source"]["words"] * WORD_CHANNELS)
    pointers = program.images["lists"].astype(np.int64)[:, :last] >> config.start_bits
    return np.ascontiguousarray(pointers.reshape(config.cores, config.pes, -1).transpose(0, 2, 1))


def _overheads(instructions: list[Instruction]) -> np.ndarray:
    """Cycles of each LAYER besides the layer's own, (layers,)."""
    return np.array(
        [
            LAYER_CYCLES
            + (number == 0 or instructions[number - 1].op is not Opcode.LAYER) * (FETCH_CYCLES + DESCRIPTION_CYCLES)
            for number, instruction in enumerate(instructions)
            if instruction.op is Opcode.LAYER
        ],
        dtype=np.int64,
    )


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
    layers = [i for i in instructions if i.op is Opcode.LAYER]
    steps, counts = _steps(program, layers), _counts(program, layers)
    branches = [i.address for i in instructions if i.op is Opcode.BRANCH]
    config = program.config
    queues = np.array([config.job_queue, config.output_queue, FIRST_PUSH, OUTPUT_LATENCY, config.lanes], dtype=np.int64)
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
                _active(tensors[step.source], zero_points[step.source], step.threshold, config),
                np.asarray(values.exit_index >= passed),
                step.parts,
                step.rows,
                step.columns,
                step.walk,
                counts,
                queues,
                step.slow,
                step.latency,
            )
        if progress is not None:
            progress(min(first + batch, len(codes)), len(codes), "simulate")
    decisions = np.minimum(exits + 1, len(branches)) * BRANCH_CYCLES + STOP_CYCLES
    # The last STOP is behind a layer.
    decisions += (exits < len(branches)) * FETCH_CYCLES
    return Simulation(
        layer_names=tuple(command.name for command in program.commands),
        cycles=times.sum(axis=1) + (times > 0) @ _overheads(instructions) + decisions,
        layer_cycles=times,
        stalls=stalls,
        products=spent[..., CAUSES.index("products")],
        spent={cause: spent[..., n] for n, cause in enumerate(CAUSES)},
        multipliers=config.multipliers,
        exit_index=exits,
        classes=classes,
    )
