"""Tensors and layers of an integer network: what each may hold, and what contradicts what.

All maps are (height, width, channels), all weights (output channels, kernel height, kernel width, input channels that
an output channel sees), as in TensorFlow Lite. Semantics of the integers: :mod:`hw.numerics`.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar, TypeGuard

import numpy as np

from hw.network.selection import Select
from hw.numerics import Rounding, add_scales
from hw.rules import integer, integers, require, shown

__all__ = [
    "Add",
    "AveragePool2D",
    "Conv2D",
    "DepthwiseConv2D",
    "GlobalAveragePool",
    "Layer",
    "Linear",
    "MaxPool2D",
    "Tensor",
    "is_raw",
    "multiply_accumulates",
    "select_of",
    "threshold_of",
]


#: Largest stride: maps are no wider or higher.
_STRIDE = (1 << 16) - 1


def _check_strides(name: str, stride: Any) -> None:
    """Refuse strides of a layer that are no strides."""
    require(integers(stride, 2) and min(stride) >= 1, f"{name}: strides must be two positive integers, not {stride}")
    require(max(stride) <= _STRIDE, f"{name}: strides must be at most {_STRIDE}, not {shown(max(stride))}")


def _check_pads(name: str, pads: Any) -> None:
    """Refuse pads of a layer that are no pads."""
    require(integers(pads, 4) and min(pads) >= 0, f"{name}: pads must be four integers of at least 0, not {pads}")


def _check_window(name: str, window: Any) -> None:
    """Refuse a window of a pool that is no window."""
    require(
        integers(window, 2) and min(window) >= 1 and window != (1, 1),
        f"{name}: window must be two positive integers, 2 positions or more, not {window}",
    )


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Shape and quantization of one map of int8 codes, or of raw logits.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels.
    scale : float
        Real value of one step; positive and finite.
    zero_point : int
        Code of the real zero, -128..127; 0 for raw logits.
    """

    shape: tuple[int, int, int]
    scale: float
    zero_point: int

    def check(self, name: str) -> None:
        """Refuse impossible values, naming the tensor."""
        require(
            integers(self.shape, 3) and min(self.shape) > 0,
            f"{name}: shape must be three positive integers (height, width, channels), not {self.shape!r}",
        )
        require(
            isinstance(self.scale, float) and 0 < self.scale < np.inf,
            f"{name}: scale must be positive and finite, not {self.scale!r}",
        )
        require(
            integer(self.zero_point) and -128 <= self.zero_point <= 127,
            f"{name}: zero point must be an integer in -128..127, not {self.zero_point!r}",
        )


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: its name is the name of the tensor it writes.

    Parameters
    ----------
    inputs : tuple of str
        Names of the tensors it reads.
    output : Tensor
        What it writes.
    clamp : tuple of 2 int
        Lowest and highest int8 code of the output: the fused activation function.
    """

    kind: ClassVar[str]
    arity: ClassVar[int] = 1

    name: str
    inputs: tuple[str, ...]
    output: Tensor
    clamp: tuple[int, int] = (-128, 127)

    def check(self, sources: tuple[Tensor, ...]) -> None:
        """Refuse values that contradict each other or the tensors read."""
        require(len(sources) == self.arity, f"{self.name}: {self.kind} reads {self.arity} tensors, not {len(sources)}")
        self.output.check(self.name)
        require(
            integers(self.clamp, 2) and -128 <= self.clamp[0] <= self.clamp[1] <= 127,
            f"{self.name}: clamp must be two ordered integers in -128..127, not {self.clamp}",
        )
        low, high = self.clamp
        require(
            low <= self.output.zero_point <= high,
            f"{self.name}: clamp {self.clamp} must contain the zero point {self.output.zero_point}",
        )


@dataclass(frozen=True, kw_only=True)
class _Weighted(Layer):
    """Fields that convolution and linear layers share.

    Parameters
    ----------
    weight : int8 array, (output channels, kernel height, kernel width, input channels)
    bias : int32 array, (output channels,)
    multiplier, shift : int32 arrays, (output channels,)
        Requantization, see :func:`hw.numerics.requantize`.
    rounding : Rounding
    threshold : int
        1..255; an input activation ``a = q - zero_point`` takes part in the products only if ``|a|`` is at least this.
        1: every nonzero one. The stored tensor, and an add that reads it, are not affected.
    select : Select or None
        Which input activations take part at all; of them, those that reach the threshold.
    """

    weight: np.ndarray = field(repr=False)
    bias: np.ndarray = field(repr=False)
    multiplier: np.ndarray = field(repr=False)
    shift: np.ndarray = field(repr=False)
    rounding: Rounding
    threshold: int = 1
    select: Select | None = None

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        require(
            isinstance(self.weight, np.ndarray) and self.weight.dtype == np.int8 and self.weight.ndim == 4,
            f"{self.name}: weight must be a 4-dimensional int8 array, "
            f"not {getattr(self.weight, 'dtype', type(self.weight))} of shape {np.shape(self.weight)}",
        )
        require(
            integer(self.threshold) and 1 <= self.threshold <= 255,
            f"{self.name}: threshold must be an integer in 1..255, not {self.threshold!r}",
        )
        if self.select is not None:
            require(
                isinstance(self.select, Select), f"{self.name}: select must be a Select or None, not {self.select!r}"
            )
            self.select.check(self.name, sources[0].shape)
        channels = self.weight.shape[0]
        for name in ("bias", "multiplier", "shift"):
            array = getattr(self, name)
            require(
                isinstance(array, np.ndarray) and array.dtype == np.int32 and array.shape == (channels,),
                f"{self.name}: {name} must be an int32 array of {channels} values, "
                f"not {getattr(array, 'dtype', type(array))} of shape {np.shape(array)}",
            )
        ranges = {"multiplier": (0, (1 << 31) - 1), "shift": (0, 31)}
        for name, (low, high) in ranges.items():
            array = getattr(self, name)
            require(bool(((array >= low) & (array <= high)).all()), f"{self.name}: {name} must be in {low}..{high}")
        require(
            channels == self.output.shape[2],
            f"{self.name}: weight has {channels} output channels, the output {self.output.shape[2]}",
        )


@dataclass(frozen=True, kw_only=True)
class _Convolution(_Weighted):
    """Fields that both convolutions share.

    Parameters
    ----------
    stride : tuple of 2 int
        Vertical, horizontal.
    pads : tuple of 4 int
        Rows above and below, columns left and right; padded positions hold the zero point.
    """

    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        height, width, _ = sources[0].shape
        _, kernel_height, kernel_width, _ = self.weight.shape
        _check_strides(self.name, self.stride)
        _check_pads(self.name, self.pads)
        top, bottom, left, right = self.pads
        shape = (
            (height + top + bottom - kernel_height) // self.stride[0] + 1,
            (width + left + right - kernel_width) // self.stride[1] + 1,
            self.weight.shape[0],
        )
        require(shape == self.output.shape, f"{self.name}: output must be {shape}, not {self.output.shape}")


@dataclass(frozen=True, kw_only=True)
class Conv2D(_Convolution):
    """2-D convolution (TFLite ``CONV_2D``): every output channel sees every input channel."""

    kind: ClassVar[str] = "conv2d"

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        depth, channels = self.weight.shape[3], sources[0].shape[2]
        require(depth == channels, f"{self.name}: weight has {depth} input channels, {self.inputs[0]} {channels}")


@dataclass(frozen=True, kw_only=True)
class DepthwiseConv2D(_Convolution):
    """2-D convolution of each channel by itself (TFLite ``DEPTHWISE_CONV_2D`` with a channel multiplier of 1).

    The weight is (channels, kernel height, kernel width, 1).
    """

    kind: ClassVar[str] = "depthwise_conv2d"

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        found, depth, channels = self.weight.shape[0], self.weight.shape[3], sources[0].shape[2]
        require(
            (found, depth) == (channels, 1),
            f"{self.name}: weight must have {channels} channels, as {self.inputs[0]}, of one input channel each, "
            f"not {found} of {depth}",
        )


@dataclass(frozen=True, kw_only=True)
class Linear(_Weighted):
    """Fully connected layer over the whole input map; its kernel is as large as the map.

    Parameters
    ----------
    raw : bool
        Deliver the int32 accumulators themselves (logits of a head): no requantization, no clamp. All output channels
        then share one weight scale, so that logits compare.
    """

    kind: ClassVar[str] = "linear"

    raw: bool = False

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        require(isinstance(self.raw, bool), f"{self.name}: raw must be true or false, not {self.raw!r}")
        require(
            self.weight.shape[1:] == sources[0].shape,
            f"{self.name}: weight must cover {self.inputs[0]} {sources[0].shape}, not {self.weight.shape[1:]}",
        )
        require(
            self.output.shape[:2] == (1, 1), f"{self.name}: output must be 1x1 in space, not {self.output.shape[:2]}"
        )


def threshold_of(layer: Layer) -> int:
    """Smallest magnitude of an input activation that a layer doesn't take for zero; 1 for layers without weights."""
    return layer.threshold if isinstance(layer, _Weighted) else 1


def is_raw(layer: Layer | None) -> TypeGuard[Linear]:
    """Whether a layer delivers raw logits instead of codes."""
    return isinstance(layer, Linear) and layer.raw


def select_of(layer: Layer) -> Select | None:
    """The selection of its input that a layer multiplies; None where it's all of it."""
    return layer.select if isinstance(layer, _Weighted) else None


def multiply_accumulates(
    layer: Layer, rows: int | None = None, channels: int | None = None, share: tuple[int, int] = (1, 1)
) -> int:
    """Of the dense layer, padded taps included; 0 for layers without weights.

    Parameters
    ----------
    rows, channels : int or None
        Of the output; None: all.
    share : tuple of 2 int
        How many of the input channels are multiplied, of how many.
    """
    if not isinstance(layer, _Weighted):
        return 0
    height, width, depth = layer.output.shape
    made = width * (height if rows is None else rows) * (depth if channels is None else channels)
    return made * prod(layer.weight.shape[1:]) * share[0] // share[1]


@dataclass(frozen=True, kw_only=True)
class Add(Layer):
    """Residual add of two maps of equal shape (TFLite ``ADD``)."""

    kind: ClassVar[str] = "add"
    arity: ClassVar[int] = 2

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        shapes = [source.shape for source in sources]
        require(
            shapes[0] == shapes[1] == self.output.shape,
            f"{self.name}: operands and output must have equal shapes, not {shapes} and {self.output.shape}",
        )
        try:
            add_scales(sources[0].scale, sources[1].scale, self.output.scale)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class _Pool(Layer):
    """What all pools share: codes keep their meaning.

    An average is that of the codes, half away from zero (TFLite ``AVERAGE_POOL_2D``). Not that of TFLite's ``MEAN``:
    its reference kernel rounds otherwise, with results that differ by one (LiteRT 2.3.0).
    """

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        source = sources[0]
        require(
            (source.scale, source.zero_point) == (self.output.scale, self.output.zero_point),
            f"{self.name}: a pool must keep scale and zero point",
        )


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePool(_Pool):
    """Mean of the codes over all positions, half away from zero."""

    kind: ClassVar[str] = "global_average_pool"

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        shape = (1, 1, sources[0].shape[2])
        require(self.output.shape == shape, f"{self.name}: output must be {shape}, not {self.output.shape}")


@dataclass(frozen=True, kw_only=True)
class AveragePool2D(_Pool):
    """Mean of the codes over a window that moves within the map, half away from zero; no padding.

    Parameters
    ----------
    window : tuple of 2 int
        Height, width; smaller than the map, whose mean is a :class:`GlobalAveragePool`.
    stride : tuple of 2 int
        Vertical, horizontal.
    """

    kind: ClassVar[str] = "average_pool2d"

    window: tuple[int, int]
    stride: tuple[int, int]

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        height, width, channels = sources[0].shape
        _check_window(self.name, self.window)
        rows, columns = self.window
        require(
            rows <= height and columns <= width and self.window != (height, width),
            f"{self.name}: window {rows}x{columns} must be smaller than {self.inputs[0]} {height}x{width}",
        )
        _check_strides(self.name, self.stride)
        shape = ((height - rows) // self.stride[0] + 1, (width - columns) // self.stride[1] + 1, channels)
        require(shape == self.output.shape, f"{self.name}: output must be {shape}, not {self.output.shape}")


@dataclass(frozen=True, kw_only=True)
class MaxPool2D(_Pool):
    """Largest of the codes in a window that moves over the map (TFLite ``MAX_POOL_2D``).

    Parameters
    ----------
    window : tuple of 2 int
        Height, width.
    stride : tuple of 2 int
        Vertical, horizontal.
    pads : tuple of 4 int
        Rows above and below, columns left and right; padded positions are never the largest.
    """

    kind: ClassVar[str] = "max_pool2d"

    window: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def check(self, sources: tuple[Tensor, ...]) -> None:
        super().check(sources)
        height, width, channels = sources[0].shape
        _check_window(self.name, self.window)
        _check_strides(self.name, self.stride)
        _check_pads(self.name, self.pads)
        require(
            max(self.pads[:2]) < self.window[0] and max(self.pads[2:]) < self.window[1],
            f"{self.name}: pads must be less than the window {self.window[0]}x{self.window[1]}, so that every window "
            f"holds a position of the map, not {self.pads}",
        )
        rows, columns = height + sum(self.pads[:2]) - self.window[0], width + sum(self.pads[2:]) - self.window[1]
        require(
            min(rows, columns) >= 0,
            f"{self.name}: window {self.window[0]}x{self.window[1]} must fit into {self.inputs[0]} {height}x{width} "
            f"with its pads {self.pads}",
        )
        shape = (rows // self.stride[0] + 1, columns // self.stride[1] + 1, channels)
        require(shape == self.output.shape, f"{self.name}: output must be {shape}, not {self.output.shape}")
