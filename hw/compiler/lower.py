"""First pass: a network becomes steps, each a multiplying layer as a convolution with the add fused behind it.

A linear layer is a convolution whose kernel is the map; a pool is a depthwise convolution with weights of 1, a global
one adds all positions up in one accumulator, and a max pool keeps the largest product instead of the sum. Columns of
the image go into words together where its readers' strides allow it.
"""

from dataclasses import dataclass, replace

import numpy as np

from hw.compiler.steps.geometry import Axis
from hw.compiler.steps.step import Kernel, Step
from hw.config import MAX_CLASSES
from hw.network.layers import DepthwiseConv2D
from hw.network.network import INPUT, Add, Conv2D, GlobalAveragePool, Layer, Linear, Network
from hw.network.packing import most_packed, pack_columns
from hw.network.pooling import AveragePool2D, MaxPool2D
from hw.rules import StructureError

__all__ = ["Lowered", "lower"]


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A network, and its multiplying layers in order, every add with the convolution before it.

    Attributes
    ----------
    given : Network
        As it is.
    network : Network
        On the image as its words hold it (:mod:`hw.network.packing`).
    steps : tuple of Step
    """

    given: Network
    network: Network
    steps: tuple[Step, ...]


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
    max_pool = isinstance(layer, MaxPool2D)
    whole = isinstance(layer, MaxPool2D) and (layer.window, layer.pads) == ((height, width), (0, 0, 0, 0))
    if isinstance(layer, GlobalAveragePool) or whole:
        axes = [Axis(size=size, kernel=size, stride=1, pad=0, outputs=1) for size in (height, width)]
        return Kernel(
            weight=_pool(channels, 1, 1),
            rows=axes[0],
            columns=axes[1],
            depthwise=True,
            global_pool=True,
            max_pool=max_pool,
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
        depthwise=not isinstance(layer, Conv2D),
        max_pool=max_pool,
    )


def lower(network: Network) -> Lowered:
    """The multiplying layers in order, every add with the convolution before it.

    Raises
    ------
    StructureError
        When there are too many classes, or an add can't be fused; the message names it and the rule.
    """
    if network.classes > MAX_CLASSES or network.classes < 2:
        raise StructureError(f"{network.name}: classes must be from 2 to {MAX_CLASSES}, not {network.classes}")
    packed = pack_columns(network, most_packed(network))
    tensors = packed.tensors()
    steps: list[Step] = []
    for layer in network.layers:
        if not isinstance(layer, Add):
            source = tensors[layer.inputs[0]]
            kernel = _kernel(packed.layer(layer.name), source.shape)
            steps.append(Step(layer=layer, add=None, kernel=kernel, source=source))
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
            raise StructureError(
                f"{layer.name}: an add must directly follow a convolution that only it reads, "
                f"not {before.name if before else INPUT}"
            )
        steps[-1] = replace(last, add=layer)
    for step in steps:
        if step.residual == step.reads:
            raise StructureError(
                f"{step.reads}: the input of a convolution can't be the residual added to its own output"
            )
    return Lowered(given=network, network=packed, steps=tuple(steps))
