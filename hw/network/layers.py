"""Layers of an integer network: what each may hold, and what contradicts what. Pools: :mod:`hw.network.pooling`.

All maps are (height, width, channels), all weights (output channels, kernel height, kernel width, input channels that
an output channel sees), as in TensorFlow Lite. Semantics of the integers: :mod:`hw.numerics`.
"""

from dataclasses import dataclass, field
from math import prod
from typing import ClassVar, TypeGuard

import numpy as np

from hw.network.base_layer import Layer, Tensor, check_pads, check_strides
from hw.network.selection import Select
from hw.numerics import Rounding, add_scales
from hw.rules import integer, require

__all__ = [
    "Add",
    "Conv2D",
    "DepthwiseConv2D",
    "Linear",
    "is_raw",
    "multiply_accumulates",
    "select_of",
    "threshold_of",
]


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
        check_strides(self.name, self.stride)
        check_pads(self.name, self.pads)
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
