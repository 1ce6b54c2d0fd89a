"""Integer arithmetic of the accelerator: the one place where rounding is defined.

The rules are those of the TensorFlow Lite *reference* kernels for int8 (tensorflow/lite/kernels/internal/common.h and
reference/integer_ops). Functions written with operators only take Python integers, numpy arrays and torch tensors alike
(64-bit), elementwise, and never overflow for the ranges stated.

* An activation is an int8 code ``q`` with a zero point; the multiplier sees ``a = q - zero_point`` in -255..255.
* A weight is an int8 code with zero point 0. A bias is an int32 on the accumulator's scale, added after the last
  product.
* A multiplier is an int32 in 2**30..2**31 - 1 (or 0), a shift a right shift in 0..31:
  ``scale = multiplier * 2**(-31 - shift)``.
"""

import math
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "ADD_LEFT_SHIFT",
    "BIASED_BITS",
    "IDENTITY",
    "MAX_AVERAGE",
    "Rounding",
    "Scale",
    "accumulator_range",
    "add",
    "add_scales",
    "average_scale",
    "clamp",
    "product_sums",
    "quantize_scale",
    "requantize",
    "top2",
]

#: Bits of a sum of products with its bias: an int32.
BIASED_BITS = 32
#: Bits by which the ADD kernel lifts both operands before it scales them.
ADD_LEFT_SHIFT = 20


class Rounding(StrEnum):
    """How a scaled accumulator becomes an integer."""

    #: Saturating rounding doubling high multiply, then rounding divide by a power of two: convolution, depthwise, ADD.
    DOUBLE = "double"
    #: One 64-bit product, one rounding shift (half up): FULLY_CONNECTED; with :func:`average_scale` also AVERAGE_POOL.
    SINGLE = "single"


class Scale(NamedTuple):
    """A real scale in (0, 1) as the hardware multiplies by it."""

    multiplier: int
    shift: int


#: Leaves a code, or an activation, as it is, with SINGLE rounding: ``q * (2**31 - 1) / 2**31`` rounds to ``q`` for all
#: magnitudes below ``2**30``.
IDENTITY = Scale((1 << 31) - 1, 0)

#: Positions that an average is exact of, at most.
MAX_AVERAGE = 2048


def quantize_scale(scale: float) -> Scale:
    """The fixed-point form of a real scale (TFLite ``QuantizeMultiplier``).

    Raises
    ------
    ValueError
        When the scale isn't a number in the open interval (0, 1).
    """
    if not 0.0 < scale < 1.0:
        raise ValueError(f"requantization scale must be above 0 and below 1, not {scale!r}")
    mantissa, exponent = math.frexp(scale)
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier >> 1, exponent + 1
    if exponent > 0:
        raise ValueError(f"requantization scale must be below 1 after rounding, not {scale!r}")
    if exponent < -31:
        return Scale(0, 0)
    return Scale(multiplier, -exponent)


def average_scale(count: int) -> Scale:
    """The scale that divides a sum of ``count`` int8 codes by ``count``, half away from zero, with SINGLE rounding.

    The multiplier is the next integer above the true one, even where that is an integer itself, so a tie lands on the
    far side of one half for either sign; every other quotient is at least ``1 / (2 * count)`` from a tie, which the
    error of at most ``128 * count / 2**(31 + shift)`` can't reach.

    Raises
    ------
    ValueError
        When ``count`` is outside 1..:data:`MAX_AVERAGE`, the range in which this is exact.
    """
    if not 1 <= count <= MAX_AVERAGE:
        raise ValueError(f"average pool must cover 1 to {MAX_AVERAGE} positions, not {count}")
    if count == 1:
        return IDENTITY
    shift = (count - 1).bit_length() - 1
    return Scale((1 << 31 + shift) // count + 1, shift)


def requantize(accumulator: Any, multiplier: Any, shift: Any, rounding: Rounding) -> Any:
    """``accumulator * multiplier * 2**(-31 - shift)``, rounded; integers, elementwise.

    Both roundings share one form: the product is rounded to 31 fractional bits where DOUBLE (or no shift) asks for it,
    and the rest of the shift rounds half up, for DOUBLE half away from zero.

    Parameters
    ----------
    accumulator : int, array or tensor of int64
        In -2**31..2**31 - 1.
    """
    double = rounding is Rounding.DOUBLE
    first = (1 << 30) if double else (1 << 30) * (shift == 0)
    high = (accumulator * multiplier + first) >> 31
    # -1 where high is negative and there is something to shift: a tie then falls on the other side.
    away = (high >> 63) & ((shift > 0) * -1) if double else 0
    return (high + ((1 << shift) >> 1) + away) >> shift


def clamp(value: Any, low: int, high: int) -> Any:
    """``value`` clamped to ``low..high``; integers, elementwise."""
    if isinstance(value, int):
        return min(max(value, low), high)
    return value.clip(low, high)


class AddScales(NamedTuple):
    """Scales of a residual add: of the two operands and of the sum."""

    first: Scale
    second: Scale
    output: Scale


def add_scales(first: float, second: float, output: float) -> AddScales:
    """Fixed-point scales of ``ADD`` from the real scales of its operands and its output (TFLite ``add.cc`` Prepare)."""
    twice = 2.0 * max(first, second)
    return AddScales(
        quantize_scale(first / twice),
        quantize_scale(second / twice),
        quantize_scale(twice / ((1 << ADD_LEFT_SHIFT) * output)),
    )


def add(first: Any, second: Any, scales: AddScales) -> Any:
    """Sum of two activations ``a = q - zero_point``, on the output's scale, before zero point and clamp."""
    lifted = (
        requantize(first * (1 << ADD_LEFT_SHIFT), *scales.first, Rounding.DOUBLE),
        requantize(second * (1 << ADD_LEFT_SHIFT), *scales.second, Rounding.DOUBLE),
    )
    return requantize(lifted[0] + lifted[1], *scales.output, Rounding.DOUBLE)


def product_sums(weights: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest sum of some products of each output channel, none and all included: int64 arrays.

    Parameters
    ----------
    weights : array of int, (output channels, products)
    low, high : int
        Range of the activations ``a = q - zero_point``.
    """
    wide = weights.astype(np.int64)
    products = np.stack([wide * low, wide * high, np.zeros_like(wide)])
    return products.min(axis=0).sum(axis=1), products.max(axis=0).sum(axis=1)


def accumulator_range(weights: np.ndarray, bias: np.ndarray, low: int, high: int) -> tuple[int, int]:
    """Smallest and largest value any accumulator can hold, whatever the input and the order of its products.

    Parameters
    ----------
    weights : array of int, (output channels, products)
    bias : array of int, (output channels,)
    low, high : int
        Range of the activations ``a = q - zero_point``.
    """
    lows, highs = product_sums(weights, low, high)
    return (
        int(min(lows.min(), (lows + bias).min(), 0)),
        int(max(highs.max(), (highs + bias).max(), 0)),
    )


def top2(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the largest logit (the first of equals) and the margin to the next, along the last axis.

    The margin is an unsigned difference of two signed integers; it needs one bit more than they do.
    """
    wide = logits.astype(np.int64)
    best = wide.argmax(axis=-1)
    ordered = np.sort(wide, axis=-1)
    return best, ordered[..., -1] - ordered[..., -2]
