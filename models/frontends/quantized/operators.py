"""A program with quantize and dequantize operators becomes steps in float, and steps that are nothing but roundings.

What stands between a dequantize and the next quantize is lowered as any network is
(:mod:`models.frontends.pytorch.operators`); a quantize, a clamp and a concatenation are steps of their own.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from torch import fx

from hw.network.network import INPUT
from models.frontends import refused
from models.frontends.identities import MAX_OUTPUTS
from models.frontends.pytorch.exported import Exported, arguments
from models.frontends.pytorch.lowering import FIRST, Lowering, Map, UnknownError
from models.frontends.pytorch.operators import CONVOLUTIONS, OPERATORS, Lacking, Rule, apply, weighted_values
from models.frontends.pytorch.pools import MAX_POOLS, average_pool, max_pool
from models.frontends.pytorch.steps import GraphStep
from models.frontends.quantized.affine import AFFINE, number, scaled
from models.frontends.quantized.lowering import ANY, Quantization, QuantizedLowering, QuantizedStep, plain, put
from models.frontends.quantized.moves import MOVES, PARTS, move, part, parts
from models.networks.winners import OPERATOR

__all__ = ["DEQUANTIZE", "OPERATOR_RULES", "QUANTIZE", "as_linear", "clamp_bounds", "product", "quantized_steps"]

_ONE = 1 / 64  # of the step of a map: a weight that gives a map on with its own scale is so many steps
_OFFSETS = {torch.int8: 0, torch.uint8: 128}  # of codes from int8


def quantized_steps(exported: Exported) -> QuantizedLowering:
    """The steps of a program.

    Returns
    -------
    QuantizedLowering
        ``exits`` are the steps that the program returns, or the image; ``problems`` all operators that can't be
        followed.
    """
    found = QuantizedLowering(exported=exported, maps={exported.image: Map(INPUT)})
    apply(found, OPERATOR_RULES)
    for node in exported.logits:
        source = found.maps.get(node)
        if node not in found.maps:
            found.refuse(node, f"{node.name}: an output must depend on the image")
        elif source is not None and not found.is_unknown(node):
            if source.order != FIRST:
                found.refuse(node, f"{node.name}: an output must have its channels first, or be flat")
            found.exits.append(source.name)
    for name, step in found.steps.items():
        if step.kind == "conv":
            found.steps[name] = as_linear(step, found.shape(step.inputs[0]))
    return found


def as_linear(step: GraphStep, source: tuple[int, int, int]) -> GraphStep:
    """A convolution whose kernel is its whole map as the linear layer that it is; any other step as it is."""
    if step.kind != "conv" or step.weight is None or any(step.pads) or tuple(step.weight.shape[2:]) != source[:2]:
        return step
    return replace(step, kind="linear", stride=(1, 1))


def _quantization(found: Lowering, node: fx.Node) -> Quantization:
    """What a quantize or a dequantize says."""
    given, location = arguments(node), found.location(node)
    scales, zero_points = (given[name] if name in given else given[f"{name}s"] for name in ("scale", "zero_point"))
    scale, zero_point = (
        torch.as_tensor(
            found.exported.values[value] if isinstance(value, fx.Node) else value, dtype=torch.float64
        ).unique()
        for value in (scales, zero_points)
    )
    if scale.numel() != 1 or zero_point.numel() != 1:
        raise ValueError(f"{location}: a map must have one scale and one zero point, not some for each channel")
    low, high = (
        int(found.exported.values[given[name]] if isinstance(given[name], fx.Node) else given[name])
        for name in ("quant_min", "quant_max")
    )
    offset = _OFFSETS.get(given["dtype"])
    if offset is None or not -128 <= low - offset <= high - offset <= 127:
        raise ValueError(f"{location}: maps must be of int8 or uint8, not {given['dtype']} of {low}..{high}")
    if not 0 < scale.item() < math.inf:
        raise ValueError(f"{location}: a scale must be positive and finite, not {scale.item()}")
    if not zero_point.item().is_integer():
        raise ValueError(f"{location}: a zero point must be an integer, not {zero_point.item()}")
    return Quantization(
        scale=scale.item(), zero_point=int(zero_point.item()) - offset, low=low - offset, high=high - offset
    )


def _quantize(found: Lowering, node: fx.Node) -> Map:
    source = plain(found, node, node.args[0], turned=True)
    return put(found, node, "quantize", (source.name,), order=source.order, quantization=_quantization(found, node))


def _dequantize(found: Lowering, node: fx.Node) -> Map:
    """The map that was quantized; an image of integers is quantized already."""
    source, quantization = plain(found, node, node.args[0], turned=True), _quantization(found, node)
    if source.name == INPUT:
        return put(found, node, "quantize", (INPUT,), order=source.order, quantization=quantization)
    step = found.steps[source.name]
    if not isinstance(step, QuantizedStep) or step.quantization != quantization:
        raise ValueError(
            f"{found.location(node)}: a map must be dequantized as it was quantized, {step.name} isn't by {node.name}"
        )
    return source


def _clip(low: float, high: float) -> Rule:
    """A rule for a clamp whose bounds are always the same."""

    def rule(found: Lowering, node: fx.Node) -> Map:
        source = plain(found, node, node.args[0], turned=True)
        return put(found, node, "clip", (source.name,), order=source.order, bounds=(low, high))

    return rule


def _clamp(found: Lowering, node: fx.Node) -> Map:
    return _clip(*clamp_bounds(found, node))(found, node)


def clamp_bounds(found: Lowering, node: fx.Node) -> tuple[float, float]:
    """Bounds of a clamp, which are arguments, or tensors of one value."""
    given = arguments(node)
    names = ("min_val", "max_val") if "min_val" in given else ("min", "max")
    bounds = []
    for name, none in zip(names, ANY, strict=True):
        value = given.get(name)
        if isinstance(value, fx.Node):
            value = found.constant(node, "bounds", value)
            if value.numel() != 1:
                raise ValueError(f"{found.location(node)}: bounds of a clamp must be the same for all channels")
        bounds.append(none if value is None else float(value))
    if not (bounds[0] < math.inf and bounds[1] > -math.inf):
        raise ValueError(f"{found.location(node)}: bounds of a clamp must be numbers, not {bounds[0]} and {bounds[1]}")
    if bounds[0] > bounds[1]:
        raise ValueError(f"{found.location(node)}: bounds of a clamp must be ordered, not {bounds[0]} and {bounds[1]}")
    return bounds[0], bounds[1]


def _hardsigmoid(found: QuantizedLowering, node: fx.Node) -> Map:
    """A gain, an offset and a clamp."""
    inner = scaled(found, node, node.args[0], number(1 / 6), number(0.5))
    found.nodes.pop(inner.name)  # The node's value is that of the clamp alone.
    return put(found, node, "clip", (inner.name,), order=inner.order, bounds=(0.0, 1.0))


def _concat(found: QuantizedLowering, node: fx.Node) -> Map:
    """Maps side by side; where they are flat, their values come one after the other."""
    given, values = arguments(node), found.exported.values
    maps = [plain(found, node, operand) for operand in given["tensors"]]
    layouts = [found.layout(operand) for operand in given["tensors"]]
    shapes = [found.shape(source.name) for source in maps]
    flat = all(layout == (math.prod(shape),) for layout, shape in zip(layouts, shapes, strict=True))
    whole = all(layout == (shape[2], *shape[:2]) for layout, shape in zip(layouts, shapes, strict=True))
    dims = values[node].ndim
    dim = given["dim"] % dims
    axis = 2 if dim == 1 else dim + 2 - dims
    if flat and dim == 1 and len({shape[:2] for shape in shapes}) > 1:
        maps = [_flattened(found, node, source) for source in maps]
        shapes = [found.shape(source.name) for source in maps]
    if dim == 0 or not (flat or whole):
        raise ValueError(
            f"{found.location(node)}: maps must be put together by their channels, rows or columns, or be flat, "
            f"not {', '.join(map(str, layouts))} along axis {dim}"
        )
    total = sum(shape[axis] for shape in shapes)
    shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
    return put(found, node, "concat", tuple(source.name for source in maps), shape=shape, axis=axis)


def _flattened(found: QuantizedLowering, node: fx.Node, source: Map) -> Map:
    """A map as one of a single position, whose channels are all its values, channels first; by a layer of ones."""
    height, width, channels = found.shape(source.name)
    count = height * width * channels
    if (height, width) == (1, 1):
        return source
    if count > MAX_OUTPUTS:
        raise ValueError(
            f"{found.location(node)}: maps that are flattened to be put together must have at most {MAX_OUTPUTS} "
            f"values, not {count}"
        )
    step = GraphStep(
        kind="linear", name=found.name(node, "flat"), inputs=(source.name,), shape=(1, 1, count),
        weight=torch.eye(count, dtype=torch.float32, device="cpu").reshape(count, channels, height, width),
        bias=torch.zeros(count, dtype=torch.float32, device="cpu"),
    )  # fmt: skip
    found.steps[step.name] = step
    _is_moved(found, step)
    return Map(step.name)


def _monotone(found: Lowering, node: fx.Node) -> Map:
    """What keeps the order of an image's values, and so is nothing at the end of a network."""
    source, given = plain(found, node, node.args[0]), arguments(node)
    shape, dims = found.shape(source.name), found.exported.values[node].ndim
    if "dim" in given and (given["dim"] % dims != 1 or shape[:2] != (1, 1)):
        raise ValueError(f"{found.location(node)}: {node.name} must be over all values of an image")
    step = QuantizedStep(kind="monotone", name=found.name(node, "order"), inputs=(source.name,), shape=shape)
    return found.put(node, step)


def _weighted(rule: Rule, name: str = "weight") -> Rule:
    """A rule of an operator with weights, which keeps their scales, too."""

    def quantized(found: QuantizedLowering, node: fx.Node) -> Map:
        source = rule(found, node)
        _, scales = _integers(found, node, arguments(node)[name])
        rows = scales.reshape(len(scales), -1) if scales.numel() else None
        if rows is None or not (rows == rows[:, :1]).all():
            raise ValueError(
                f"{found.location(node)}: weights must have one scale for each output channel, or one in all"
            )
        found.scales[source.name] = rows[:, 0].clone()
        return source

    return quantized


def _moved(rule: Rule) -> Rule:
    """A rule of what moves values, whose weights of ones are so many steps."""

    def quantized(found: QuantizedLowering, node: fx.Node) -> Map:
        source = rule(found, node)
        step = found.steps.get(source.name)
        if step is not None and found.nodes[step.name] is node:
            _is_moved(found, step)
        return source

    return quantized


def _is_moved(found: QuantizedLowering, step: GraphStep) -> None:
    """Note that a step only moves values, if it is one with weights: they are ones."""
    if step.weight is not None:
        found.moved.add(step.name)
        found.scales[step.name] = torch.full((len(step.weight),), _ONE, dtype=torch.float64, device="cpu")


def _average(found: QuantizedLowering, node: fx.Node) -> Map:
    """An average over windows; where it is a convolution of equal weights, these are its steps.

    Of single positions it only moves their values.
    """
    source = average_pool(found, node)
    step = found.steps.get(source.name)
    if step is not None and step.weight is not None and found.nodes[step.name] is node:
        if step.weight.shape[1:].numel() == 1 and bool((step.weight == 1).all()):
            _is_moved(found, step)
        else:
            found.scales[step.name] = step.weight[:, 0, 0, 0].double()
    return source


def _factors(node: fx.Node) -> tuple[str, str]:
    """Names of the two factors of a matrix product."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    return (names[1], names[2]) if names[1] == "mat1" else (names[0], names[1])


def product(found: Lowering, node: fx.Node) -> Map:
    """A matrix product with constant weights, (inputs, outputs): a linear layer."""
    given, (left, right) = arguments(node), _factors(node)
    if given[left] not in found.maps or given[right] in found.maps or found.exported.values[given[right]].ndim != 2:
        raise ValueError(f"{found.location(node)}: a matrix product must be of a map and constant weights")
    if given.get("beta", 1) != 1 or given.get("alpha", 1) != 1:
        raise ValueError(f"{found.location(node)}: addmm must have alpha and beta of 1")
    source, weight = plain(found, node, given[left], turned=True), found.constant(node, "weights", given[right]).t()
    bias = found.constant(node, "biases", given["self"] if "mat1" in given else None, len(weight))
    return weighted_values(found, node, given[left], source, weight, bias.expand(len(weight)))


def _product(found: QuantizedLowering, node: fx.Node) -> Map:
    """The same, with the scales of its weights."""
    source = product(found, node)
    _, scales = _integers(found, node, arguments(node)[_factors(node)[1]])
    if not (scales == scales[:1]).all():
        raise ValueError(f"{found.location(node)}: weights must have one scale for each output, or one in all")
    found.scales[source.name] = scales[0].clone()
    return source


def _integers(found: Lowering, node: fx.Node, value: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes, less their zero points, and the scales that a constant is made of: int64 and float64, of its shape."""
    if isinstance(value, fx.Node) and value.target in DEQUANTIZE:
        given, values = arguments(value), found.exported.values
        codes, scales, zero_points = (
            torch.as_tensor(values[each] if isinstance(each, fx.Node) else each)
            for each in (given["input"], given.get("scale", given.get("scales")),
                         given.get("zero_point", given.get("zero_points", 0)))
        )  # fmt: skip
        sizes = [1] * codes.ndim
        if "axis" in given:
            sizes[given["axis"]] = -1
        offsets = number(0.0) if zero_points is None else zero_points
        scale, zero_point = (each.reshape(sizes) if each.numel() > 1 else each for each in (scales, offsets))
        return codes.long() - zero_point.long(), scale.double().expand(codes.shape).contiguous()
    if isinstance(value, fx.Node) and value.target in _LAYOUT:
        codes, scales = _integers(found, node, value.args[0])
        return tuple(value.target(each, *value.args[1:], **value.kwargs) for each in (codes, scales))
    raise ValueError(
        f"{found.location(node)}: weights must be dequantized from integers, not {value}: "
        "let the quantizer take this layer, too"
    )


def _dynamic(found: Lowering, node: fx.Node) -> Map:
    """Scales of a map that are computed from it: said once, of the first."""
    if next(each for each in found.exported.nodes if each.target in _CHOICES) is not node:
        raise UnknownError
    raise ValueError(
        f"{found.location(node)}: scales of maps must be constants, {node.name} computes them anew for each image: "
        "quantize statically, with is_dynamic=False"
    )


def _refused(found: Lowering, node: fx.Node) -> Map:
    """What stands for an operator of a file that was refused."""
    raise ValueError(arguments(node)["reason"])


_ATEN, _QD = torch.ops.aten, torch.ops.quantized_decomposed
#: What makes codes of values.
QUANTIZE = [getattr(_QD.quantize_per_tensor, name) for name in ("default", "tensor", "tensor2")]
#: What makes values of codes.
DEQUANTIZE = [getattr(_QD.dequantize_per_tensor, name) for name in ("default", "tensor", "tensor2")]
DEQUANTIZE.append(_QD.dequantize_per_channel.default)
_CHOICES = {getattr(_QD, name).tensor for name in ("choose_qparams", "choose_qparams_symmetric")}
#: What changes the layout of constants alone.
_LAYOUT = {
    _ATEN.t.default, _ATEN.transpose.int, _ATEN.permute.default, _ATEN.view.default, _ATEN.reshape.default,
    _ATEN.unsqueeze.default, _ATEN.squeeze.dim, _ATEN.squeeze.dims, _ATEN.flatten.using_ints, _ATEN.numpy_T.default,
}  # fmt: skip
#: What belongs to selections of winners, which no other tool writes.
_FLOAT = {_ATEN.mul.Tensor, OPERATOR}
_RELU = Lacking("ReLU and ReLU6 are the nearest")
_NORM = Lacking("BatchNorm2d is the nearest")
_LARGER = Lacking("a convolution at the full size is the nearest")
_CHOICE = Lacking("leave it out, the logits that it reads say which class it is")
_LIMIT = Lacking("ReLU and Hardtanh, which clamp by constants, are the nearest")
_LAYERS = Lacking("convolutions and linear layers are the nearest")
_MEAN = Lacking("a mean over the same positions is the nearest")
#: The rule of each operator of a quantized program.
OPERATOR_RULES: dict[Any, Callable[..., Map]] = {
    **{target: rule for target, rule in OPERATORS.items() if target not in _FLOAT},
    **{target: _weighted(OPERATORS[target]) for target in (*CONVOLUTIONS, _ATEN.linear.default)},
    **dict.fromkeys((_ATEN.mm.default, _ATEN.matmul.default, _ATEN.addmm.default), _product),
    **dict.fromkeys((_ATEN.avg_pool2d.default, _ATEN.avg_pool1d.default), _average),
    **{target: _moved(max_pool) for target in MAX_POOLS},  # of single positions
    **dict.fromkeys((*QUANTIZE, _QD.quantize_per_channel.default), _quantize),
    **dict.fromkeys(DEQUANTIZE, _dequantize),
    **dict.fromkeys(_CHOICES, _dynamic),
    _ATEN.relu.default: _clip(0, math.inf),
    _ATEN.relu6.default: _clip(0, 6),
    **dict.fromkeys((_ATEN.hardtanh.default, _ATEN.clamp.default, _ATEN.clamp.Tensor), _clamp),
    **dict.fromkeys((_ATEN.clamp_min.default, _ATEN.clamp_max.default), _clamp),
    **dict.fromkeys((_ATEN.softmax.int, _ATEN._softmax.default, _ATEN.log_softmax.int), _monotone),
    **dict.fromkeys((_ATEN._log_softmax.default, _ATEN.sigmoid.default, _ATEN.tanh.default), _monotone),
    _ATEN.hardsigmoid.default: _hardsigmoid,
    **AFFINE,
    _ATEN.cat.default: _concat,
    **dict.fromkeys(PARTS, parts),
    **dict.fromkeys(MOVES, _moved(move)),
    operator.getitem: lambda found, node: part(found, node, _moved(move)),
    **dict.fromkeys((_ATEN.hardswish.default, _ATEN.silu.default, _ATEN.gelu.default, _ATEN.elu.default), _RELU),
    **dict.fromkeys((_ATEN.leaky_relu.default, _ATEN.prelu.default, _ATEN.mish.default), _RELU),
    **dict.fromkeys((_ATEN.softplus.default, _ATEN.selu.default), _RELU),
    **dict.fromkeys((_ATEN.layer_norm.default, _ATEN.group_norm.default, _ATEN.instance_norm.default), _NORM),
    **dict.fromkeys((_ATEN.upsample_nearest2d.vec, _ATEN.upsample_bilinear2d.vec), _LARGER),
    **dict.fromkeys((_ATEN.conv_transpose1d.default, _ATEN.conv_transpose2d.input), _LARGER),
    **dict.fromkeys((_ATEN.argmax.default, _ATEN.topk.default), _CHOICE),
    **dict.fromkeys((_ATEN.maximum.default, _ATEN.minimum.default, _ATEN.abs.default), _LIMIT),
    **dict.fromkeys((_ATEN.lstm.input, _ATEN.gru.input, _ATEN.scaled_dot_product_attention.default), _LAYERS),
    **dict.fromkeys((_ATEN.sum.dim_IntList, _ATEN.sum.default), _MEAN),
    **dict.fromkeys((_ATEN.pixel_shuffle.default, _ATEN.pixel_unshuffle.default), _LARGER),
    refused.OPERATOR: _refused,
}
