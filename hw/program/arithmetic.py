"""What the lanes of a core need to know of a layer, as its command's fields and channel parameters say it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.network.base_layer import Layer, Tensor
from hw.network.layers import Add, Conv2D, DepthwiseConv2D, Linear
from hw.network.pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from hw.numerics import IDENTITY, Rounding, add_scales, average_scale

__all__ = ["Arithmetic", "arithmetic_of", "sum_fields"]


@dataclass(frozen=True)
class Arithmetic:
    """What the lane needs to know of a layer, per output channel.

    Dummy channels are included; they stay at what is stored as 0.
    """

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    rounding: Rounding
    offset: int


def arithmetic_of(layer: Layer, source: Tensor, padded: int, zero_points: Mapping[str, int]) -> Arithmetic:
    """Channel parameters of a multiplying layer.

    Parameters
    ----------
    source : Tensor
        What it reads.
    padded : int
        Channels with the dummy ones.
    zero_points : mapping of str to int
        The storage zero point of each tensor.
    """
    offset, rounding = layer.output.zero_point, Rounding.SINGLE
    values: tuple[npt.ArrayLike, ...]
    if isinstance(layer, GlobalAveragePool | AveragePool2D):
        count = prod(source.shape[:2] if isinstance(layer, GlobalAveragePool) else layer.window)
        # The mean is taken over codes, not over activations; the bias turns a sum of activations into one of codes.
        values, offset = (count * source.zero_point, *average_scale(count)), 0
    elif isinstance(layer, MaxPool2D):
        values, offset = (0, *IDENTITY), zero_points[layer.inputs[0]]
    else:
        assert isinstance(layer, Conv2D | DepthwiseConv2D | Linear)
        values, rounding = (layer.bias, layer.multiplier, layer.shift), layer.rounding
    channels = layer.output.shape[2]
    spare, dummies = padded - channels, (zero_points[layer.name] - offset, *IDENTITY)
    bias, multiplier, shift = (
        np.pad(np.broadcast_to(np.asarray(value), channels), (0, spare), constant_values=dummy).astype(np.int64)
        for value, dummy in zip(values, dummies, strict=True)
    )
    return Arithmetic(bias, multiplier, shift, rounding, offset)


def sum_fields(first: Tensor, second: Tensor, add: Add) -> dict[str, Any]:
    """The fields of a :class:`hw.program.isa.Residual` that say how a layer's own output, the first, is added to the
    second.
    """
    scales = add_scales(first.scale, second.scale, add.output.scale)
    return {
        "zero_point": first.zero_point,
        **{name: scale._asdict() for name, scale in scales._asdict().items()},
        "offset": add.output.zero_point,
        "clamp_low": add.clamp[0],
        "clamp_high": add.clamp[1],
    }
