"""The order of work of one core in one layer: which lists an input position uses, and when output rows are final."""

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from hw.compiler.geometry import Axis, column_classes, column_dumps, row_schedule
from hw.compiler.sparse import ListStore
from hw.compiler.steps import Kernel, Step
from hw.config import WORD_CHANNELS, AcceleratorConfig

__all__ = ["Block", "Lists", "RowWork", "Schedule", "blocks_of", "kernel_lists", "list_count", "schedule"]

#: Walks whose blocks are kept.
_KEPT = 4096
#: Lists of a layer: for each column class, block and input channel (flattened in this order) an array per PE. Where an
#: output channel reads only the input channel of its number: for each group of as many channels as there are PEs.
Lists = list[list[np.ndarray]]
#: Kernel rows whose entries stand in one list, by rising kernel row: (kernel row, output rows from the block's first).
Block = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RowWork:
    """An input row: block of its first list, its output row (it may be negative), lists per activation, whether the row
    completes an output row.
    """

    block: int
    output: int
    count: int
    final: bool


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Tables and lists of one core for one LAYER instruction, before they have addresses.

    Rows and columns are those of the walk; an upright one's rows are columns of the map.

    Attributes
    ----------
    name : str
        Layer.
    top : int
        First row of the map that is walked.
    upright : bool
        Whether the walk goes column by column.
    words : tuple of 2 int
        First word of a position that is scanned, and the one after the last.
    steps : tuple of 2 int
        From one row of input positions to the next, and from one position to the next.
    block_step : int
        Blocks from one list of an activation to its next.
    slots : int
        Accumulators of one output position in one PE.
    width : int
        Accumulators of one output row in one PE.
    rows : tuple of RowWork
        Output rows count from the core's first.
    blank_rows : int
        So many of the rows, the last ones, lie below the map.
    columns : tuple of 3 int
        For each input column its class, its first output column, which may be negative, and the output columns that
        are final after it.
    lists : list of lists of int arrays (n, 2)
        Weight and accumulator offset; see ``Lists``.
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
    upright: bool
    words: tuple[int, int]
    steps: tuple[int, int]
    block_step: int
    slots: int
    width: int
    rows: tuple[RowWork, ...]
    blank_rows: int
    columns: tuple[tuple[int, int, int], ...]
    lists: Lists = field(repr=False)
    blocks: int
    channels: int
    first_dump: int = 0
    partial: bool = False
    depthwise: bool = False

    def add_lists(self, store: ListStore) -> int:
        """Add the layer's lists to a store; returns the number of the first."""
        first = len(store)
        for parts in self.lists:
            store.append(parts, self.name)
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
            }
            for row in self.rows
        ]

    def column_fields(self, accumulators: int) -> list[dict[str, int]]:
        """Values of the column table (:class:`hw.program.isa.Column`), for a memory of so many accumulators.

        Accumulator addresses wrap around, so a start before the first one is a start near the last one.
        """
        lists = self.blocks * self.channels
        return [
            {"list": number * lists, "accumulator": output * self.slots % accumulators, "dumps": dumps}
            for number, output, dumps in self.columns
        ]

    def serial_cycles(self, outputs: int) -> int:
        """Cycles if every activation were nonzero and no two units ever worked at the same time.

        ``outputs`` accumulators are finished, each in the two cycles of the slowest lane. No input takes longer, for
        units only ever wait for one another: the bound that a run is given up at.
        """
        longest = np.array([max(len(part) for part in parts) for parts in self.lists])
        entries = longest.reshape(-1, self.blocks, self.channels).sum(axis=2)
        places = Counter(number for number, _, _ in self.columns)
        words = self.words[1] - self.words[0]
        dumps = sum(dumps for _, _, dumps in self.columns)
        cycles = 0
        for row in self.rows:
            blocks = [row.block + n * self.block_step for n in range(row.count)]
            for number, count in places.items():
                cycles += count * (words + row.count * self.channels + int(entries[number][blocks].sum()))
            cycles += 1 + row.final * dumps * (1 + self.slots)
        return cycles + 2 * outputs


def blocks_of(kernel: Kernel, rows: tuple[int, int], merged: bool) -> tuple[Block, ...]:
    """The blocks that a walk for some output rows uses: kernel row by kernel row, or those that meet a row together."""
    if kernel.total:
        return (((0, 0),),)
    if not merged:
        return tuple(((row, 0),) for row in range(kernel.rows.kernel))
    return _merged_blocks(kernel.rows.band(*rows)[1])


@lru_cache(maxsize=_KEPT)
def _merged_blocks(axis: Axis) -> tuple[Block, ...]:
    """The kernel rows that meet each row of a walk together."""
    return tuple(dict.fromkeys(_block(taps, axis)[0] for taps, _ in row_schedule(axis)[0] if taps))


def _block(taps: tuple[tuple[int, int], ...], axis: Axis) -> tuple[Block, int]:
    """The kernel rows that meet an input row as a block, and the output row that its distances count from.

    That is the one of the last kernel row of the same phase, also where a row at the top of a map doesn't reach it (it
    may then be negative): lists of rows at the edges are so parts of those of the rows between.
    """
    kernel, output = taps[0]
    lowest = output - (axis.kernel - 1 - kernel) // axis.stride
    return tuple((kernel, output - lowest) for kernel, output in taps), lowest


def list_count(
    kernel: Kernel, blocks: tuple[Block, ...], channels: int, inputs: tuple[int, int], config: AcceleratorConfig
) -> int:
    """How many lists :func:`kernel_lists` makes for so many output channels, as stored, and a pass over ``inputs``."""
    each = channels // config.pes if kernel.own else inputs[1] - inputs[0]
    return len(kernel.classes) * len(blocks) * each


def kernel_lists(
    kernel: Kernel,
    first: int,
    last: int,
    blocks: tuple[Block, ...],
    config: AcceleratorConfig,
    depth: tuple[int, int] | None = None,
) -> Lists:
    """Lists for the output channels ``first`` to ``last`` (not included) of a layer, and all input channels or some.

    Output channel ``first + n`` goes to PE ``n % pes``, offset ``n // pes``; offsets wrap around the accumulators.
    """
    weight = kernel.weight[first:last].astype(np.int64)
    channels, pes = last - first, config.pes
    slots = config.padded_channels(channels) // pes
    width = kernel.columns.outputs * slots
    by_pe = np.pad(weight, ((0, slots * pes - channels), *[(0, 0)] * 3)).reshape(slots, pes, *weight.shape[1:])
    lists = []
    for column_class in kernel.classes:
        for block in blocks:
            taps = [(row, column) for row, _ in block for column, _ in column_class.taps]
            starts = [down * width + right * slots for _, down in block for _, right in column_class.taps]
            offsets = (np.array(starts, dtype=np.int64)[:, None] + np.arange(slots)) % config.accumulators
            rows, columns = np.array(taps, dtype=np.int64).reshape(-1, 2).T
            if kernel.own:
                values = by_pe[..., rows, columns, 0]  # (slots, PEs, taps)
                lists += [[_pairs(each, offsets[:, slot]) for each in values[slot]] for slot in range(slots)]
                continue
            for channel in range(*(depth or (0, weight.shape[3]))):
                values = by_pe[..., channel]  # (slots, PEs, kernel rows, kernel columns)
                lists.append([_pairs(values[:, pe][:, rows, columns].T, offsets) for pe in range(pes)])
    return lists


def _pairs(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Nonzero weights with their offsets."""
    used = values != 0
    return np.stack([values[used], offsets[used]], axis=1)


def schedule(
    step: Step,
    rows: tuple[int, int],
    channels: tuple[int, int],
    blocks: tuple[Block, ...],
    lists: Lists,
    config: AcceleratorConfig,
    inputs: tuple[int, int] | None = None,
    *,
    upright: bool = False,
) -> Schedule:
    """The work of a core that makes some output rows of some output channels.

    Parameters
    ----------
    rows, channels : tuple of 2 int
        First row and channel, a multiple of 8, and the ones after the last.
    blocks : tuple of Block
        :func:`blocks_of` the walk's kernel and rows (:meth:`hw.compiler.steps.Kernel.walk`).
    lists : Lists
        :func:`kernel_lists` of these channels and blocks, and of that kernel.
    inputs : tuple of 2 int, optional
        Of a pass: its first input channel, a multiple of 8, and the one after its last.
    upright : bool
        Whether the walk goes column by column.
    """
    kernel, (height, width, depth) = step.kernel, step.source.shape
    top = 0 if kernel.total else kernel.rows.band(*rows)[0] * kernel.steps[0]
    kernel, rows = kernel.walk(rows, upright)
    first, last = channels
    slots = config.padded_channels(last - first) // config.pes
    if not kernel.own:
        first, last = inputs or (0, depth)
    common: dict[str, Any] = {
        "name": step.layer.name,
        "top": top,
        "upright": upright,
        "words": (first // WORD_CHANNELS, -(-last // WORD_CHANNELS)),
        "steps": kernel.steps,
        "slots": slots,
        "lists": lists,
        "blocks": len(blocks),
        "channels": slots if kernel.own else last - first,
        "depthwise": kernel.own,
    }
    if kernel.total:
        return Schedule(
            block_step=1,
            width=slots,
            rows=tuple(RowWork(0, 0, 1, y == height - 1) for y in range(height)),
            blank_rows=0,
            columns=tuple((0, 0, int(x == width - 1)) for x in range(width)),
            **common,
        )
    _, axis = kernel.rows.band(*rows)
    walk, blank_rows = row_schedule(axis)
    places = zip(column_classes(kernel.columns)[1], column_dumps(kernel.columns), strict=True)
    whole = Schedule(
        block_step=kernel.rows.stride,
        width=kernel.columns.outputs * slots,
        rows=tuple(_row_work(taps, final, blocks, axis) for taps, final in walk),
        blank_rows=blank_rows,
        columns=tuple((number, output, dumps) for (number, output), dumps in places),
        **common,
    )
    return whole if kernel.own or last == depth else _partial(whole, rows[1] - rows[0])


def _partial(whole: Schedule, outputs: int) -> Schedule:
    """The same products, but nothing is taken out but a position behind all ``outputs`` rows, in the end."""
    filled = whole.rows[: len(whole.rows) - whole.blank_rows]
    right = len(whole.columns) - 1
    return replace(
        whole,
        rows=tuple(replace(row, final=y == len(filled) - 1) for y, row in enumerate(filled)),
        blank_rows=0,
        columns=tuple((number, output, int(x == right)) for x, (number, output, _) in enumerate(whole.columns)),
        first_dump=outputs * whole.width,
        partial=True,
    )


def _row_work(taps: tuple[tuple[int, int], ...], final: bool, blocks: tuple[Block, ...], axis: Axis) -> RowWork:
    if not taps:
        return RowWork(0, 0, 0, final)
    block, lowest = _block(taps, axis)
    if block in blocks:
        return RowWork(blocks.index(block), lowest, 1, final)
    return RowWork(blocks.index(((taps[0][0], 0),)), taps[0][1], len(taps), final)
