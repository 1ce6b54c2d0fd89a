"""Split lists as the kernel takes them: what a row and a column leave of a list is a list of its own.

Entries that a position skips take their cycle and make no product. The kernel knows nothing of them: they are counted
here, from the activations at such positions, and taken from its products.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.instructions import CoreLayer
from hw.program.list_memory import split_entries
from sim.vector import WIDTH

__all__ = ["Skipped", "SplitLists", "split_lists"]


@dataclass(frozen=True)
class Skipped:
    """Positions of a core's walk that skip the same entries.

    Attributes
    ----------
    core : int
    first : int array (positions,)
        The activation of the first channel that is scanned there.
    entries : int64 array (channels, PEs)
        How many each PE skips for a nonzero activation.
    """

    core: int
    first: np.ndarray
    entries: np.ndarray

    def products(self, active: np.ndarray) -> np.ndarray:
        """Entries that are skipped: int64 array (images, PEs)."""
        channels = len(self.entries)
        used = active[:, self.first[:, None] + np.arange(channels)].sum(axis=1, dtype=np.int64)
        found: np.ndarray = used @ self.entries
        return found


@dataclass(frozen=True)
class SplitLists:
    """A core's walk over lists of its own for each pair of a row and a column that leave different entries.

    Attributes
    ----------
    rows, columns : list of int
        For each row and column of the tables: first list.
    counts : int16 array (lists, WIDTH)
        Entries of every list.
    skipped : tuple of Skipped
    """

    rows: list[int]
    columns: list[int]
    counts: np.ndarray
    skipped: tuple[Skipped, ...]


def _numbered(entries: Sequence[tuple[int, int, int]]) -> tuple[list[tuple[int, int, int]], list[int]]:
    """The different ones, and which of them each is."""
    different = list(dict.fromkeys(entries))
    return different, [different.index(each) for each in entries]


def split_lists(number: int, core: CoreLayer, first: int, memory: np.ndarray, config: AcceleratorConfig) -> SplitLists:
    """The walk of a core whose lists are split.

    Parameters
    ----------
    number : int
        Of the core.
    first : int
        The activation at which its walk begins.
    memory : int64 array (PEs, words)
        What its list memories hold.
    """
    walk, filled = core.source, len(core.rows) - core.source.blank_rows
    rows, row_kinds = _numbered([(row.list, row.parts, row.skip) for row in core.rows])
    columns, column_kinds = _numbered([(column.list, column.parts, column.skip) for column in core.columns])
    channels = walk.words * WORD_CHANNELS
    counts = np.zeros((len(columns), len(rows), channels, WIDTH), dtype=np.int16)
    pitches = WORD_CHANNELS * walk.row_pitch, WORD_CHANNELS * walk.column_pitch
    skipped = []
    for x, (column_list, column_parts, column_skip) in enumerate(columns):
        for y, (row_list, row_parts, row_skip) in enumerate(rows):
            names = walk.first_list + row_list + column_list + np.arange(channels)
            parts, marks = row_parts & column_parts, row_skip | column_skip
            whole, left_out = split_entries(memory, names, parts, marks, config)
            counts[x, y, :, : config.pes] = whole.T
            down, right = (np.flatnonzero(np.array(kinds) == n) for kinds, n in ((row_kinds, y), (column_kinds, x)))
            down = down[down < filled]
            if left_out.any() and len(down):
                at = first + down[:, None] * pitches[0] + right * pitches[1]
                skipped.append(Skipped(number, at.reshape(-1), left_out.T))
    return SplitLists(
        rows=[kind * channels for kind in row_kinds],
        columns=[kind * channels * len(rows) for kind in column_kinds],
        counts=counts.reshape(-1, WIDTH),
        skipped=tuple(skipped),
    )
