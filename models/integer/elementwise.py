"""What the golden model does to every element after the accumulator, compiled: one pass over a map.

The arithmetic is that of :mod:`hw.numerics`, where it is defined; a test holds both together. Everything that decides
is an argument, because Numba's cache would keep the old value of another module's constant.
"""

import numpy as np
from numba import njit, prange

__all__ = ["add_codes", "requantize_sums"]


@njit(cache=True, inline="always")
def _requantize(value, multiplier, shift, double):
    """:func:`hw.numerics.requantize` of one int64."""
    first = 1 << 30 if double or shift == 0 else 0
    high = (value * multiplier + first) >> 31
    away = high >> 63 if double and shift > 0 else 0
    return (high + ((1 << shift) >> 1) + away) >> shift


@njit(cache=True, parallel=True)
def requantize_sums(sums, bias, multiplier, shift, double, zero_point, low, high):
    """Codes of a layer's accumulators.

    Parameters
    ----------
    sums : float32 or float64 array (positions, channels)
        Exact integers; with the bias added within int32.
    bias, multiplier, shift : int64 arrays (channels,)
    double : bool
        Whether the rounding is ``Rounding.DOUBLE``.
    zero_point, low, high : int
        Of the codes; the last two are the clamp.

    Returns
    -------
    int8 array (positions, channels)
    """
    codes = np.empty(sums.shape, np.int8)
    for position in prange(sums.shape[0]):
        for channel in range(sums.shape[1]):
            value = np.int64(sums[position, channel]) + bias[channel]
            value = _requantize(value, multiplier[channel], shift[channel], double) + zero_point
            codes[position, channel] = min(max(value, low), high)
    return codes


@njit(cache=True, parallel=True)
def add_codes(first, second, zero_points, multipliers, shifts, lift, low, high):
    """Codes of a residual add, as :func:`hw.numerics.add` defines it.

    Parameters
    ----------
    first, second : int8 arrays (elements,)
        Codes of the operands.
    zero_points, multipliers, shifts : int64 arrays (3,)
        Of the operands and the sum.
    lift : int
        Bits by which both operands are lifted before they are scaled.
    low, high : int
        Clamp of the sum's codes.

    Returns
    -------
    int8 array (elements,)
    """
    codes = np.empty(first.shape, np.int8)
    for n in prange(len(first)):
        a = _requantize((np.int64(first[n]) - zero_points[0]) << lift, multipliers[0], shifts[0], True)
        b = _requantize((np.int64(second[n]) - zero_points[1]) << lift, multipliers[1], shifts[1], True)
        value = _requantize(a + b, multipliers[2], shifts[2], True) + zero_points[2]
        codes[n] = min(max(value, low), high)
    return codes
