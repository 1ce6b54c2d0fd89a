"""Where the products of an input position go: pure index arithmetic of convolution, shared by no one but the compiler.

Along each axis, input index ``i`` meets kernel index ``k`` at output index ``(i + pad - k) / stride`` where that is an
integer inside the map. A *tap* is such a pair (kernel index, output index).
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Axis", "ColumnClass", "column_classes", "column_dumps", "row_schedule"]

#: Axes whose tables are kept: the compiler asks for those of a walk once for every way to do a layer.
_KEPT = 4096


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a convolution.

    Parameters
    ----------
    size, kernel, stride, pad, outputs : int
        Input positions, kernel taps, stride, padding before the first position, output positions.
    """

    size: int
    kernel: int
    stride: int
    pad: int
    outputs: int

    def taps(self, index: int) -> tuple[tuple[int, int], ...]:
        """Taps of an input index, by rising kernel index (and so falling output index)."""
        reach = index + self.pad
        # From the kernel index that meets the last output, or the first of its phase, to the one that meets output 0.
        lowest = max(reach - (self.outputs - 1) * self.stride, reach % self.stride)
        highest = min(reach, self.kernel - 1)
        return tuple((k, (reach - k) // self.stride) for k in range(lowest, highest + 1, self.stride))

    @property
    def used(self) -> int:
        """Input positions up to the last one that any output reads."""
        return next(i for i in reversed(range(self.size)) if self.taps(i)) + 1

    @property
    def live(self) -> int:
        """Output indices that can be unfinished at the same time."""
        return min(-(-self.kernel // self.stride), self.outputs)

    def band(self, first: int, last: int) -> tuple[int, "Axis"]:
        """The outputs ``first`` to ``last`` (not included) alone.

        Returns
        -------
        tuple of (int, Axis)
            The first input index they read, and the axis that begins with it and with output ``first``. Inputs
            that no output of the band reads are left out at both ends; with a stride that is at most the kernel,
            none lies between.
        """
        start = max(0, first * self.stride - self.pad)
        stop = min(self.size, (last - 1) * self.stride - self.pad + self.kernel)
        pad = self.pad + start - first * self.stride
        return start, Axis(size=stop - start, kernel=self.kernel, stride=self.stride, pad=pad, outputs=last - first)


@dataclass(frozen=True)
class ColumnClass:
    """Input columns that use the same lists: the same kernel columns, at the same distances.

    ``taps`` holds (kernel column, output column - first output column), by rising output column. The first output
    column is that of the last kernel column of the same phase, also where a column at an edge doesn't reach it (it may
    then be negative): lists of edge columns are so parts of those of the columns between.
    """

    taps: tuple[tuple[int, int], ...]


@lru_cache(maxsize=_KEPT)
def column_classes(axis: Axis) -> tuple[tuple[ColumnClass, ...], tuple[tuple[int, int], ...]]:
    """Classes of columns, and for each used column its class and its first output column.

    Columns at the edges of a map have classes of their own, so no product is ever made for a position outside it.
    """
    classes: dict[ColumnClass, int] = {}
    columns = []
    for index in range(axis.used):
        taps = sorted((output, kernel) for kernel, output in axis.taps(index))
        reach = index + axis.pad
        last_kernel = max(range(reach % axis.stride, axis.kernel, axis.stride), default=0)
        first = (reach - last_kernel) // axis.stride
        key = ColumnClass(tuple((kernel, output - first) for output, kernel in taps))
        columns.append((classes.setdefault(key, len(classes)), first))
    return tuple(classes), tuple(columns)


def _final(axis: Axis, output: int) -> int:
    """The input index after which an output is final; it may lie behind the last input."""
    return output * axis.stride - axis.pad + axis.kernel - 1


@lru_cache(maxsize=_KEPT)
def row_schedule(axis: Axis) -> tuple[tuple[tuple[tuple[tuple[int, int], ...], bool], ...], int]:
    """For each row of a walk its taps and whether it completes an output row; and how many of the last rows are blank.

    A blank row lies below the map: it has no taps and is there to complete an output row. So every row completes one
    at most.
    """
    count = _final(axis, axis.outputs - 1) + 1
    final = {_final(axis, output) for output in range(axis.outputs)}
    rows = tuple((axis.taps(index) if index < axis.size else (), index in final) for index in range(count))
    return rows, max(0, count - axis.size)


@lru_cache(maxsize=_KEPT)
def column_dumps(axis: Axis) -> tuple[int, ...]:
    """For each used column the outputs that are final after it, in a row that completes its output row."""
    used = axis.used
    final = Counter(min(_final(axis, output), used - 1) for output in range(axis.outputs))
    return tuple(final[index] for index in range(used))
