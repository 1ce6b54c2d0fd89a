"""The order of work of one layer: which lists an input position uses, and when output rows are final."""

from dataclasses import dataclass, field

import numpy as np

from hw.config import MASK_CHANNELS, AcceleratorConfig
from hw.geometry import ColumnClass
from hw.sparse import ListStore

__all__ = ["Schedule", "convolution_lists", "pool_schedule"]

#: Lists of a layer: for each column class, kernel row and input channel (flattened in this order) an array per PE.
Lists = list[list[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Tables and lists of one LAYER instruction, before they have addresses.

    Attributes
    ----------
    name : str
        Layer.
    steps : tuple of 2 int
        Rows and columns from one input position to the next.
    row_step : int
        Kernel rows between two that meet the same input row: the vertical stride.
    live : int
        Output rows that are unfinished at the same time.
    width : int
        Accumulators of one output row in one PE.
    rows : tuple of (taps, dumps)
        For each input row, (kernel row, output row) pairs by rising kernel row, and the rows final after it.
    columns : tuple of 2 int
        For each input column, its class and its first accumulator, which may be negative.
    lists : list of lists of int arrays (n, 2)
        Weight and accumulator offset; see ``Lists``.
    kernel_rows, channels : int
        Kernel rows and input channels that the lists are indexed by.
    """

    name: str
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

    @property
    def longest_list(self) -> int:
        return max(len(part) for parts in self.lists for part in parts)

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

        No input takes longer, for units only ever wait for one another: the bound that a run is given up at.
        """
        longest = np.array([max(len(part) for part in parts) for parts in self.lists])
        per_class = longest.reshape(-1, self.kernel_rows, self.channels)
        words = -(-self.channels // MASK_CHANNELS)
        cycles = 0
        for taps, dumps in self.rows:
            kernel_rows = [tap for tap, _ in taps]
            for number, _ in self.columns:
                cycles += words + len(taps) * self.channels + int(per_class[number][kernel_rows].sum())
            cycles += 1 + dumps * (1 + self.width)
        return cycles + outputs


def convolution_lists(weight: np.ndarray, classes: list[ColumnClass], config: AcceleratorConfig) -> Lists:
    """Lists of a convolution.

    Parameters
    ----------
    weight : int8 array, (output channels, kernel height, kernel width, input channels)
    classes : list of ColumnClass
    config : AcceleratorConfig
        Output channel ``c`` goes to PE ``c % pes``, offset ``c // pes``; offsets wrap around the accumulators.
    """
    pes = config.pes
    channels, kernel_rows, _, depth = weight.shape
    slots = -(-channels // pes)
    padded = np.zeros((slots * pes, *weight.shape[1:]), dtype=np.int64)
    padded[:channels] = weight
    by_pe = padded.reshape(slots, pes, *weight.shape[1:])
    lists = []
    for column_class in classes:
        kernels = [kernel for kernel, _ in column_class.taps]
        offsets = np.array([output * slots for _, output in column_class.taps], dtype=np.int64)
        offsets = (offsets[:, None] + np.arange(slots)) % config.accumulators
        for row in range(kernel_rows):
            for channel in range(depth):
                parts = []
                for pe in range(pes):
                    values = by_pe[:, pe, row, kernels, channel].T
                    used = values != 0
                    parts.append(np.stack([values[used], offsets[used]], axis=1))
                lists.append(parts)
    return lists


def pool_schedule(name: str, shape: tuple[int, int, int], first: int, last: int, config: AcceleratorConfig) -> Schedule:
    """A global average pool of the channels ``first`` to ``last``: weights of 1, one accumulator for all positions."""
    height, width, channels = shape
    nothing = np.zeros((0, 2), dtype=np.int64)
    lists = []
    for channel in range(channels):
        parts = [nothing] * config.pes
        if first <= channel < last:
            slot, pe = divmod(channel - first, config.pes)
            parts[pe] = np.array([[1, slot]], dtype=np.int64)
        lists.append(parts)
    return Schedule(
        name=name,
        steps=(1, 1),
        row_step=1,
        live=1,
        width=-(-(last - first) // config.pes),
        rows=tuple((((0, 0),), int(y == height - 1)) for y in range(height)),
        columns=((0, 0),) * width,
        lists=lists,
        kernel_rows=1,
        channels=channels,
    )
