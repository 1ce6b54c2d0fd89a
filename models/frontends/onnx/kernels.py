"""Operators that the reference implementation in the package ``onnx`` lacks, or has wrong, in NumPy.

It lacks ONNX Runtime's domain (here as in its ContribOperators.md), DequantizeLinear before opset 19, and convolutions
of codes in rows whose weights have several scales; it takes batch norms before opset 14 for training, quantizes large
values to small codes, pads SAME_LOWER as no runtime does, and its pools take minutes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.frontends.onnx.file import MICROSOFT

__all__ = ["kernels"]

_DEQUANTIZES, _NORMALIZES = 19, 14  # first opsets whose operators the package has right


def kernels(opset: int) -> list[type]:
    """Types for the reference implementation, for a file of an opset."""
    from onnx.reference.op_run import OpRun

    def made(name: str, domain: str, run: Callable[..., Any]) -> type:
        def _run(self: Any, *inputs: Any, **attributes: Any) -> tuple[Any]:
            return (run(*inputs, **attributes),)

        return type(name, (OpRun,), {"op_domain": domain, "_run": _run})

    standard: dict[str, Callable[..., Any]] = {
        "QuantizeLinear": _quantized,
        "GlobalMaxPool": lambda x: x.max(axis=tuple(range(2, x.ndim)), keepdims=True),
        "MaxPool": lambda x, **given: _pool(x, np.max, -np.inf, **given).astype(x.dtype),
        "AveragePool": lambda x, **given: _average_pool(x, **given).astype(x.dtype),
    }
    if opset < _DEQUANTIZES:
        standard["DequantizeLinear"] = _dequantized
    if opset < _NORMALIZES:
        standard["BatchNormalization"] = _normalized
    found = [made(name, "", run) for name, run in standard.items()]
    return [*found, _row_convolutions(), *(made(name, MICROSOFT, run) for name, run in _CONTRIBUTED.items())]


def _row_convolutions() -> type:
    """The package's QLinearConv, which takes rows as maps of one row."""
    from onnx.reference.ops.op_qlinear_conv import QLinearConv as OfMaps

    class QLinearConv(OfMaps):
        op_domain = ""

        def _run(self, *inputs: Any, **given: Any) -> Any:
            x, x_scale, x_zero, w, *others = inputs
            if x.ndim != 3:
                return super()._run(*inputs, **given)  # type: ignore[no-untyped-call]
            for name in ("kernel_shape", "strides", "dilations"):
                given[name] = [1, *given[name]] if given.get(name) else None
            before, behind = given.get("pads") or (0, 0)
            given["pads"] = [0, before, 0, behind]
            (rows,) = super()._run(  # type: ignore[no-untyped-call]
                x[:, :, None], x_scale, x_zero, w[:, :, None], *others, **given
            )
            return (rows[:, :, 0],)

    return QLinearConv


def _pool(
    x: np.ndarray, reduce: Callable[..., Any], fill: float, *, kernel_shape: Sequence[int], strides: Any = None,
    dilations: Any = None, pads: Any = None, auto_pad: str | None = None, ceil_mode: int | None = 0,
    **_unused: Any,
) -> np.ndarray:  # fmt: skip
    """A pool, whose last windows may reach beyond the padded map if they begin within it and ``ceil_mode`` is set."""
    count = len(kernel_shape)
    strides, dilations = strides or [1] * count, dilations or [1] * count
    sizes = [(kernel - 1) * dilation + 1 for kernel, dilation in zip(kernel_shape, dilations, strict=True)]
    around = np.reshape(pads or [0] * (2 * count), (2, count)).T
    if (auto_pad or "").startswith("SAME"):
        outputs = [-(-size // stride) for size, stride in zip(x.shape[2:], strides, strict=True)]
        whole = [
            max(0, (output - 1) * stride + size - length)
            for output, stride, size, length in zip(outputs, strides, sizes, x.shape[2:], strict=True)
        ]
        around = np.array([[n - n // 2, n // 2] if auto_pad == "SAME_LOWER" else [n // 2, n - n // 2] for n in whole])
    if ceil_mode:
        for ends, size, stride, length in zip(around, sizes, strides, x.shape[2:], strict=True):
            outputs = -(-(length + sum(ends) - size) // stride) + 1
            outputs -= int((outputs - 1) * stride >= length + ends[0])
            ends[1] = max(ends[1], (outputs - 1) * stride + size - length - ends[0])
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *around], constant_values=fill)
    axes = tuple(range(2, 2 + count))
    windows = np.lib.stride_tricks.sliding_window_view(padded, sizes, axes)
    each = [slice(None, None, step) for step in (*strides, *dilations)]
    return np.asarray(reduce(windows[:, :, *each], axis=tuple(range(-count, 0))))


def _average_pool(x: np.ndarray, *, count_include_pad: int | None = 0, **given: Any) -> np.ndarray:
    total = _pool(x, np.sum, 0.0, **given)
    return total / _pool(np.ones_like(x, np.float64), np.sum, 1.0 if count_include_pad else 0.0, **given)


def _normalized(x: Any, scale: Any, bias: Any, mean: Any, variance: Any, *, epsilon: float, **_unused: Any) -> Any:
    sizes = (-1, *[1] * (x.ndim - 2))
    gain = scale / np.sqrt(variance + np.asarray(epsilon, variance.dtype))
    return ((x - mean.reshape(sizes)) * gain.reshape(sizes) + bias.reshape(sizes)).astype(x.dtype)


def _wide(x: np.ndarray, values: Any, axis: int | None) -> Any:
    """Scales or zero points, to be broadcast over a tensor."""
    sizes = [-1 if n == (1 if axis is None else axis) % x.ndim else 1 for n in range(x.ndim)]
    return None if values is None else np.asarray(values).reshape(sizes if np.size(values) > 1 else ())


def _quantized(
    x: np.ndarray,
    scale: Any,
    zero: Any = None,
    *,
    axis: int | None = None,
    output_dtype: int | None = 0,
    **_unused: Any,
) -> np.ndarray:
    like = np.zeros(0, np.int8 if output_dtype == 3 else np.uint8)  # INT8 of TensorProto.DataType
    return _coded(x, _wide(x, scale, axis), _wide(x, zero, axis), like)


def _dequantized(x: np.ndarray, scale: Any, zero: Any = None, *, axis: int | None = None, **_unused: Any) -> np.ndarray:
    return _real(x, _wide(x, scale, axis), _wide(x, zero, axis)).astype(np.float32)


def _real(codes: np.ndarray, scale: Any, zero: Any) -> np.ndarray:
    """What codes stand for, in double precision."""
    centred = codes.astype(np.float64) - (0 if zero is None else np.asarray(zero, np.float64))
    return np.asarray(centred * np.float64(scale))


def _coded(values: np.ndarray, scale: Any, zero: Any, like: np.ndarray) -> np.ndarray:
    """Codes for values, of the zero point's type."""
    dtype = np.asarray(zero).dtype if zero is not None else like.dtype if like.dtype.kind in "iu" else np.dtype("u1")
    bounds = np.iinfo(dtype)
    codes = np.rint(values / np.asarray(scale, values.dtype)) + (0 if zero is None else np.asarray(zero, values.dtype))
    return np.asarray(codes.clip(bounds.min, bounds.max).astype(dtype))


def _binary(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def run(a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, scale: Any, zero: Any = None) -> Any:
        return _coded(function(_real(a, a_scale, a_zero), _real(b, b_scale, b_zero)), scale, zero, a)

    return run


def _mean(x: Any, x_scale: Any, x_zero: Any, scale: Any, zero: Any = None, **_unused: Any) -> np.ndarray:
    return _coded(_real(x, x_scale, x_zero).mean(tuple(range(2, x.ndim)), keepdims=True), scale, zero, x)


def _coded_pool(x: Any, x_scale: Any, x_zero: Any, scale: Any, zero: Any = None, **given: Any) -> np.ndarray:
    return _coded(_average_pool(_real(x, x_scale, x_zero), **given), scale, zero, x)


def _concat(scale: Any, zero: Any, *maps: Any, axis: int) -> np.ndarray:
    values = [_real(*maps[n : n + 3]) for n in range(0, len(maps), 3)]
    return _coded(np.concatenate(values, axis), scale, zero, maps[0])


def _gemm(
    a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, c: Any = None, scale: Any = None,
    zero: Any = None, *, transB: int | None = None, **_unused: Any,
) -> np.ndarray:  # fmt: skip
    centred = (b.T if transB else b).astype(np.float64) - np.asarray(0 if b_zero is None else b_zero).reshape(-1)
    total = (a.astype(np.float64) - np.float64(0 if a_zero is None else a_zero)) @ centred + (0 if c is None else c)
    values = total * (np.float64(a_scale) * np.asarray(b_scale, np.float64).reshape(-1))
    return np.asarray(values.astype(np.float32)) if scale is None else _coded(values, scale, zero, a)


_CONTRIBUTED: dict[str, Callable[..., Any]] = {
    "QuantizeLinear": _quantized,
    "DequantizeLinear": _dequantized,
    "QLinearAdd": _binary(np.add),
    "QLinearMul": _binary(np.multiply),
    "QLinearGlobalAveragePool": _mean,
    "QLinearAveragePool": _coded_pool,
    "QLinearConcat": _concat,
    "QGemm": _gemm,
}
