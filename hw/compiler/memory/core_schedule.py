"""The order of work of one core in one layer: which lists an input position uses, and when output rows are final."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hw.compiler.memory.kernel_lists import Lists
from hw.compiler.memory.sparse import ListStore
from hw.compiler.steps.blocks import Block, block_of
from hw.compiler.steps.expansion import CoreTask
from hw.compiler.steps.geometry import Axis, column_classes, column_dumps, row_schedule
from hw.compiler.steps.split import ALL_PARTS, SplitWalk
from hw.compiler.steps.step import Step
from hw.config import WORD_CHANNELS, AcceleratorConfig

__all__ = ["CoreSchedule", "RowWork", "core_schedule"]


@dataclass(frozen=True)
class RowWork:
    """An input row: block of its first list, its output row (it may be negative), lists per activation, whether the row
    completes an output row; of split lists the parts that it meets and the marks that it skips.
    """

    block: int
    output: int
    count: int
    final: bool
    parts: int = 0
    skip: int = 0


@dataclass(frozen=True)
class ColumnWork:
    """An input column: its class, its first output column (it may be negative), the output columns that are final after
    it; of split lists the parts that it meets and the marks that it skips.
    """

    number: int
    output: int
    dumps: int
    parts: int = 0
    skip: int = 0


@dataclass(frozen=True, kw_only=True)
class CoreSchedule:
    """Tables and lists of one core for one LAYER instruction, before they have addresses.

    Rows and columns are those of the walk; the rows of a column-major one are columns of the map.

    Attributes
    ----------
    name : str
        Layer.
    top : int
        First row of the map that is walked.
    column_major : bool
        Whether the walk goes column by column.
    words : tuple of 2 int
        First word of a position that is scanned, and the one after the last.
    steps : tuple of 2 int
        From one row of input positions to the next, and from one position to the next.
    block_step : int
        Blocks from one list of an activation to its next.
    dump_length : int
        Accumulators of one output position in one PE.
    width : int
        Accumulators of one output row in one PE.
    rows : tuple of RowWork
        Output rows count from the core's first.
    blank_rows : int
        So many of the rows, the last ones, lie below the map.
    columns : tuple of ColumnWork
    lists : Lists
    blocks, channels : int
        Blocks and input channels, or groups of channels, that the lists are indexed by.
    first_dump : int
        First accumulator that is taken out.
    partial : bool
        Whether the next LAYER goes on with the accumulators: only one position is taken out, behind those in use.
    depthwise : bool
        Whether lists are of groups of channels.
    """

    name: str
    top: int
    column_major: bool
    words: tuple[int, int]
    steps: tuple[int, int]
    block_step: int
    dump_length: int
    width: int
    rows: tuple[RowWork, ...]
    blank_rows: int
    columns: tuple[ColumnWork, ...]
    lists: Lists = field(repr=False)
    blocks: int
    channels: int
    first_dump: int = 0
    partial: bool = False
    depthwise: bool = False

    def add_lists(self, store: ListStore) -> int:
        """Add the layer's lists to a store; returns the number of the first."""
        lists = self.lists
        store.align(lists.pointer_words)
        first = len(store) // lists.pointer_words
        if lists.cuts is None:
            for parts in lists.entries:
                store.append(parts, self.name)
        else:
            for parts, cuts in zip(lists.entries, lists.cuts, strict=True):
                store.append_split(parts, cuts, self.name)
        return first

    def row_fields(self, accumulators: int) -> list[dict[str, int]]:
        """Values of the row table (:class:`hw.program.isa.Row`), for a memory of so many accumulators; addresses
        wrap.
        """
        return [
            {
                "list": row.block * self.channels,
                "accumulator": row.output * self.width % accumulators,
                "count": row.count,
                "final": int(row.final),
                "parts": row.parts,
                "skip": row.skip,
            }
            for row in self.rows
        ]

    def column_fields(self, accumulators: int) -> list[dict[str, int]]:
        """Values of the column table (:class:`hw.program.isa.Column`), for a memory of so many accumulators.

        Accumulator addresses wrap around, so a start before the first one is a start near the last one.
        """
        lists = self.blocks * self.channels
        return [
            {
                "list": column.number * lists,
                "accumulator": column.output * self.dump_length % accumulators,
                "dumps": column.dumps,
                "parts": column.parts,
                "skip": column.skip,
            }
            for column in self.columns
        ]

    def serial_cycles(self, outputs: int) -> int:
        """Cycles if every activation were nonzero and no two units ever worked at the same time.

        ``outputs`` accumulators are finished, each in the two cycles of the slowest lane. No input takes longer, for
        units only ever wait for one another: the bound that a run is given up at.
        """
        longest = np.array([max(len(part) for part in parts) for parts in self.lists.entries])
        entries = longest.reshape(-1, self.blocks, self.channels).sum(axis=2)
        places = Counter(column.number for column in self.columns)
        words = self.words[1] - self.words[0]
        dumps = sum(column.dumps for column in self.columns)
        cycles = 0
        for row in self.rows:
            blocks = [row.block + n * self.block_step for n in range(row.count)]
            for number, count in places.items():
                cycles += count * (words + row.count * self.channels + int(entries[number][blocks].sum()))
            cycles += 1 + row.final * dumps * (1 + self.dump_length)
        return cycles + 2 * outputs


def core_schedule(
    step: Step,
    task: CoreTask,
    inputs: tuple[int, int],
    column_major: bool,
    lists: Lists,
    config: AcceleratorConfig,
) -> CoreSchedule:
    """The work of a core at its task of a command.

    Parameters
    ----------
    inputs : tuple of 2 int
        Of a pass: its first input channel, a multiple of 8, and the one after its last.
    column_major : bool
        Whether the walk goes column by column.
    lists : Lists
        :func:`hw.compiler.memory.kernel_lists.kernel_lists` of the task and the pass.
    """
    kernel, blocks, (height, width, depth) = task.kernel, task.blocks, step.source.shape
    dump_length = task.words * WORD_CHANNELS // config.pes
    first, last = task.channels if kernel.depthwise else inputs
    common: dict[str, Any] = {
        "name": step.layer.name,
        "top": task.top,
        "column_major": column_major,
        "words": (first // WORD_CHANNELS, -(-last // WORD_CHANNELS)),
        "steps": kernel.steps,
        "dump_length": dump_length,
        "lists": lists,
        "blocks": len(blocks) if task.split is None else task.split.row_lists,
        "channels": dump_length if kernel.depthwise else last - first,
        "depthwise": kernel.depthwise,
    }
    if kernel.global_pool:
        return CoreSchedule(
            block_step=1,
            width=dump_length,
            rows=tuple(RowWork(0, 0, 1, y == height - 1) for y in range(height)),
            blank_rows=0,
            columns=tuple(ColumnWork(0, 0, int(x == width - 1)) for x in range(width)),
            **common,
        )
    _, axis = kernel.rows.band(*task.rows)
    walk, blank_rows = row_schedule(axis)
    columns = tuple(
        ColumnWork(number, output, dumps)
        for (number, output), dumps in zip(column_classes(kernel.columns)[1], column_dumps(kernel.columns), strict=True)
    )
    if task.split is not None:
        rows, columns = _split_work(task.split, walk, axis, columns)
    else:
        rows = tuple(_row_work(taps, final, blocks, axis) for taps, final in walk)
    whole = CoreSchedule(
        block_step=kernel.rows.stride,
        width=kernel.columns.outputs * dump_length,
        rows=rows,
        blank_rows=blank_rows,
        columns=columns,
        **common,
    )
    return whole if kernel.depthwise or last == depth else _partial(whole, task.rows[1] - task.rows[0])


def _partial(whole: CoreSchedule, outputs: int) -> CoreSchedule:
    """The same products, but nothing is taken out but a position behind all ``outputs`` rows, in the end."""
    filled = whole.rows[: len(whole.rows) - whole.blank_rows]
    right = len(whole.columns) - 1
    return replace(
        whole,
        rows=tuple(replace(row, final=y == len(filled) - 1) for y, row in enumerate(filled)),
        blank_rows=0,
        columns=tuple(replace(column, dumps=int(x == right)) for x, column in enumerate(whole.columns)),
        first_dump=outputs * whole.width,
        partial=True,
    )


#: Taps of a row, and whether it completes an output row; :func:`hw.compiler.steps.geometry.row_schedule`.
_Taps = tuple[tuple[tuple[int, int], ...], bool]


def _split_work(
    split: SplitWalk, walk: Sequence[_Taps], axis: Axis, columns: tuple[ColumnWork, ...]
) -> tuple[tuple[RowWork, ...], tuple[ColumnWork, ...]]:
    """Rows and columns of a walk with split lists, given the columns of one without."""

    def of(index: int, parted: bool) -> tuple[int, int, int]:
        """Number of the list, parts and marks that are skipped, along one axis."""
        if parted:
            return 0, split.parted.masks[index], 0
        number, skip = split.marked.places[index]
        return number, ALL_PARTS, skip

    rows = []
    for y, (taps, final) in enumerate(walk):
        if taps:
            number, parts, skip = of(y, split.rows_parted)
            rows.append(RowWork(number, block_of(taps, axis)[1], 1, final, parts, skip))
        else:
            rows.append(RowWork(0, 0, 0, final, ALL_PARTS))
    placed = []
    for x, column in enumerate(columns):
        number, parts, skip = of(x, not split.rows_parted)
        placed.append(ColumnWork(number, column.output, column.dumps, parts, skip))
    return tuple(rows), tuple(placed)


def _row_work(taps: tuple[tuple[int, int], ...], final: bool, blocks: tuple[Block, ...], axis: Axis) -> RowWork:
    if not taps:
        return RowWork(0, 0, 0, final)
    block, lowest = block_of(taps, axis)
    if block in blocks:
        return RowWork(blocks.index(block), lowest, 1, final)
    return RowWork(blocks.index(((taps[0][0], 0),)), taps[0][1], len(taps), final)
