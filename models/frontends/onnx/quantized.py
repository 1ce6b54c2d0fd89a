"""From quantized ONNX operators to modules: floats between what makes floats of codes and what makes codes of floats.

QuantizeLinear and DequantizeLinear are PyTorch's ``quantized_decomposed`` operators; an operator of codes (QLinearConv
and the like, those of ONNX Runtime's domain, too) is the float operator between them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from models.frontends.onnx.file import MICROSOFT
from models.frontends.onnx.layers import Between
from models.frontends.onnx.operators import OPERATORS
from models.frontends.onnx.sites import Codes, Coding, Site

__all__ = ["QUANTIZED", "OnnxCodeRule", "clipped", "codes_of", "dequantize", "quantize"]

_UINT8, _INT8 = 2, 3  # of TensorProto.DataType
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides", "channels_last")


@dataclass(frozen=True, kw_only=True)
class OnnxCodeRule:
    """What becomes of an operator on codes.

    Attributes
    ----------
    build : function
        The module of a node, which takes the maps among its inputs, and what its codes stand for; None for floats.
    maps : function
        Numbers of the inputs that may be maps, each before its scale and zero point.
    attributes : tuple of str
    """

    build: Callable[[Site], tuple[nn.Module, Coding | None]]
    maps: Callable[[int], range]
    attributes: tuple[str, ...] = ()


def quantize(site: Site) -> Coding:
    """What the codes of a QuantizeLinear stand for."""
    site.fixed(saturate=1, block_size=0, precision=0)
    asked = site.attribute("output_dtype", 0)
    found = site.quantization(1, np.int8 if asked == _INT8 else np.uint8)
    if asked not in (0, _INT8 if found.low < 0 else _UINT8):
        raise site.refuse(f"output_dtype must be that of the zero point, UINT8 or INT8, not {asked}")
    return found


def dequantize(site: Site) -> Codes | Coding:
    """What a DequantizeLinear makes floats of: a constant, or what the codes of its map stand for."""
    site.fixed(block_size=0)
    if site.attribute("output_dtype", 0) not in (0, 1, 10, 16):
        raise site.refuse(f"output_dtype must be of floats, not {site.attribute('output_dtype', 0)}")
    if site.is_constant(0):
        return site.dequantized(0, site.attribute("axis", 1))
    found = site.quantization(1)
    known = site.maps.get(site.name(0))
    if known is None or known.dtype != found.dtype:
        raise site.refuse(
            f"it must read codes of its zero point's type, not {'floats' if known is None else known.dtype}"
        )
    return replace(found, low=known.low, high=known.high)


def clipped(site: Site, known: Coding) -> Coding:
    """What codes stand for behind a Clip of them."""
    bounds = [site.integers(number, "bounds of codes") for number in (1, 2)]
    low, high = (
        default if bound is None else bound[0] for bound, default in zip(bounds, (known.low, known.high), strict=True)
    )
    low, high = max(low, known.low), min(high, known.high)
    if low > high:
        raise site.refuse(f"bounds of codes must be in order, not {low} and {high}")
    return replace(known, low=low, high=high)


def codes_of(site: Site, number: int) -> Coding:
    """What the codes of an operand stand for, in the range that they have."""
    found, known = site.quantization(number + 1), site.maps.get(site.name(number))
    if known is None or known.dtype != found.dtype:
        raise site.refuse(f"operand {number} must be codes of its zero point's type")
    return replace(found, low=known.low, high=known.high)


def _between(
    site: Site, operator: str, numbers: list[int], target: int, codes: dict[int, Codes], **attributes: object
) -> tuple[nn.Module, Coding | None]:
    """A float operator whose operands are inputs of these numbers, maps or constants, and its result's codes."""
    made = {f"codes {number}": value for number, value in codes.items()}
    inputs = tuple(f"codes {number}" if number in codes else site.name(number) for number in numbers)
    inner = site.inner(operator, inputs, made, **attributes)
    sources = [codes_of(site, number) for number in numbers if number not in codes]
    result = site.quantization(target) if site.name(target) else None
    return Between(sources, OPERATORS[operator].build(inner), result), result


def _constants(site: Site, numbers: list[int]) -> dict[int, Codes]:
    return {number: site.dequantized(number, 0) for number in numbers if site.name(number) in site.constants}


def _biases(site: Site, number: int, source: int, weight: Codes) -> dict[int, Codes]:
    """Biases, whose scale is that of input times weights."""
    values = site.constant(number, "biases")
    if values is None:
        return {}
    if values.dtype != np.int32 or values.ndim != 1 or (weight.scale.ndim and len(weight.scale) != len(values)):
        raise site.refuse(f"biases must be INT32, one for each output, not {values.dtype} of {list(values.shape)}")
    scale = np.asarray(weight.scale * np.float32(site.quantization(source).scale), np.float32)
    return {number: Codes(values=values, scale=scale, zero_point=np.zeros(scale.shape, np.int32))}


def _conv(site: Site) -> tuple[nn.Module, Coding | None]:
    weight = site.dequantized(3, 0)
    biases = _biases(site, 8, 1, weight)
    return _between(site, "Conv", [0, 3, *biases], 6, {3: weight, **biases}, **site.node.attributes)


def _columns(site: Site, number: int) -> Codes:
    """A matrix of weights whose scales are one for each column, perhaps as a row."""
    scale, values = site.constant(number + 1, "the scale"), site.constant(number, "weights")
    if scale is None or values is None or values.ndim != 2 or (scale.size > 1 and scale.size != values.shape[-1]):
        raise site.refuse("weights must be a constant matrix with one scale, or one for each column")
    flat = {
        site.name(n): found.reshape(-1)
        for n in (number + 1, number + 2)
        if (found := site.constant(n, "scales and zero points")) is not None
    }
    inner = Site(node=site.node, opset=site.opset, batch=site.batch, constants={**site.constants, **flat})
    return inner.dequantized(number, 1)


def _matmul(site: Site) -> tuple[nn.Module, Coding | None]:
    return _between(site, "MatMul", [0, 3], 6, {3: _columns(site, 3)})


def _gemm(site: Site) -> tuple[nn.Module, Coding | None]:
    site.fixed(alpha=1.0)
    if site.attribute("transB", 0):
        weight = site.dequantized(3, 0)
        if weight.values.ndim != 2:
            raise site.refuse(f"weights must be a matrix, not of sizes {list(weight.values.shape)}")
    else:
        weight = _columns(site, 3).transposed()
    biases = _biases(site, 6, 1, weight)
    return _between(
        site, "Gemm", [0, 3, *biases], 7, {3: weight, **biases}, transB=1, transA=site.attribute("transA", 0)
    )  # fmt: skip


def _arithmetic(operator: str) -> Callable[[Site], tuple[nn.Module, Coding | None]]:
    return lambda site: _between(site, operator, [0, 3], 6, _constants(site, [0, 3]))


def _average(site: Site) -> tuple[nn.Module, Coding | None]:
    site.fixed(channels_last=0)
    attributes = {key: value for key, value in site.node.attributes.items() if key != "channels_last"}
    operator = "AveragePool" if "kernel_shape" in attributes else "GlobalAveragePool"
    return _between(site, operator, [0], 3, {}, **attributes)


def _concat(site: Site) -> tuple[nn.Module, Coding | None]:
    count = len(site.node.inputs)
    if count % 3 != 2:
        raise site.refuse("each map must have its scale and zero point")
    return _between(site, "Concat", list(range(2, count, 3)), 0, {}, axis=site.attribute("axis", 1))


def _first(_count: int) -> range:
    return range(1)


def _two(_count: int) -> range:
    return range(0, 4, 3)


QUANTIZED: dict[str, OnnxCodeRule] = {
    "QLinearConv": OnnxCodeRule(build=_conv, maps=_first, attributes=OPERATORS["Conv"].attributes),
    "QLinearMatMul": OnnxCodeRule(build=_matmul, maps=_first),
    f"{MICROSOFT}.QGemm": OnnxCodeRule(build=_gemm, maps=_first, attributes=("alpha", "transA", "transB")),
    f"{MICROSOFT}.QLinearAdd": OnnxCodeRule(build=_arithmetic("Add"), maps=_two),
    f"{MICROSOFT}.QLinearMul": OnnxCodeRule(build=_arithmetic("Mul"), maps=_two),
    f"{MICROSOFT}.QLinearAveragePool": OnnxCodeRule(build=_average, maps=_first, attributes=_POOL),
    f"{MICROSOFT}.QLinearGlobalAveragePool": OnnxCodeRule(build=_average, maps=_first, attributes=("channels_last",)),
    f"{MICROSOFT}.QLinearConcat": OnnxCodeRule(
        build=_concat, maps=lambda count: range(2, count, 3), attributes=("axis",)
    ),
}
