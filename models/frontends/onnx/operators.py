"""From ONNX operators to modules: a table says which operator becomes what.

Every attribute is followed exactly, or refused. Operators of forms before and after opset 13, whose axes, bounds and
sizes are attributes or inputs, are both known.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hw.rules import shown
from models.frontends.onnx.layers import (
    Apply,
    BatchNorm,
    CodedConv,
    CodedLinear,
    ConvOverMap,
    ConvOverRow,
    Pool,
    TurnedLinear,
    WindowPlace,
    linear,
    parameter,
)
from models.frontends.onnx.shapes import (
    concat,
    flatten,
    gather,
    own_axes,
    pad,
    reshape,
    slice_of,
    split,
    squeeze,
    transpose,
    unsqueeze,
)
from models.frontends.onnx.sites import Codes, Site

__all__ = ["OPERATORS", "OnnxRule", "nearest", "window"]

_FLOATS = (1, 10, 11, 16)  # FLOAT, FLOAT16, DOUBLE, BFLOAT16 of TensorProto.DataType
_TURNED = ("columns", "map")  # of models.frontends.onnx.layout
_REDUCED = ("axes", "keepdims", "noop_with_empty_axes")
_WINDOW = ("auto_pad", "kernel_shape", "strides", "dilations", "pads")


@dataclass(frozen=True, kw_only=True)
class OnnxRule:
    """What becomes of an operator.

    Attributes
    ----------
    build : function
        The module of a node; it takes those of its inputs that aren't constants.
    attributes : tuple of str
        Those it may have.
    keeps : bool
        Whether it gives on the values it takes, as they are or the largest of them: then it may work on codes.
    """

    build: Callable[[Site], nn.Module]
    attributes: tuple[str, ...] = ()
    keeps: bool = False


def window(site: Site, kernel: tuple[int, ...]) -> WindowPlace:
    """Where a convolution's or pool's windows lie."""
    count = len(kernel)
    if count not in (1, 2):
        raise site.refuse(f"windows must be over 1 or 2 axes, not {count}")
    pads = site.sizes("pads", 2 * count) or (0,) * (2 * count)
    auto = site.attribute("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise site.refuse(f"auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {shown(auto)}")
    if auto != "NOTSET" and any(pads):
        raise site.refuse(f"pads must be 0 beside auto_pad {auto}, not {list(pads)}")
    return WindowPlace(
        kernel=kernel,
        stride=site.sizes("strides", count, 1) or (1,) * count,
        dilation=site.sizes("dilations", count, 1) or (1,) * count,
        pads=tuple(zip(pads[:count], pads[count:], strict=True)),
        same=auto.removeprefix("SAME_") if auto.startswith("SAME") else "",
    )


def _conv(site: Site) -> nn.Module:
    weight, bias = site.weights(1, "weights"), _bias(site, 2)
    values = weight.values if isinstance(weight, Codes) else weight
    if values is None or values.ndim not in (3, 4) or 0 in values.shape:
        raise site.refuse(f"weights must be of 3 or 4 sizes, not {None if values is None else list(values.shape)}")
    outputs, kernel, groups = len(values), values.shape[2:], site.attribute("group", 1)
    if groups < 1 or outputs % groups:
        raise site.refuse(f"group must divide the {outputs} output channels, not be {groups}")
    if (said := site.sizes("kernel_shape")) not in (None, kernel):
        raise site.refuse(f"kernel_shape must be that of the weights, {list(kernel)}, not {said}")
    if bias is not None and (bias.values if isinstance(bias, Codes) else bias).shape != (outputs,):
        raise site.refuse(f"biases must be {outputs}, one for each output channel")
    where = window(site, kernel)
    if isinstance(weight, Codes):
        return CodedConv(weight, bias, where, groups)
    made: Any = ConvOverMap if len(kernel) == 2 else ConvOverRow
    conv: ConvOverMap | ConvOverRow = made(
        values.shape[1] * groups, outputs, kernel, where.stride, 0, where.dilation, groups, bias=False, device="meta"
    )
    conv.window, conv.weight = where, parameter(values)
    bias = bias.floats() if isinstance(bias, Codes) else bias
    conv.bias = None if bias is None else parameter(bias)
    return conv


def _bias(site: Site, number: int) -> np.ndarray | Codes | None:
    return site.weights(number, "biases")


def _gemm(site: Site) -> nn.Module:
    site.fixed(transA=0)
    weight, alpha, beta = site.weights(1, "weights"), site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    if not site.attribute("transB", 0) and weight is not None:
        weight = weight.transposed() if isinstance(weight, Codes) else weight.T
    return _linear(site, weight, _bias(site, 2), alpha, beta)


def _matmul(site: Site) -> nn.Module:
    """A linear layer; the addition of a constant behind it is a third input here."""
    if site.is_constant(0):
        raise site.refuse("the first matrix must be a map, and the second constant weights")
    weight = site.weights(1, "weights")
    if weight is not None:
        weight = weight.transposed() if isinstance(weight, Codes) else weight.T
    return _linear(site, weight, _bias(site, 2))


def _linear(
    site: Site,
    weight: np.ndarray | Codes | None,
    bias: np.ndarray | Codes | None,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> nn.Module:
    values = weight.values if isinstance(weight, Codes) else weight
    if values is None or values.ndim != 2 or 0 in values.shape:
        raise site.refuse(f"weights must be a matrix, not of sizes {None if values is None else list(values.shape)}")
    shape = None if bias is None else (bias.values if isinstance(bias, Codes) else bias).shape
    one = shape is not None and shape[-1:] in ((), (1,)) and len(values) > 1
    if shape is not None and (shape[-1:] not in ((), (1,), (len(values),)) or set(shape[:-1]) - {1}):
        raise site.refuse(f"biases must be {len(values)}, one for each output, not of sizes {list(shape)}")
    if isinstance(bias, Codes) and (one or len(shape or ()) != 1 or beta != 1 or not isinstance(weight, Codes)):
        bias = bias.floats()
    if isinstance(bias, np.ndarray):
        bias = np.array(np.broadcast_to(bias.reshape(-1), len(values)) * np.float32(beta))
    if isinstance(weight, Codes) and alpha != 1:
        raise site.refuse(f"alpha must be 1.0 where weights are codes, not {alpha}")
    layer: nn.Linear | CodedLinear = (
        CodedLinear(weight, bias)
        if isinstance(weight, Codes)
        else linear(values * np.float32(alpha), bias if isinstance(bias, np.ndarray) else None)
    )
    columns = site.sizes("columns")
    return layer if columns is None else TurnedLinear(layer, columns)


def _norm(site: Site) -> nn.Module:
    site.fixed(training_mode=0, spatial=1, is_test=1)
    if any(site.node.outputs[1:]):
        raise site.refuse("it must have one output, not running statistics")
    found = [site.floats(n, what) for n, what in enumerate(("", "scale", "bias", "mean", "variance")) if n]
    scale, bias, mean, variance = (np.zeros(()) if values is None else values for values in found)
    if scale.ndim != 1 or not scale.shape == bias.shape == mean.shape == variance.shape:
        raise site.refuse("scale, bias, mean and variance must be one for each channel")
    if (variance < 0).any():
        raise site.refuse("variances must be 0 or more")
    momentum = 1.0 - site.attribute("momentum", 0.9)
    norm = BatchNorm(len(scale), site.attribute("epsilon", 1e-5), momentum, device="meta")
    norm.weight, norm.bias = parameter(scale), parameter(bias)
    norm.running_mean, norm.running_var = parameter(mean).data, parameter(variance).data
    norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device="cpu")
    return norm


def _clip(site: Site) -> nn.Module:
    if "min" in site.node.attributes or "max" in site.node.attributes or site.opset < 11:
        low, high = site.attribute("min", -np.inf), site.attribute("max", np.inf)
    else:
        bounds = [site.constant(number, what) for number, what in ((1, "the least"), (2, "the largest"))]
        if any(bound is not None and bound.size != 1 for bound in bounds):
            raise site.refuse("bounds must be single numbers")
        low, high = (
            default if bound is None else float(bound.item())
            for bound, default in zip(bounds, (-np.inf, np.inf), strict=True)
        )
    if np.isnan(low) or np.isnan(high) or low > high:
        raise site.refuse(f"bounds must be in order, not {low} and {high}")
    if high >= np.finfo(np.float32).max:
        return nn.ReLU() if low == 0 else Apply(lambda x: torch.clamp(x, min=low))
    if low == high:  # which nn.Hardtanh doesn't take
        return Apply(lambda x: torch.clamp(x, low, high))
    return nn.ReLU6() if (low, high) == (0, 6) else nn.Hardtanh(max(low, float(np.finfo(np.float32).min)), high)


def _hard_sigmoid(site: Site) -> nn.Module:
    alpha, beta = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    return Apply(lambda x: torch.clamp(x * alpha + beta, 0, 1))


def _arithmetic(function: Callable[..., torch.Tensor]) -> Callable[[Site], nn.Module]:
    """An operator of two maps, or of a map and a constant."""

    def build(site: Site) -> nn.Module:
        if len(site.node.inputs) != 2:
            raise site.refuse(f"operands must be 2, not {len(site.node.inputs)}")
        constants = [number for number in (0, 1) if site.is_constant(number)]
        if not constants:
            return Apply(function)
        values = site.floats(constants[0], "a constant operand")
        assert values is not None
        if values.ndim == 4 and len(values) != 1:
            raise site.refuse(f"a constant operand must be the same for every image, not {list(values.shape)}")
        return Apply(function if constants == [1] else lambda x, c: function(c, x), values)

    return build


def _pool(*, largest: bool) -> Callable[[Site], nn.Module]:
    def build(site: Site) -> nn.Module:
        if any(site.node.outputs[1:]):
            raise site.refuse("it must have one output, not indices, too")
        site.fixed(storage_order=0)
        kernel = site.sizes("kernel_shape", None, 1)
        if kernel is None:
            raise site.refuse("kernel_shape must be given")
        where = window(site, kernel)
        if not largest and set(where.dilation) != {1}:
            raise site.refuse(f"dilations must be 1, not {list(where.dilation)}")
        ceil, counted = bool(site.attribute("ceil_mode", 0)), bool(site.attribute("count_include_pad", 0))
        padded = bool(where.same) or any(map(any, where.pads))
        return Pool(where, largest=largest, ceil=ceil, counted=counted or not padded)

    return build


def _global_average(_site: Site) -> nn.Module:
    return Apply(lambda x: F.adaptive_avg_pool2d(x, 1) if x.ndim == 4 else F.adaptive_avg_pool1d(x, 1))


def _global_largest(_site: Site) -> nn.Module:
    return Apply(lambda x: F.max_pool2d(x, x.shape[2:]) if x.ndim == 4 else F.max_pool1d(x, x.shape[2]))


def _over(function: Callable[..., torch.Tensor], what: str) -> Callable[[Site], nn.Module]:
    """A mean or the largest over axes."""

    def build(site: Site) -> nn.Module:
        axes, keep = site.axes(1), bool(site.attribute("keepdims", 1))
        if not axes:
            if site.attribute("noop_with_empty_axes", 0):
                return nn.Identity()
            raise site.refuse("axes must be given, and not hold that of images")
        return Apply(lambda x: function(x, own_axes(axes, x.ndim, what), keepdim=keep))

    return build


def _same(site: Site) -> nn.Module:
    return nn.Identity()


def _dropout(site: Site) -> nn.Module:
    if any(site.node.outputs[1:]):
        raise site.refuse("it must have one output, not a mask, too")
    ratio, training = site.constant(1, "the ratio"), site.constant(2, "training_mode")
    if training is not None and training.any():
        raise site.refuse("training_mode must be false")
    share = site.attribute("ratio", 0.5) if ratio is None else float(ratio.item())
    return nn.Dropout(share) if 0 <= share <= 1 else nn.Identity()


def _cast(site: Site) -> nn.Module:
    to = site.attribute("to", 1)
    if to not in _FLOATS:
        raise site.refuse(f"a map must stay floats, not become of type {to}")
    return nn.Identity()


OPERATORS: dict[str, OnnxRule] = {
    "Add": OnnxRule(build=_arithmetic(torch.add)),
    "AveragePool": OnnxRule(build=_pool(largest=False), attributes=(*_WINDOW, "ceil_mode", "count_include_pad")),
    "BatchNormalization": OnnxRule(
        build=_norm, attributes=("epsilon", "momentum", "training_mode", "spatial", "is_test")
    ),
    "Cast": OnnxRule(build=_cast, attributes=("to", "saturate", "round_mode")),
    "Clip": OnnxRule(build=_clip, attributes=("min", "max")),
    "Concat": OnnxRule(build=concat, attributes=("axis",)),
    "Conv": OnnxRule(build=_conv, attributes=(*_WINDOW, "group")),
    "Div": OnnxRule(build=_arithmetic(torch.div)),
    "Dropout": OnnxRule(build=_dropout, attributes=("ratio", "seed"), keeps=True),
    "Flatten": OnnxRule(build=flatten, attributes=("axis",), keeps=True),
    "Gather": OnnxRule(build=gather, attributes=("axis",), keeps=True),
    "Gemm": OnnxRule(build=_gemm, attributes=("alpha", "beta", "transA", "transB", *_TURNED)),
    "GlobalAveragePool": OnnxRule(build=_global_average),
    "GlobalMaxPool": OnnxRule(build=_global_largest, keeps=True),
    "HardSigmoid": OnnxRule(build=_hard_sigmoid, attributes=("alpha", "beta")),
    "Identity": OnnxRule(build=_same, keeps=True),
    "MatMul": OnnxRule(build=_matmul, attributes=_TURNED),
    "MaxPool": OnnxRule(build=_pool(largest=True), attributes=(*_WINDOW, "ceil_mode", "storage_order"), keeps=True),
    "Mul": OnnxRule(build=_arithmetic(torch.mul)),
    "Neg": OnnxRule(build=lambda site: Apply(torch.neg)),
    "Pad": OnnxRule(build=pad, attributes=("mode", "pads", "value")),
    "ReduceMax": OnnxRule(build=_over(torch.amax, "a maximum"), attributes=_REDUCED, keeps=True),
    "ReduceMean": OnnxRule(build=_over(torch.mean, "a mean"), attributes=_REDUCED),
    "Relu": OnnxRule(build=lambda site: nn.ReLU()),
    "Reshape": OnnxRule(build=reshape, attributes=("allowzero",), keeps=True),
    "Slice": OnnxRule(build=slice_of, attributes=("starts", "ends", "axes"), keeps=True),
    "Split": OnnxRule(build=split, attributes=("axis", "split", "num_outputs", "part", "parts"), keeps=True),
    "Squeeze": OnnxRule(build=squeeze, attributes=("axes",), keeps=True),
    "Sub": OnnxRule(build=_arithmetic(torch.sub)),
    "Transpose": OnnxRule(build=transpose, attributes=("perm",), keeps=True),
    "Unsqueeze": OnnxRule(build=unsqueeze, attributes=("axes",), keeps=True),
}

#: The nearest supported form of operators that exporters write.
_NEAREST = {
    **dict.fromkeys(("LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus", "Swish"), "Relu or Clip"),
    **dict.fromkeys(("QuickGelu", "FastGelu", "BiasGelu"), "Relu or Clip"),
    **dict.fromkeys(("HardSwish", "Softsign", "ThresholdedRelu"), "Relu, Clip or HardSigmoid"),
    **dict.fromkeys(("Softmax", "LogSoftmax", "ArgMax", "Hardmax"), "the same as the network's last"),
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization", "GroupNormalization"), "BatchNormalization"),
    **dict.fromkeys(("ReduceSum", "ReduceL2", "ReduceMin"), "ReduceMean"),
    **dict.fromkeys(("ConvTranspose", "DeformConv", "FusedConv"), "Conv"),
    **dict.fromkeys(("LpPool", "GlobalLpPool"), "AveragePool or GlobalAveragePool"),
    **dict.fromkeys(("Resize", "Upsample"), "a Conv or MaxPool with strides"),
    **dict.fromkeys(("If", "Loop", "Scan"), "the nodes themselves, as exported with constant control flow"),
    **dict.fromkeys(
        ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"), "static quantization, with QuantizeLinear"
    ),
    **dict.fromkeys(("Shape", "Expand", "GatherND", "Tile"), "Reshape, Slice or Concat; sizes alone may be computed"),
    "Sigmoid": "the same as the network's last, and within it HardSigmoid",
    "Tanh": "the same as the network's last, and within it Clip",
    "Sum": "Add",
}


def nearest(operator: str, known: Sequence[str]) -> str:
    """The nearest supported form of an operator that isn't; for ONNX Runtime's on codes, of that on floats."""
    domain, _, name = operator.rpartition(".")
    if (bare := name.removeprefix("QLinear")) in _NEAREST:
        return _NEAREST[bare]
    if domain:
        return "a standard operator, or QuantizeLinear and DequantizeLinear around one"
    return next(iter(difflib.get_close_matches(name, known, 1, 0.5)), "Conv, Gemm, Relu, Add or a pool")
