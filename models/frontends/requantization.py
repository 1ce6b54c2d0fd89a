"""Integer fields of layers with weights from what a source says in real numbers."""

from typing import Any

import numpy as np

from hw.numerics import Rounding, Scale, clamp, quantize_scale, requantize

__all__ = ["channel_scale", "int32_biases", "uniform_scale", "weighted_fields"]

_INT32 = np.iinfo(np.int32)


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


def uniform_scale(channels: int, scale: Scale) -> dict[str, Any]:
    """Fields of a layer with weights: biases of zero and one scale for all channels."""
    values = {"bias": 0, "multiplier": scale.multiplier, "shift": scale.shift}
    return {name: np.full(channels, value, dtype=np.int32) for name, value in values.items()}


def weighted_fields(
    name: str,
    weight: np.ndarray,
    bias: np.ndarray,
    factors: np.ndarray,
    rounding: Rounding,
    constant: np.ndarray | None = None,
) -> dict[str, Any]:
    """Fields of a layer with weights.

    A factor of 1 or more doubles weights and bias, as often as it takes, where int8 holds them.

    A channel without weights has the same code everywhere. Converters give it a bias near the ends of int32, for
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
    constant : int array or None, (output channels,)
        Codes of the channels without weights, less the output's zero point; None: as the layer itself rounds.

    Raises
    ------
    ValueError
        When a bias is beyond int32, or a factor can't be made one between 0 and 1; the message names the layer.
    """
    bias = int32_biases(name, bias)
    try:
        found = [channel_scale(float(factor)) for factor in np.broadcast_to(factors, len(weight))]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    multiplier, shift = (np.array([getattr(s, field) for _, s in found], dtype=np.int64) for field in Scale._fields)
    times = np.array([power for power, _ in found], dtype=np.int64)
    wide, sums = weight * times.reshape(-1, 1, 1, 1), bias * times
    if wide.min(initial=0) < -128 or wide.max(initial=0) > 127:
        raise ValueError(
            f"{name}: the scale of input times weights must be below that of the output, not {np.max(factors):.3g} "
            "times it, or weights and bias so small that they can be doubled instead"
        )
    sums = int32_biases(name, sums)
    dead = ~weight.any(axis=(1, 2, 3))
    if constant is None:
        constant = clamp(requantize(sums.astype(np.int64), multiplier, shift, rounding), -255, 255)
    half = quantize_scale(0.5)
    changed = {"bias": (2 * constant, sums), "multiplier": (half.multiplier, multiplier), "shift": (half.shift, shift)}
    arrays = {field: np.where(dead, *pair).astype(np.int32) for field, pair in changed.items()}
    return {"weight": wide.astype(np.int8), "rounding": rounding} | arrays


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
