"""Integer fields of layers with weights from what a source says in real numbers."""

from typing import Any

import numpy as np

from hw.numerics import Rounding, Scale, clamp, quantize_scale, requantize

__all__ = ["int32_biases", "weighted_fields"]

_INT32 = np.iinfo(np.int32)


def weighted_fields(
    name: str, weight: np.ndarray, bias: np.ndarray, factors: np.ndarray, rounding: Rounding
) -> dict[str, Any]:
    """Fields of a layer with weights.

    A channel without weights has the same code everywhere. Converters give it a bias near the limits of int32, for
    which its accumulator would have to be as wide; a scale of one half and twice the result say the same.

    Parameters
    ----------
    name : str
        What an error calls the layer.
    weight : int8 array, (output channels, kernel height, kernel width, input channels)
    bias : int array, (output channels,)
        In steps of the accumulator.
    factors : float array
        Steps of the output that a step of the accumulator is: one, or one per output channel.
    rounding : Rounding

    Raises
    ------
    ValueError
        When a bias is beyond int32, or a factor isn't between 0 and 1; the message names the layer.
    """
    bias = int32_biases(name, bias)
    try:
        scales = [quantize_scale(float(factor)) for factor in np.broadcast_to(factors, len(weight))]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    multiplier, shift = (np.array([getattr(s, field) for s in scales], dtype=np.int64) for field in Scale._fields)
    arrays = {"bias": bias, "multiplier": multiplier, "shift": shift}
    dead = ~weight.any(axis=tuple(range(1, weight.ndim)))
    if bias.shape == dead.shape:
        constant = 2 * clamp(requantize(bias.astype(np.int64), multiplier, shift, rounding), -255, 255)
        half = quantize_scale(0.5)
        changed = {"bias": constant, "multiplier": half.multiplier, "shift": half.shift}
        arrays = {field: np.where(dead, changed[field], values) for field, values in arrays.items()}
    return {"weight": weight, "rounding": rounding} | {field: a.astype(np.int32) for field, a in arrays.items()}


def int32_biases(name: str, bias: np.ndarray) -> np.ndarray:
    """Biases in steps of the accumulator, as int32.

    Raises
    ------
    ValueError
        When one is beyond int32; the message names the layer.
    """
    if not ((bias >= _INT32.min) & (bias <= _INT32.max)).all():
        worst = float(np.abs(np.asarray(bias, dtype=np.float64)).max())
        raise ValueError(f"{name}: biases must be within int32 in steps of the accumulator, not {worst:.4g}")
    return bias.astype(np.int32)
