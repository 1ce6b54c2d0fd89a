"""Weights of a quantized program as the integers that they were dequantized from, and heads that add them up."""

import numpy as np

from hw.network.network import Linear, Tensor
from hw.numerics import Rounding
from models.frontends.pytorch.steps import GraphStep

__all__ = ["in_one_scale", "int8_parts", "raw_linear", "weight_codes"]

_EXACT = 1e-4  # of a step, by which a weight may be beside its code: float32 has 24 bits
_LARGEST = 255  # weight, from its zero point
_FINEST = 4  # parts of the coarsest scale that another one may be


def weight_codes(step: GraphStep, scales: np.ndarray) -> tuple[np.ndarray, str]:
    """The integers that a step's weights are in steps of their scales, one for each output channel.

    Returns
    -------
    codes : int64 array, (outputs, height, width, inputs)
        Less their zero point.
    problem : str
        Why they can't be followed; empty where they can.
    """
    assert step.weight is not None
    if not ((scales > 0) & (scales < np.inf)).all():
        return np.zeros(0, np.int64), "scales of weights must be positive and finite"
    exact = step.weight.double().numpy() / scales[:, None, None, None]
    codes = np.rint(exact)
    largest = np.abs(codes).max()
    problem = ""
    if np.abs(exact - codes).max() > _EXACT:
        problem = "weights must be what they are dequantized to, with nothing folded into them"
    elif largest > _LARGEST:
        problem = (
            f"weights must be of 8 bits, {_LARGEST} from their zero point at most, not {largest:.0f}: "
            "quantize them as int8"
        )
    return np.ascontiguousarray(codes.transpose(0, 2, 3, 1).astype(np.int64)), problem


def in_one_scale(codes: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Weights with a scale for each output in steps of one, which is the coarsest or so small a part of it as it takes.

    Parameters
    ----------
    codes : int64 array, (outputs, height, width, inputs)
    scales : float array, (outputs,)

    Returns
    -------
    codes : int64 array
    scale : float
        A quarter of the coarsest one, where no larger part is a part of all.
    off : float array, like the codes
        Steps by which each was rounded; 0: all are exact.
    """
    for parts in range(1, _FINEST + 1):
        scale = float(scales.max()) / parts
        exact = codes * (scales / scale)[:, None, None, None]
        off = np.abs(exact - np.rint(exact))
        if off.max() <= _EXACT:
            return np.rint(exact).astype(np.int64), scale, np.zeros_like(off)
    return np.rint(exact).astype(np.int64), scale, off


def int8_parts(codes: np.ndarray, *, depthwise: bool) -> list[np.ndarray]:
    """Weights that int8 holds whose sum these are; of several those of a depthwise convolution are of all channels."""
    parts, rest = [np.clip(codes, -128, 127)], codes
    while (rest := rest - parts[-1]).any():
        parts.append(np.clip(rest, -128, 127))
    if len(parts) > 1 and depthwise:
        own = np.eye(len(codes), dtype=np.int64)[:, None, None, :]
        parts = [part * own for part in parts]
    return [part.astype(np.int8) for part in parts]


def raw_linear(name: str, source: str, weight: np.ndarray, bias: np.ndarray, scale: float) -> Linear:
    """A head that delivers its accumulators, whose steps have this scale."""
    unused = np.zeros(len(weight), dtype=np.int32)
    return Linear(
        name=name, inputs=(source,), output=Tensor(shape=(1, 1, len(weight)), scale=scale, zero_point=0),
        weight=weight, bias=bias, multiplier=unused, shift=unused, rounding=Rounding.SINGLE, raw=True,
    )  # fmt: skip
