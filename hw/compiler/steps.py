"""What a network does, step by step: each multiplying layer as a convolution, with the add fused behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hw.compiler.geometry import Axis, ColumnClass, column_classes
from hw.network.layers import AveragePool2D, DepthwiseConv2D, MaxPool2D, select_of, threshold_of
from hw.network.network import INPUT, Add, Conv2D, GlobalAveragePool, Layer, Linear, Network, Select, Tensor

__all__ = ["Kernel", "Step", "Strip", "makers_of", "maps_of", "readers_of", "steps_of"]


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
    own : bool
        Whether an output channel reads only the input channel of its number.
    total : bool
        Whether all positions add up in one accumulator, with the same weight.
    maximum : bool
        Whether products don't add up, but the largest is kept.
    """

    weight: np.ndarray = field(repr=False)
    rows: Axis
    columns: Axis
    steps: tuple[int, int] = (1, 1)
    own: bool = False
    total: bool = False
    maximum: bool = False

    @cached_property
    def nonzero(self) -> np.ndarray:
        """Nonzero weights by output channel, kernel row and kernel column: int array."""
        return np.count_nonzero(self.weight, axis=3)

    @cached_property
    def products(self) -> int:
        """Nonzero weights in all."""
        return int(self.nonzero.sum())

    @cached_property
    def classes(self) -> tuple[ColumnClass, ...]:
        """Classes of the columns of a walk; each has lists of its own."""
        return (ColumnClass(((0, 0),)),) if self.total else column_classes(self.columns)[0]

    @cached_property
    def _turned(self) -> dict[Axis, "Kernel"]:
        return {}

    def walk(self, rows: tuple[int, int], upright: bool) -> tuple["Kernel", tuple[int, int]]:
        """The kernel and the rows of outputs as a core meets them that makes the output rows ``rows``.

        In an ``upright`` walk, which goes column by column, these are the map's columns, and the kernel is that of the
        band alone with rows and columns exchanged.
        """
        if not upright:
            return self, rows
        _, band = self.rows.band(*rows)
        if band not in self._turned:
            weight = np.ascontiguousarray(self.weight.swapaxes(1, 2))
            steps = (self.steps[1], self.steps[0])
            self._turned[band] = replace(self, weight=weight, rows=self.columns, columns=band, steps=steps)
        return self._turned[band], (0, self.columns.outputs)

    def reads(self, first: int, last: int) -> tuple[int, int]:
        """Rows of the map that the output rows ``first`` to ``last`` read: the first, and the one after the last."""
        start, axis = self.rows.band(first, last)
        return start * self.steps[0], (start + axis.size - 1) * self.steps[0] + 1


def _pool(channels: int, height: int, width: int) -> np.ndarray:
    return np.ones((channels, height, width, 1), dtype=np.int64)


def _within(weight: np.ndarray, pads: tuple[int, int, int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """A convolution's weights, and the pads above and left, so that every window holds a position of the map.

    Where pads are as large as the kernel, windows would lie beyond the map: the kernel gets zeros on its other side, as
    many as it takes to reach it.
    """
    more = []
    for size, (before, after) in zip(weight.shape[1:3], (pads[:2], pads[2:]), strict=True):
        more.append((max(0, after - size + 1), max(0, before - size + 1)))
    return np.pad(weight, ((0, 0), *more, (0, 0))), (pads[0] + more[0][0], pads[2] + more[1][0])


def _kernel(layer: Layer, shape: tuple[int, int, int]) -> Kernel:
    """The convolution that a layer is, on an input of this shape."""
    height, width, channels = shape
    maximum = isinstance(layer, MaxPool2D)
    whole = isinstance(layer, MaxPool2D) and (layer.window, layer.pads) == ((height, width), (0, 0, 0, 0))
    if isinstance(layer, GlobalAveragePool) or whole:
        axes = [Axis(size=size, kernel=size, stride=1, pad=0, outputs=1) for size in (height, width)]
        return Kernel(
            weight=_pool(channels, 1, 1), rows=axes[0], columns=axes[1], own=True, total=True, maximum=maximum
        )
    if isinstance(layer, Linear):
        axes = [Axis(size=size, kernel=size, stride=1, pad=0, outputs=1) for size in (height, width)]
        return Kernel(weight=layer.weight, rows=axes[0], columns=axes[1])
    assert isinstance(layer, Conv2D | DepthwiseConv2D | AveragePool2D | MaxPool2D)
    pads = (0, 0) if isinstance(layer, AveragePool2D) else (layer.pads[0], layer.pads[2])
    if isinstance(layer, Conv2D | DepthwiseConv2D):
        weight, pads = _within(layer.weight, layer.pads)
    else:
        weight = _pool(channels, *layer.window)
    # A 1-wide kernel at stride s reads every s-th position only: it becomes stride 1 on a view without the others.
    # Any other kernel narrower than its stride gets zeros beside its weights.
    both = list(zip(weight.shape[1:3], layer.stride, strict=True))
    kernels = [kernel if kernel == 1 else max(kernel, stride) for kernel, stride in both]
    steps = [stride if kernel == 1 else 1 for kernel, stride in both]
    axes = [
        Axis(size=-(-size // step), kernel=kernel, stride=stride // step, pad=pad, outputs=outputs)
        for size, step, kernel, stride, pad, outputs in zip(
            shape, steps, kernels, layer.stride, pads, layer.output.shape, strict=False
        )
    ]
    beside = [(0, kernel - size) for kernel, size in zip(kernels, weight.shape[1:3], strict=True)]
    return Kernel(
        weight=np.pad(weight, ((0, 0), *beside, (0, 0))),
        rows=axes[0],
        columns=axes[1],
        steps=(steps[0], steps[1]),
        own=not isinstance(layer, Conv2D),
        maximum=maximum,
    )


@dataclass(frozen=True)
class Strip:
    """Some rows of a layer's output; :mod:`hw.compiler.tiles`.

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
        return isinstance(self.layer, Linear) and self.layer.raw


def steps_of(network: Network) -> list[Step]:
    """The multiplying layers in order, every add with the convolution before it.

    Raises
    ------
    ValueError
        When an add can't be fused; the message names it and the rule.
    """
    tensors = network.tensors()
    steps: list[Step] = []
    for layer in network.layers:
        if not isinstance(layer, Add):
            source = tensors[layer.inputs[0]]
            steps.append(Step(layer=layer, add=None, kernel=_kernel(layer, source.shape), source=source))
            continue
        last = steps[-1] if steps else None
        before = last.result if last else None
        readers = [other.name for other in network.layers if before is not None and before.name in other.inputs]
        if (
            last is None
            or not isinstance(before, Conv2D | DepthwiseConv2D)
            or layer.inputs.count(before.name) != 1
            or readers != [layer.name]
        ):
            raise ValueError(
                f"{layer.name}: an add must directly follow a convolution that only it reads, "
                f"not {before.name if before else INPUT}"
            )
        steps[-1] = replace(last, add=layer)
    for step in steps:
        if step.residual == step.reads:
            raise ValueError(f"{step.reads}: the input of a convolution can't be the residual added to its own output")
    return steps


def maps_of(network: Network, steps: Sequence[Step]) -> dict[str, str]:
    """The tensor that each map is of, or of whose rows it holds some, by the map's name."""
    return {name: name for name in network.tensors()} | {step.writes: step.result.name for step in steps}


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
