"""Real factors of a TensorFlow Lite file as multipliers and shifts, rounded as LiteRT's reference kernels round."""

from typing import Any

import numpy as np

from hw.numerics import Rounding, Scale, clamp, quantize_scale, requantize
from models.frontends.tflite_assembly import bound

__all__ = ["as_real", "channel_scale", "real_rounded", "weighted_fields"]

_MOST = 255  # steps between two codes
_STEPS = np.arange(-_MOST - 1, _MOST + 1) + 0.5  # where one code ends


def channel_scale(factor: float) -> tuple[int, Scale]:
    """A real factor as a power of two that weights take in, and a scale: TFLite's left shift, and multiplier."""
    for doublings in range(8):
        half = factor / (1 << doublings)
        if half < 1:
            try:
                return 1 << doublings, quantize_scale(half)
            except ValueError:
                continue  # rounds to 1
    raise ValueError(f"requantization scale must be above 0 and below 128, not {factor:.3g}")


def real_rounded(values: np.ndarray, factors: np.ndarray | float) -> np.ndarray:
    """Accumulators times real factors, half away from zero, within what becomes the lowest and the highest code."""
    product = (values * np.asarray(factors, dtype=np.float64)).clip(-_MOST, _MOST)
    whole = np.trunc(product)
    whole += np.copysign(np.abs(product - whole) >= 0.5, product)
    return whole.astype(np.int64)


def as_real(name: str, fields: dict[str, Any], factors: np.ndarray, low: int, high: int) -> np.ndarray:
    """Multipliers that round every accumulator as its product with the real factor.

    Both are steps that rise, so accumulators beside each step of the one tell. Where the nearest multiplier rounds one
    otherwise, as at a tie below zero, one beside it may not.

    Parameters
    ----------
    name : str
        Of the operator.
    fields : dict
        Those of :func:`weighted_fields`.
    factors : float64 array, (outputs,)
    low, high : int
        Range of the activations.
    """
    bound(len(factors) << 10, f"{name}: 1024 sums for each of its {len(factors)} outputs")
    weight = fields["weight"].reshape(len(factors), -1).astype(np.int64)
    times = np.array([channel_scale(float(factor))[0] for factor in factors])
    lows, highs = ((weight * low).clip(None, weight * high), (weight * high).clip(weight * low, None))
    reach = [ends.sum(axis=1) + fields["bias"] for ends in (lows, highs)]
    multiplier = fields["multiplier"].copy()
    left = np.flatnonzero(weight.any(axis=1))  # others have their codes from weighted_fields
    for more in (0, 1, -1):
        wrong = [left[:0]]
        for some in (left[start : start + 256] for start in range(0, len(left), 256)):
            factor = (factors / times)[some, None]
            beside = np.floor(_STEPS / factor)[..., None] + np.arange(-1, 3)
            sums = beside.reshape(len(some), -1).clip(reach[0][some, None], reach[1][some, None]).astype(np.int64)
            tried, shift = multiplier[some].astype(np.int64) + more, fields["shift"][some].astype(np.int64)
            found = requantize(sums, tried[:, None], shift[:, None], Rounding.SINGLE).clip(-_MOST, _MOST)
            right = (found == real_rounded(sums, factor)).all(axis=1) & (tried >= 0) & (tried < 1 << 31)
            multiplier[some[right]] = tried[right]
            wrong.append(some[~right])
        left = np.concatenate(wrong)
    if left.size:
        raise ValueError(
            f"{name} by {factors[left[0]]:.6g}, which rounds accumulators as no 31 bits do; nearest: another scale"
        )
    return multiplier


def weighted_fields(
    name: str, weight: np.ndarray, bias: np.ndarray, factors: np.ndarray, rounding: Rounding
) -> dict[str, Any]:
    """Fields of a weighted layer from its real requantization factors: one, or one per output channel.

    A factor of 1 or more doubles weights and bias, as often as it takes, where int8 holds them.

    A channel without weights has the same code everywhere. Converters give it a bias near the limits of int32, for
    which its accumulator would have to be as wide; a scale of one half and twice the result say the same.
    """
    found = [channel_scale(float(factor)) for factor in np.broadcast_to(factors, len(weight))]
    multiplier, shift = (np.array([getattr(s, part) for _, s in found], dtype=np.int64) for part in Scale._fields)
    times = np.array([power for power, _ in found], dtype=np.int64)
    wide, sums = weight * times.reshape(-1, 1, 1, 1), bias * times
    held = ((wide, 7), (sums, 31))
    if any(values.min(initial=0) < -(1 << bits) or values.max(initial=0) >= 1 << bits for values, bits in held):
        raise ValueError(
            f"{name}: the scale of input times weights must be below that of the output, not "
            f"{np.max(factors):.3g} times it, or weights and bias so small that they can be doubled instead"
        )
    dead = ~weight.any(axis=(1, 2, 3))
    if rounding is Rounding.SINGLE:
        constant = 2 * real_rounded(bias, factors)
    else:
        constant = 2 * clamp(requantize(sums, multiplier, shift, rounding), -_MOST, _MOST)
    half = quantize_scale(0.5)
    sums, multiplier, shift = (
        np.where(dead, new, old) for new, old in ((constant, sums), (half.multiplier, multiplier), (half.shift, shift))
    )
    arrays = {"bias": sums, "multiplier": multiplier, "shift": shift}
    return {"weight": wide.astype(np.int8), "rounding": rounding} | {
        field: values.astype(np.int32) for field, values in arrays.items()
    }
