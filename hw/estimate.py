"""What a step costs under a partition: cycles from the weights and an expected density, and words of list memory."""

from dataclasses import dataclass

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.geometry import ColumnClass, column_classes, row_schedule
from hw.isa import SelectKind
from hw.partition import Part, Partition, divide, inputs_of, parts_of
from hw.schedule import Block, blocks_of
from hw.steps import Kernel, Step

__all__ = ["COMMAND_CYCLES", "Estimate", "Need", "estimate", "need", "selection_cycles"]

#: Cycles of a command in which nothing is multiplied: fetch of the description, first slot, last word on its way.
COMMAND_CYCLES = 90


def selection_cycles(kind: SelectKind, length: int, pitch: int, config: AcceleratorConfig) -> int:
    """Cycles of a SELECT (fields of :class:`hw.isa.Selection`) from its start to its end, whatever the activations."""
    if kind is SelectKind.MASK:
        return pitch + 5
    tally = (config.cores - 1).bit_length()
    if kind is SelectKind.CHANNELS:
        return pitch * (length + tally + 28 + WORD_CHANNELS * pitch)
    scans = 8 // config.selector
    return (scans + 1) * (length + 6 + tally) + scans * (3 + (1 << config.selector)) + config.cores + 15


@dataclass(frozen=True)
class Need:
    """What a partition of a step needs of a PE.

    Attributes
    ----------
    accumulators : int
        Of all rows that are live at the same time.
    longest : int
        Entries of the longest list.
    """

    accumulators: int
    longest: int

    def fits(self, config: AcceleratorConfig) -> bool:
        """Whether a config has it."""
        return self.accumulators <= config.accumulators and self.longest <= config.max_list


@dataclass(frozen=True)
class Estimate:
    """Cost of a step under a partition.

    Attributes
    ----------
    work : float array (commands, cores)
        Cycles of the dispatcher or of the busiest PE, whichever is more.
    lane : float array (commands, cores)
        Cycles of the lanes at full rate, for all outputs.
    tail : float array (commands, cores)
        The same, for the outputs that become final when all input has been walked.
    pointers : int array (commands, cores)
        Lists.
    entries : int array (commands, cores, PEs)
        Words of their entries, if those of edge columns are found in those of the columns between.
    distinct : tuple of tuple of int
        Of each command, one of every set of cores with equal lists.
    channels : int array (cores,)
        Output channels as stored, those of every command.
    """

    work: np.ndarray
    lane: np.ndarray
    tail: np.ndarray
    pointers: np.ndarray
    entries: np.ndarray
    distinct: tuple[tuple[int, ...], ...]
    channels: np.ndarray

    def cycles(self, slow: bool) -> tuple[float, ...]:
        """Expected cycles of every command: of its slowest core."""
        factor = 1 + slow
        cycles = np.maximum(self.work + factor * self.tail, factor * self.lane).max(axis=1)
        return tuple((cycles + COMMAND_CYCLES).tolist())

    def rows(self) -> list[tuple[int, int]]:
        """Of every command: words of list memory, and rows that are read for them if they aren't kept."""
        words = self.pointers + self.entries.max(axis=2)
        return [
            (int(each.max()), int(each[list(cores)].sum())) for each, cores in zip(words, self.distinct, strict=True)
        ]


def _classes(kernel: Kernel) -> list[ColumnClass]:
    return [ColumnClass(((0, 0),))] if kernel.total else column_classes(kernel.columns)[0]


def _commands(step: Step, partition: Partition, config: AcceleratorConfig) -> list[list[Part]]:
    """The parts of each command of a step."""
    height, _, channels = step.result.output.shape
    words = config.padded_channels(channels) // WORD_CHANNELS
    return [
        parts_of(height, chunk, partition.bands, partition.groups) for chunk in divide(0, words, partition.commands)
    ]


def need(step: Step, partition: Partition, config: AcceleratorConfig) -> Need:
    """Accumulators and longest list of a step under a partition."""
    kernel = step.kernel
    parts = [part for command in _commands(step, partition, config) for part in command]
    slots = max(part.words[1] - part.words[0] for part in parts) * WORD_CHANNELS // config.pes
    rows = max(part.rows[1] - part.rows[0] for part in parts)
    live = 1 if kernel.total else rows if partition.passes > 1 else min(kernel.rows.live, rows)
    width = slots if kernel.total else kernel.columns.outputs * slots
    longest = 0
    blocks = {block for part in parts for block in blocks_of(kernel, part.rows, partition.merged)}
    for first, last in {part.channels(len(kernel.weight)) for part in parts}:
        counts = _by_pe(kernel.weight[first:last] != 0, kernel.own, config)
        by_row = np.stack(
            [counts[:, :, [column for column, _ in column_class.taps]].sum(axis=2) for column_class in _classes(kernel)]
        )
        for block in blocks:
            longest = max(longest, int(by_row[:, :, [row for row, _ in block]].sum(axis=2).max()))
    # Behind them the position that a pass takes out.
    return Need(live * width + (slots if partition.passes > 1 else 0), longest)


def _by_pe(used: np.ndarray, own: bool, config: AcceleratorConfig) -> np.ndarray:
    """Entries by PE, kernel row and column, and input channel (one, where each has its own list)."""
    if own:
        return used.astype(np.int64)
    padded = np.pad(used, ((0, -len(used) % config.pes), *[(0, 0)] * 3))
    return padded.reshape(-1, config.pes, *used.shape[1:]).sum(axis=0)


def estimate(step: Step, partition: Partition, density: float, config: AcceleratorConfig) -> Estimate:
    """Cost of a step.

    Parameters
    ----------
    density : float
        Expected share of nonzero activations in the step's input.
    """
    passes = inputs_of(step, partition)
    commands = [(command, *inputs) for command in _commands(step, partition, config) for inputs in passes]
    work, lane, tail = (np.zeros((len(commands), config.cores)) for _ in range(3))
    pointers = np.zeros((len(commands), config.cores), dtype=np.int64)
    channels = np.zeros(config.cores, dtype=np.int64)
    entries = np.zeros((len(commands), config.cores, config.pes), dtype=np.int64)
    distinct = []
    kernel, width = step.kernel, step.result.output.shape[1]
    # A column of the kernel meets as many input columns as outputs that it doesn't reach over an edge for.
    columns = np.zeros(kernel.weight.shape[2], dtype=np.int64)
    for index in range(kernel.columns.used):
        for tap, _ in kernel.columns.taps(index):
            columns[0 if kernel.total else tap] += 1
    for number, (command, start, end) in enumerate(commands):
        alike: dict[tuple[tuple[int, int], tuple[Block, ...]], int] = {}
        for part in command:
            first, last = part.channels(len(kernel.weight))
            rows, dumps = part.rows[1] - part.rows[0], width * (part.words[1] - part.words[0]) * WORD_CHANNELS
            uses, walked, final = _row_uses(kernel, part)
            blocks = blocks_of(kernel, part.rows, partition.merged)
            complete = end == step.source.shape[2]
            depth = last - first if kernel.own else end - start
            jobs = walked if partition.merged else int(uses.sum())
            slots = walked + rows * width + kernel.columns.used * _slots(depth, jobs, walked, density)
            nonzero = kernel.nonzero[first:last]
            if partition.passes > 1:
                nonzero = np.count_nonzero(kernel.weight[first:last, ..., start:end], axis=3)
            padded = np.pad(nonzero, ((0, -len(nonzero) % config.pes), (0, 0), (0, 0)))
            by_pe = padded.reshape(-1, config.pes, *nonzero.shape[1:]).sum(axis=0)
            products = density * (by_pe * uses[:, None] * columns).sum(axis=(1, 2))
            if not complete:
                # Only the position behind the others is taken out.
                rows, final, dumps = 1, 1, dumps // width
            work[number, part.core] = max(slots, float(products.max()) + rows * dumps / config.pes)
            lane[number, part.core] = rows * dumps / config.lanes
            tail[number, part.core] = final * dumps / config.lanes
            alike.setdefault(((first, last), blocks), part.core)
            pointers[number, part.core] = len(_classes(kernel)) * len(blocks) * depth
            channels[part.core] += complete * (part.words[1] - part.words[0]) * WORD_CHANNELS
            entries[number, part.core] = (by_pe * _stored_uses(kernel, blocks)).sum(axis=(1, 2))
        distinct.append(tuple(alike.values()))
    return Estimate(work, lane, tail, pointers, entries, tuple(distinct), channels)


def _row_uses(kernel: Kernel, part: Part) -> tuple[np.ndarray, int, int]:
    """How often each kernel row is used, the input rows, and the output rows that become final below the map."""
    if kernel.total:
        return np.array([kernel.rows.size]), kernel.rows.size, 0
    _, axis = kernel.rows.band(*part.rows)
    rows, blank = row_schedule(axis)
    uses = np.zeros(axis.kernel, dtype=np.int64)
    for taps, _ in rows:
        for tap, _ in taps:
            uses[tap] += 1
    return uses, len(rows) - blank, sum(final for _, final in rows[len(rows) - blank :])


def _slots(depth: int, uses: int, rows: int, density: float) -> float:
    """Expected slots for one column in some rows: one for every nonzero channel and kernel row, or one for a word."""
    full, rest = divmod(depth, WORD_CHANNELS)
    empty = full * (1 - density) ** WORD_CHANNELS + bool(rest) * (1 - density) ** rest
    return depth * density * uses + rows * empty


def _stored_uses(kernel: Kernel, blocks: tuple[Block, ...]) -> np.ndarray:
    """How often the entries of each kernel row and column are stored: once for every list that isn't part of another.

    Lists of some of a list's kernel rows are parts of it; those of some of its columns only if it has a single row.
    """
    rows = [frozenset(row for row, _ in block) for block in blocks]
    columns = [frozenset(column_class.taps) for column_class in _classes(kernel)]
    times = np.zeros(kernel.weight.shape[1:3], dtype=np.int64)
    for block in rows:
        if any(block < other for other in rows):
            continue
        for taps in columns:
            if not (len(block) == 1 and any(taps < other for other in columns)):
                for column, _ in taps:
                    times[list(block), column] += 1
    return times
