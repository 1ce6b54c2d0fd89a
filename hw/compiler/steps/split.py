"""Split lists: without a stride, one list of an input channel serves every position of a walk.

Its entries lie in *parts*, one for each kernel index along the map's rows, so that a position that meets some of them
takes a range. Along the map's columns entries have *marks*: a column at an edge of the map skips those that would feed
an output beside it. Positions that meet kernel indices of different residues (with a stride) have different lists along
the columns, and different parts along the rows.
"""

from dataclasses import dataclass
from functools import lru_cache

from hw.compiler.steps.geometry import Axis
from hw.program.isa import MARKS, PARTS

__all__ = ["ALL_PARTS", "Marked", "Parted", "SplitWalk", "marked", "parted", "split_of"]

#: Of a position that meets whole lists.
ALL_PARTS = (1 << PARTS) - 1
#: Axes whose tables are kept.
_KEPT = 4096


def _residues(axis: Axis) -> list[list[int]]:
    """The kernel indices that meet an input index together, by its residue."""
    return [list(range(first, axis.kernel, axis.stride)) for first in range(min(axis.stride, axis.kernel))]


@dataclass(frozen=True)
class Parted:
    """An axis whose kernel indices are parts of lists.

    Attributes
    ----------
    order : tuple of int
        The kernel index of each part.
    masks : tuple of int
        Of each input index: the parts that it meets, one bit each; they are neighbours.
    """

    order: tuple[int, ...]
    masks: tuple[int, ...]


@dataclass(frozen=True)
class Marked:
    """An axis at whose edges marked entries are skipped.

    Attributes
    ----------
    lists : tuple of tuple of int
        The kernel indices of each list.
    marks : tuple of int
        Of each kernel index: its marks, one bit each.
    places : tuple of tuple of 2 int
        Of each input index: the number of its list, and the marks that it skips.
    """

    lists: tuple[tuple[int, ...], ...]
    marks: tuple[int, ...]
    places: tuple[tuple[int, int], ...]


@lru_cache(maxsize=_KEPT)
def parted(axis: Axis) -> Parted | None:
    """The axis with parts; None where there are too many."""
    order = tuple(index for each in _residues(axis) for index in each)
    if len(order) > PARTS:
        return None
    masks = tuple(sum(1 << order.index(kernel) for kernel, _ in axis.taps(index)) for index in range(axis.size))
    return Parted(order, masks)


@lru_cache(maxsize=_KEPT)
def marked(axis: Axis) -> Marked | None:
    """The axis with marks; None where more would be needed."""
    lists = _residues(axis)
    sets: list[frozenset[int]] = []
    places = []
    for index in range(axis.used):
        number = (index + axis.pad) % axis.stride
        if number >= len(lists):
            return None
        skipped = frozenset(lists[number]) - {kernel for kernel, _ in axis.taps(index)}
        if skipped:  # each index that skips something skips another set
            sets.append(skipped)
        places.append((number, skipped))
    if len(sets) > MARKS:
        return None
    marks = tuple(sum(1 << n for n, each in enumerate(sets) if kernel in each) for kernel in range(axis.kernel))
    skips = {frozenset[int](): 0} | {each: 1 << n for n, each in enumerate(sets)}
    return Marked(tuple(map(tuple, lists)), marks, tuple((number, skips[skipped]) for number, skipped in places))


@dataclass(frozen=True)
class SplitWalk:
    """How the lists of a walk are split.

    Attributes
    ----------
    parted : Parted
        Of the axis along the map's rows.
    marked : Marked
        Of the axis along its columns.
    rows_parted : bool
        Whether the rows of the walk are those of the map.
    """

    parted: Parted
    marked: Marked
    rows_parted: bool

    @property
    def lists(self) -> int:
        """Lists of an input channel."""
        return len(self.marked.lists)

    @property
    def row_lists(self) -> int:
        """Those that the rows of the walk choose from; the others its columns do."""
        return 1 if self.rows_parted else self.lists

    @property
    def same(self) -> tuple[object, ...]:
        """What the lists depend on."""
        return self.parted.order, self.marked.lists, self.marked.marks, self.rows_parted

    def taps(self, number: int) -> list[list[tuple[int, int, int]]]:
        """Of each part of a list: kernel row, kernel column and marks of its entries, as the walk meets them."""
        return [
            [
                (*((part, index) if self.rows_parted else (index, part)), self.marked.marks[index])
                for index in self.marked.lists[number]
            ]
            for part in self.parted.order
        ]


def split_of(rows: Axis, columns: Axis, *, column_major: bool) -> SplitWalk | None:
    """The split lists of a walk over these axes; None where parts or marks don't suffice."""
    down, across = (columns, rows) if column_major else (rows, columns)
    parts, marks = parted(down), marked(across)
    return None if parts is None or marks is None else SplitWalk(parts, marks, not column_major)
