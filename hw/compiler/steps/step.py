"""A step: a multiplying layer as a convolution, with the add fused behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hw.compiler.steps.geometry import Axis, ColumnClass, column_classes
from hw.network.layers import is_raw, select_of, threshold_of
from hw.network.network import INPUT, Add, Layer, Network, Select, Tensor

__all__ = ["Kernel", "Step", "Strip", "makers_of", "maps_of", "readers_of"]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A multiplying layer as a convolution.

    Parameters
    ----------
    weight : int array, (output channels, kernel height, kernel width, depth)
        ``depth`` is 1 where an output channel reads only the input channel of its number.
    rows, columns : Axis
        Of the input positions that are walked.
    steps : tuple of 2 int
        Rows and columns of the map from one walked position to the next.
    depthwise : bool
        Whether an output channel reads only the input channel of its number, as in pools, too.
    global_pool : bool
        Whether all positions go to one accumulator, with the same weight.
    max_pool : bool
        Whether products don't add up, but the largest is kept.
    """

    weight: np.ndarray = field(repr=False)
    rows: Axis
    columns: Axis
    steps: tuple[int, int] = (1, 1)
    depthwise: bool = False
    global_pool: bool = False
    max_pool: bool = False

    @cached_property
    def nonzero(self) -> np.ndarray:
        """Nonzero weights by output channel, kernel row and kernel column: int array."""
        counts: np.ndarray = np.count_nonzero(self.weight, axis=3)
        return counts

    @cached_property
    def products(self) -> int:
        """Nonzero weights in all."""
        return int(self.nonzero.sum())

    @cached_property
    def classes(self) -> tuple[ColumnClass, ...]:
        """Classes of the columns of a walk; each has lists of its own."""
        return (ColumnClass(((0, 0),)),) if self.global_pool else column_classes(self.columns)[0]

    @cached_property
    def _turned(self) -> dict[Axis, "Kernel"]:
        return {}

    @cached_property
    def _turned_weight(self) -> np.ndarray:
        return np.ascontiguousarray(self.weight.swapaxes(1, 2))

    def walk(self, rows: tuple[int, int], column_major: bool) -> tuple["Kernel", tuple[int, int]]:
        """The kernel and the rows of outputs as a core meets them that makes the output rows ``rows``.

        In a column-major walk, which goes column by column, these are the map's columns, and the kernel is that of the
        band alone with rows and columns exchanged.
        """
        if not column_major:
            return self, rows
        _, band = self.rows.band(*rows)
        if band not in self._turned:
            steps, weight = (self.steps[1], self.steps[0]), self._turned_weight
            self._turned[band] = replace(self, weight=weight, rows=self.columns, columns=band, steps=steps)
        return self._turned[band], (0, self.columns.outputs)

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """Rows of the map that the output rows ``first`` to ``last`` read: the first, and the one after the last."""
        start, axis = self.rows.band(first, last)
        return start * self.steps[0], (start + axis.size - 1) * self.steps[0] + 1


@dataclass(frozen=True)
class Strip:
    """Some rows of a layer's output; :mod:`hw.compiler.search.strips`.

    Attributes
    ----------
    number : int
        Of the strips that are made one after the other.
    rows : tuple of tuple of 2 int
        First row that each band makes, and the one after the last.
    between : frozenset of str
        Tensors of which only a strip is kept: a map of its own.
    """

    number: int
    rows: tuple[tuple[int, int], ...]
    between: frozenset[str]

    def name(self, tensor: str) -> str:
        """Name of the map that holds what there is of a tensor."""
        return f"{tensor}@{self.number}" if tensor in self.between else tensor


@dataclass(frozen=True, kw_only=True)
class Step:
    """A multiplying layer with the residual add fused behind it.

    Parameters
    ----------
    layer : Layer
    add : Add or None
    kernel : Kernel
    source : Tensor
        What the layer reads.
    strip : Strip or None
        The rows that are made, where these aren't all.
    """

    layer: Layer
    add: Add | None
    kernel: Kernel
    source: Tensor
    strip: Strip | None = None

    @property
    def result(self) -> Layer:
        """The layer whose tensor is written."""
        return self.add or self.layer

    @property
    def reads(self) -> str:
        """Name of the map that is multiplied."""
        return self._map(self.layer.inputs[0])

    @property
    def writes(self) -> str:
        """Name of the map that is written."""
        return self._map(self.result.name)

    @property
    def residual(self) -> str | None:
        """Name of the map that is added, if any: the operand of the add that isn't the layer's own output."""
        if self.add is None:
            return None
        return self._map(next(name for name in self.add.inputs if name != self.layer.name))

    def _map(self, tensor: str) -> str:
        return tensor if self.strip is None else self.strip.name(tensor)

    @property
    def threshold(self) -> int:
        """Smallest magnitude of an activation that is multiplied."""
        return threshold_of(self.layer)

    @property
    def select(self) -> Select | None:
        """The selection of its input that is multiplied."""
        return select_of(self.layer)

    @property
    def raw(self) -> bool:
        """Whether it delivers logits instead of a tensor."""
        return is_raw(self.layer)


def maps_of(network: Network, steps: Sequence[Step]) -> dict[str, Tensor]:
    """The tensor that each map is of, or of whose rows it holds some, by the map's name."""
    tensors = network.tensors()
    return tensors | {step.writes: tensors[step.result.name] for step in steps}


def makers_of(steps: Sequence[Step]) -> dict[str, int]:
    """Number of the first step that writes each map, which isn't logits; of the image, -1."""
    found = {INPUT: -1}
    for number, step in enumerate(steps):
        if not step.raw:
            found.setdefault(step.writes, number)
    return found


def readers_of(steps: Sequence[Step]) -> dict[str, list[int]]:
    """Numbers of the steps that read each map, in order."""
    return {
        name: [number for number, step in enumerate(steps) if name in (step.reads, step.residual)]
        for name in (INPUT, *(step.writes for step in steps))
    }
