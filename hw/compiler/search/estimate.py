"""What a step costs under a partition: cycles from the weights and an expected density, and words of list memory."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np

from hw.compiler.steps.blocks import Block
from hw.compiler.steps.expansion import CoreTask, Expansion
from hw.compiler.steps.geometry import row_schedule
from hw.compiler.steps.step import Kernel
from hw.config import WORD_CHANNELS, AcceleratorConfig

__all__ = ["COMMAND_CYCLES", "Estimate", "estimate"]

#: Cycles of a command in which nothing is multiplied: fetch of the description, first issue slot, last word on its way.
COMMAND_CYCLES = 90
#: How little PEs and lanes delay one another with nothing between them; fits the simulator's cycles of ResNet-8.
_SHARPNESS = 3
#: Standard deviation of a band's zeros, relative to their mean; fits the simulator's cycles of MLPerf Tiny's networks.
_SPREAD = 0.12
#: Expected maximum of so many independent standard normal variables.
_MAXIMUM = {1: 0.0, 2: 0.564, 4: 1.029, 8: 1.424}


@dataclass(frozen=True)
class Estimate:
    """Cost of a step under a partition.

    Attributes
    ----------
    work : float array (commands, cores, 2)
        Cycles of a core whose lanes are fast, and of one whose lanes are slow.
    pointers : int array (commands, cores)
        Lists.
    entries : int array (commands, cores, PEs)
        Words of their entries, if those of edge columns are found in those of the columns between.
    distinct : tuple of tuple of int
        Of each command, one of every set of cores with equal lists.
    lists : tuple of tuple
        Of each command and working core, what its lists depend on besides the layer.
    channels : int array (cores,)
        Output channels as stored, those of every command.
    """

    work: np.ndarray
    pointers: np.ndarray
    entries: np.ndarray
    distinct: tuple[tuple[int, ...], ...]
    lists: tuple[tuple[Hashable, ...], ...]
    channels: np.ndarray

    def cycles(self, slow: bool) -> tuple[float, ...]:
        """Expected cycles of every command: of its slowest core."""
        return tuple((self.work[:, :, int(slow)].max(axis=1) + COMMAND_CYCLES).tolist())

    def rows(self) -> np.ndarray:
        """Of every command: words of list memory, and rows that are read for them if they aren't kept.

        int64 array (commands, 2).
        """
        words = self.pointers + self.entries.max(axis=2)
        read = [each[list(cores)].sum() for each, cores in zip(words, self.distinct, strict=True)]
        return np.stack([words.max(axis=1), np.array(read)], axis=1).astype(np.int64)


def estimate(expansion: Expansion, density: float, config: AcceleratorConfig) -> Estimate:
    """Cost of a step.

    Parameters
    ----------
    density : float
        Expected share of nonzero activations in the step's input.
    """
    layers, partition = list(expansion.layers()), expansion.partition
    work = np.zeros((len(layers), config.cores, 2))
    pointers = np.zeros((len(layers), config.cores), dtype=np.int64)
    channels = np.zeros(config.cores, dtype=np.int64)
    entries = np.zeros((len(layers), config.cores, config.pes), dtype=np.int64)
    distinct, depends = [], []
    # The busiest of several bands is expected to have fewer zeros than they have on average.
    most = 1 - (1 - density) * (1 - _SPREAD * _MAXIMUM[partition.bands])
    for number, (tasks, inputs) in enumerate(layers):
        alike: dict[Hashable, int] = {}
        complete = inputs[1] == expansion.depth
        for task in tasks:
            kernel, core, (first, last) = task.kernel, task.tile.core, task.channels
            made_channels = task.words * WORD_CHANNELS
            depth, group = (last - first, config.pes) if kernel.depthwise else (inputs[1] - inputs[0], 1)
            by_pe = _by_pe(task, inputs, partition.passes > 1, config)
            made = 1 if kernel.global_pool or not complete else kernel.columns.outputs
            lines = _lines(task, partition.merged, complete)
            work[number, core] = _cycles(
                task, most * by_pe, lines, _issue_slots(depth, density, group), (made, made_channels), config
            )
            alike.setdefault(task.same_lists, core)
            pointers[number, core] = task.list_count(inputs, config)
            channels[core] += complete * made_channels
            stored = 1 if task.split is not None else _stored_uses(kernel, task.blocks)
            entries[number, core] = (by_pe * stored).sum(axis=(1, 2))
        distinct.append(tuple(alike.values()))
        depends.append(tuple((task.tile.core, task.same_lists) for task in tasks))
    return Estimate(work, pointers, entries, tuple(distinct), tuple(depends), channels)


def _by_pe(task: CoreTask, inputs: tuple[int, int], some: bool, config: AcceleratorConfig) -> np.ndarray:
    """Nonzero weights by PE, kernel row and kernel column, of a pass over ``some`` input channels or of all."""
    kernel, (first, last) = task.kernel, task.channels
    nonzero = kernel.nonzero[first:last]
    if some:
        nonzero = np.count_nonzero(kernel.weight[first:last, ..., slice(*inputs)], axis=3)
    if len(nonzero) % config.pes:
        nonzero = np.pad(nonzero, ((0, -len(nonzero) % config.pes), (0, 0), (0, 0)))
    by_pe: np.ndarray = nonzero.reshape(-1, config.pes, *nonzero.shape[1:]).sum(axis=0)
    return by_pe


@dataclass(frozen=True)
class _Line:
    """A row of a walk: kernel rows that meet it, lists for each of its activations, and whether outputs are final."""

    taps: tuple[int, ...]
    jobs: int
    final: bool


def _lines(task: CoreTask, merged: bool, complete: bool) -> list[_Line]:
    """The rows of a core's walk; of one that isn't complete only the last takes outputs out."""
    kernel, rows = task.kernel, task.rows
    if kernel.global_pool:
        count = kernel.rows.size
        return [_Line((0,), 1, y == count - 1) for y in range(count)]
    walk, blank = row_schedule(kernel.rows.band(*rows)[1])
    if not complete:
        filled = walk[: len(walk) - blank]
        walk = tuple((taps, y == len(filled) - 1) for y, (taps, _) in enumerate(filled))
    found = [_Line(tuple(tap for tap, _ in taps), 1 if merged and taps else len(taps), final) for taps, final in walk]
    if task.split is None or task.split.rows_parted:
        return found
    # What is skipped takes its time.
    lists, places = task.split.marked.lists, task.split.marked.places
    return [replace(line, taps=lists[places[y][0]] if line.taps else ()) for y, line in enumerate(found)]


def _issue_slots(depth: int, density: float, group: int) -> tuple[float, float]:
    """Expected issue slots of a position: groups of so many channels that aren't all zero, and words of zeros."""

    def empty(size: int) -> float:
        full, rest = divmod(depth, size)
        return full * (1 - density) ** size + bool(rest) * (1 - density) ** rest

    return -(-depth // group) - empty(group), empty(WORD_CHANNELS)


def _cycles(
    task: CoreTask,
    by_pe: np.ndarray,
    lines: list[_Line],
    slots: tuple[float, float],
    made: tuple[int, int],
    config: AcceleratorConfig,
) -> tuple[float, float]:
    """Cycles with fast and with slow lanes.

    Parameters
    ----------
    by_pe : float array (PEs, kernel rows, kernel columns)
        Expected products with all activations of a position.
    slots : tuple of 2 float
        :func:`_issue_slots` of a position.
    made : tuple of 2 int
        Positions that are final behind a line whose outputs are, and channels of a position.
    """
    # A column of the kernel meets as many input columns as outputs that it doesn't reach over an edge for, or skips.
    kernel, split = task.kernel, task.split
    columns = np.zeros(by_pe.shape[2], dtype=np.int64)
    for index in range(kernel.columns.used):
        taps = [tap for tap, _ in kernel.columns.taps(index)]
        if split is not None and split.rows_parted:
            taps = list(split.marked.lists[split.marked.places[index][0]])
        for tap in taps:
            columns[0 if kernel.global_pool else tap] += 1
    by_row = (by_pe * columns).sum(axis=2)
    uses = np.array([[line.taps.count(row) for row in range(by_pe.shape[1])] for line in lines])
    busiest = by_row[int((by_row * uses.sum(axis=0)).sum(axis=1).argmax())]
    active, empty = slots
    scans = [
        (1 + kernel.columns.used * (active * line.jobs + empty if line.jobs else 1), made[0] * line.final)
        for line in lines
    ]
    products = (uses * busiest).sum(axis=1).tolist()
    return _served(scans, products, made[1], 1, config), _served(scans, products, made[1], 2, config)


def _served(
    scans: list[tuple[float, int]], products: list[float], channels: int, distance: int, config: AcceleratorConfig
) -> float:
    """Cycles until the lanes, which take steps so many cycles apart, have finished the last line.

    ``scans`` are the issue slots of each line without dumps, and the positions of ``channels`` that it completes.
    """
    dispatched = finished = 0.0
    for (scanned, positions), busy in zip(scans, products, strict=True):
        outputs, slots = positions * channels, scanned + positions
        # Beyond what waits between PEs and lanes, each delays the other wherever it has more to do.
        sides = busy + outputs / config.pes, distance * outputs / config.lanes
        tight = 1 - min(1, config.output_queue * config.pes / max(1, outputs))
        sharpness = _SHARPNESS / max(tight, 0.01)
        served = max(1e-9, *sides)
        served *= sum((side / served) ** sharpness for side in sides) ** (1 / sharpness)
        dispatched += slots
        finished = max(finished + served, dispatched)
        # The dispatcher is ahead of the PEs by what their queues hold: jobs in which a PE has an entry.
        jobs = positions + scanned * -math.expm1(-busy / scanned)
        dispatched = max(dispatched, finished - served * min(1, config.job_queue / max(1, jobs)))
    # In the end the last position leaves the lanes; below the map nothing else happens in its row.
    return finished if not products[-1] else finished + distance * channels / config.lanes


def _stored_uses(kernel: Kernel, blocks: tuple[Block, ...]) -> np.ndarray:
    """How often the entries of each kernel row and column are stored: once for every list that isn't part of another.

    Lists of some of a list's kernel rows are parts of it; those of some of its columns only if it has a single row.
    """
    rows = [frozenset(row for row, _ in block) for block in blocks]
    columns = [frozenset(column_class.taps) for column_class in kernel.classes]
    times = np.zeros(kernel.weight.shape[1:3], dtype=np.int64)
    for block in rows:
        if any(block < other for other in rows):
            continue
        for taps in columns:
            if not (len(block) == 1 and any(taps < other for other in columns)):
                for column, _ in taps:
                    times[list(block), column] += 1
    return times
