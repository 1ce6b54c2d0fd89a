"""The order of work of one core in one layer: which lists an input position uses, and when output rows are final."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.geometry import ColumnClass, column_classes, row_schedule
from hw.sparse import ListStore
from hw.steps import Kernel, Step

__all__ = ["Lists", "Schedule", "kernel_lists", "schedule"]

#: Lists of a layer: for each column class, kernel row and input channel (flattened in this order) an array per PE.
Lists = list[list[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Tables and lists of one core for one LAYER instruction, before they have addresses.

    Attributes
    ----------
    name : str
        Layer.
    top : int
        First row of the map that is walked.
    words : tuple of 2 int
        First word of a position that is scanned, and the one after the last.
    steps : tuple of 2 int
        Rows and columns from one input position to the next.
    row_step : int
        Kernel rows between two that meet the same input row: the vertical stride.
    live : int
        Output rows that are unfinished at the same time.
    width : int
        Accumulators of one output row in one PE.
    rows : tuple of (taps, dumps)
        For each input row, (kernel row, output row) pairs by rising kernel row, and the rows final after it; output
        rows count from the core's first.
    columns : tuple of 2 int
        For each input column, its class and its first accumulator, which may be negative.
    lists : list of lists of int arrays (n, 2)
        Weight and accumulator offset; see ``Lists``.
    kernel_rows, channels : int
        Kernel rows and input channels that the lists are indexed by.
    """

    name: str
    top: int
    words: tuple[int, int]
    steps: tuple[int, int]
    row_step: int
    live: int
    width: int
    rows: tuple[tuple[tuple[tuple[int, int], ...], int], ...]
    columns: tuple[tuple[int, int], ...]
    lists: Lists = field(repr=False)
    kernel_rows: int
    channels: int

    @property
    def accumulators(self) -> int:
        """Accumulators of all live output rows."""
        return self.live * self.width

    def add_lists(self, store: ListStore) -> int:
        """Add the layer's lists to a store; returns the number of the first."""
        first = len(store)
        for parts in self.lists:
            store.append(parts, self.name)
        return first

    def row_fields(self, first_list: int) -> list[dict[str, int]]:
        """Values of the row table (:class:`hw.isa.Row`)."""
        return [
            {
                "list": first_list + taps[0][0] * self.channels,
                "accumulator": taps[0][1] % self.live * self.width,
                "count": len(taps),
                "dumps": dumps,
            }
            for taps, dumps in self.rows
        ]

    def column_fields(self, accumulators: int) -> list[dict[str, int]]:
        """Values of the column table (:class:`hw.isa.Column`), for a memory of so many accumulators.

        Accumulator addresses wrap around, so a start before the first one is a start near the last one.
        """
        lists = self.kernel_rows * self.channels
        return [{"list": number * lists, "accumulator": start % accumulators} for number, start in self.columns]

    def serial_cycles(self, outputs: int) -> int:
        """Cycles if every activation were nonzero and no two units ever worked at the same time.

        ``outputs`` accumulators are finished, each in the two cycles of the slowest lane. No input takes longer, for
        units only ever wait for one another: the bound that a run is given up at.
        """
        longest = np.array([max(len(part) for part in parts) for parts in self.lists])
        entries = longest.reshape(-1, self.kernel_rows, self.channels).sum(axis=2)
        places = Counter(number for number, _ in self.columns)
        words = self.words[1] - self.words[0]
        cycles = 0
        for taps, dumps in self.rows:
            kernel_rows = [tap for tap, _ in taps]
            for number, count in places.items():
                cycles += count * (words + len(taps) * self.channels + int(entries[number][kernel_rows].sum()))
            cycles += 1 + dumps * (1 + self.width)
        return cycles + 2 * outputs


def kernel_lists(kernel: Kernel, first: int, last: int, config: AcceleratorConfig) -> Lists:
    """Lists for the output channels ``first`` to ``last`` (not included) of a layer.

    Output channel ``first + n`` goes to PE ``n % pes``, offset ``n // pes``; offsets wrap around the accumulators.
    """
    classes = [ColumnClass(((0, 0),))] if kernel.total else column_classes(kernel.columns)[0]
    weight = kernel.weight[first:last].astype(np.int64)
    channels, pes = last - first, config.pes
    slots = config.padded_channels(channels) // pes
    nothing = np.zeros((0, 2), dtype=np.int64)
    by_pe = np.pad(weight, ((0, slots * pes - channels), *[(0, 0)] * 3)).reshape(slots, pes, *weight.shape[1:])
    lists = []
    for column_class in classes:
        kernels = [column for column, _ in column_class.taps]
        starts = np.array([output * slots for _, output in column_class.taps], dtype=np.int64)
        offsets = (starts[:, None] + np.arange(slots)) % config.accumulators
        for row in range(kernel.kernel_rows):
            for channel in range(channels if kernel.own else weight.shape[3]):
                if kernel.own:
                    slot, owner = divmod(channel, pes)
                    parts = [nothing] * pes
                    parts[owner] = _pairs(by_pe[slot, owner, row, kernels, 0], offsets[:, slot])
                else:
                    parts = [_pairs(by_pe[:, pe, row, kernels, channel].T, offsets) for pe in range(pes)]
                lists.append(parts)
    return lists


def _pairs(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Nonzero weights with their offsets."""
    used = values != 0
    return np.stack([values[used], offsets[used]], axis=1)


def schedule(
    step: Step, rows: tuple[int, int], channels: tuple[int, int], lists: Lists, config: AcceleratorConfig
) -> Schedule:
    """The work of a core that makes some output rows of some output channels.

    Parameters
    ----------
    rows, channels : tuple of 2 int
        First row and channel, a multiple of 8, and the ones after the last.
    lists : Lists
        :func:`kernel_lists` of these channels.
    """
    kernel, (height, width, depth) = step.kernel, step.source.shape
    first, last = channels
    slots = config.padded_channels(last - first) // config.pes
    if not kernel.own:
        first, last = 0, depth
    words = (first // WORD_CHANNELS, -(-last // WORD_CHANNELS))
    if kernel.total:
        return Schedule(
            name=step.layer.name,
            top=0,
            words=words,
            steps=(1, 1),
            row_step=1,
            live=1,
            width=slots,
            rows=tuple((((0, 0),), int(y == height - 1)) for y in range(height)),
            columns=((0, 0),) * width,
            lists=lists,
            kernel_rows=1,
            channels=last - first,
        )
    top, axis = kernel.rows.band(*rows)
    return Schedule(
        name=step.layer.name,
        top=top * kernel.steps[0],
        words=words,
        steps=kernel.steps,
        row_step=kernel.rows.stride,
        live=axis.live,
        width=kernel.columns.outputs * slots,
        rows=tuple(row_schedule(axis)),
        columns=tuple((number, output * slots) for number, output in column_classes(kernel.columns)[1]),
        lists=lists,
        kernel_rows=kernel.rows.kernel,
        channels=last - first,
    )
