"""Real factors of a TensorFlow Lite file as multipliers and shifts, rounded as LiteRT's reference kernels round."""

from typing import Any

import numpy as np

from hw.numerics import Rounding, requantize
from models.frontends import requantization
from models.frontends.requantization import channel_scale
from models.frontends.tflite.assembly import bound

__all__ = ["as_real", "channel_scale", "real_rounded", "weighted_fields"]

_MOST = 255  # steps between two codes
_STEPS = np.arange(-_MOST - 1, _MOST + 1) + 0.5  # where one code ends


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
    """:func:`models.frontends.requantization.weighted_fields`, channels without weights as the kernels round them."""
    constant = real_rounded(bias, factors) if rounding is Rounding.SINGLE else None
    return requantization.weighted_fields(name, weight, bias, factors, rounding, constant)
