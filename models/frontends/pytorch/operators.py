"""From operators to steps: a table says which operator becomes what; batch norms are folded, ReLUs fused."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from hw.network.network import INPUT
from hw.network.selection import Select
from models.frontends.pytorch.exported import Exported, arguments
from models.frontends.pytorch.lowering import FIRST, LAST, NO_PADS, Lowering, Map, Pads, UnknownError, pair
from models.frontends.pytorch.pools import (
    MAX_POOLS,
    average_pool,
    global_pool,
    is_unreached,
    largest,
    max_pool,
    maximum,
    mean,
)
from models.frontends.pytorch.steps import GraphStep
from models.networks.winners import OPERATOR

__all__ = ["CONVOLUTIONS", "OPERATORS", "Lacking", "Rule", "added", "apply", "lowered", "weighted_values"]

#: What an operator is, once it is known what its operands are.
Rule = Callable[[Any, fx.Node], Map]


@dataclass(frozen=True)
class Lacking:
    """A rule of an operator that the accelerator lacks.

    Parameters
    ----------
    nearest : str
        What is nearest to it, in words.
    """

    nearest: str

    def __call__(self, found: Lowering, node: fx.Node) -> Map:
        found.map(node)
        raise ValueError(f"{found.location(node)}: {_called(node.target)} isn't among the operators: {self.nearest}")


def lowered(exported: Exported) -> Lowering:
    """The steps of a network's operators, and all reasons why it can't run."""
    found = Lowering(exported=exported, maps={exported.image: Map(INPUT)})
    apply(found, OPERATORS)
    for node in exported.logits:
        _exit(found, node)
    return found


def apply(found: Lowering, operators: Mapping[Any, Rule]) -> None:
    """Let every node be what its operator's rule says, and note what can't run."""
    for node in found.exported.nodes:
        try:
            found.maps[node] = _rule(found, node, operators)(found, node)
        except UnknownError:
            found.maps[node] = found.unknown(node)
        except ValueError as error:
            found.refuse(node, str(error))
            found.maps[node] = found.unknown(node)


def _rule(found: Lowering, node: fx.Node, operators: Mapping[Any, Rule]) -> Rule:
    """What makes a step of an operator."""
    _, module = found.exported.module(node)
    is_known = type(module).__module__.startswith("torch.nn.")
    if is_known and module in found.unsupported:
        raise UnknownError  # One of its operators has been refused: that speaks for all of them.
    if node.target in operators:
        return operators[node.target]
    value, operands = found.exported.values[node], set(node.all_input_nodes) & set(found.maps)
    if not isinstance(value, torch.Tensor) and any(map(found.is_unknown, operands)):
        raise UnknownError  # PyTorch's own, of sizes that depend on what was refused.
    names = {_called(target) for target, rule in operators.items() if not isinstance(rule, Lacking)} - _INNER
    called = _called(node.target)
    if called in names:  # In a form that isn't supported.
        called = str(node.target).removeprefix("aten.")
    if is_known:
        called += f" of {type(module).__name__}"
    first, location = not found.unsupported, found.location(node)
    found.unsupported.add(module)
    if first:
        raise ValueError(f"{location}: operators must be among {', '.join(sorted(names))}, not {called}")
    raise ValueError(f"{location}: {called} is not among these operators either")


def _called(target: Any) -> str:
    """An operator's name."""
    name: str = getattr(target, "__name__", str(target))
    return name.split(".", maxsplit=1)[0].removesuffix("_no_training").removesuffix("_legit").removeprefix("_native_")


def _conv(found: Lowering, node: fx.Node) -> Map:
    """A convolution; what groups don't multiply, and what dilation leaves out, are weights of zero."""
    given, source, location = arguments(node), found.map(node), found.location(node)
    what = found.module_name(node, "Conv")
    if given.get("transposed", False):
        raise ValueError(f"{location}: a convolution must not be transposed: one at the full size is the nearest")
    weight, bias = found.weights(node, given["weight"], given["bias"])
    if weight.ndim == 3:  # Conv1d, of maps of one row
        padding = given["padding"] if isinstance(given["padding"], str) else [0, *given["padding"]]
        given |= {"stride": [1, *given["stride"]], "dilation": [1, *given["dilation"]], "padding": padding}
        weight = weight.unsqueeze(2)
    height, width, channels = found.shape(source.name)
    height, width = height + sum(source.pads[:2]), width + sum(source.pads[2:])
    if source.mask or source.order != FIRST or found.layout(given["input"]) != (channels, height, width):
        raise ValueError(f"{location}: {what} must read a map (channels, height, width), not a flat one")
    depthwise = given["groups"] == channels == len(weight) > 1
    weight = _dilated(weight if depthwise else _dense(weight, given["groups"]), pair(given["dilation"]))
    stride, own = pair(given["stride"]), _padding(given["padding"], weight)
    shape = (
        (height + sum(own[:2]) - weight.shape[2]) // stride[0] + 1,
        (width + sum(own[2:]) - weight.shape[3]) // stride[1] + 1,
        len(weight),
    )
    return found.put(
        node,
        GraphStep(
            kind="depthwise" if depthwise else "conv", name=found.name(node, "conv2d"), inputs=(source.name,),
            shape=shape, weight=weight, bias=bias, stride=stride, pads=_together(source.pads, own),
            select=source.select,
        ),
    )  # fmt: skip


def _dense(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Weights of all input channels, zero where an output channel is in another group."""
    if groups == 1:
        return weight
    outputs, depth, rows, columns = weight.shape
    dense = weight.new_zeros(groups, outputs // groups, groups, depth, rows, columns)
    for group, own in enumerate(weight.reshape(groups, outputs // groups, depth, rows, columns)):
        dense[group, :, group] = own
    return dense.reshape(outputs, groups * depth, rows, columns)


def _dilated(weight: torch.Tensor, dilation: tuple[int, int]) -> torch.Tensor:
    """Weights with zeros between them."""
    if dilation == (1, 1):
        return weight
    rows, columns = ((size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilation, strict=True))
    spread = weight.new_zeros(*weight.shape[:2], rows, columns)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def _together(outer: Pads, inner: Pads) -> Pads:
    return outer[0] + inner[0], outer[1] + inner[1], outer[2] + inner[2], outer[3] + inner[3]


def _padding(padding: list[int] | str, weight: torch.Tensor) -> Pads:
    """Rows above and below, columns left and right, of a convolution's own padding."""
    if padding == "valid":
        return NO_PADS
    if padding == "same":
        rows, columns = (size - 1 for size in weight.shape[2:])
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2
    above, left = pair(padding)  # type: ignore[arg-type]
    return above, above, left, left


def _linear(found: Lowering, node: fx.Node) -> Map:
    given, source = arguments(node), found.map(node)
    weight, bias = found.weights(node, given["weight"], given["bias"])
    height, width, channels = found.shape(source.name)
    if source.mask or source.pads != NO_PADS:
        raise ValueError(f"{found.location(node)}: Linear must read a map as it is, not a padded one or winners")
    if source.select and source.select.kind != "elements" and (height, width) != (1, 1):
        location = found.name(node, "linear")
        raise ValueError(
            f"{location}: channels of a flattened map {(height, width, channels)} can't win; its elements can"
        )
    return weighted_values(found, node, given["input"], source, weight, bias)


def weighted_values(
    found: Lowering, node: fx.Node, operand: fx.Node, source: Map, weight: torch.Tensor, bias: torch.Tensor
) -> Map:
    """A linear layer of all values of an image, in whatever order, or of the channels at each position.

    Parameters
    ----------
    weight : tensor, (outputs, values)
    """
    height, width, channels = found.shape(source.name)
    sizes, layout = (channels, height, width), tuple(found.exported.values[operand].shape[1:])
    name, count = found.name(node, "linear"), len(weight)
    if layout == (math.prod(sizes),) or (layout[-1:] == (math.prod(sizes),) and height == width == 1):
        turned = weight.reshape(count, *(sizes[axis] for axis in source.order))
        kernel = turned.permute(0, *(1 + source.order.index(axis) for axis in FIRST)).contiguous()
        kind, shape, order = "linear", (1, 1, count), FIRST
    elif layout[-1:] == (channels,) and source.order == LAST and source.select is None:
        kind, shape, order, kernel = "conv", (height, width, count), LAST, weight.reshape(count, channels, 1, 1)
    else:
        raise ValueError(
            f"{found.location(node)}: Linear must read a flattened map or another Linear of {weight.shape[1]} values, "
            "or a map whose channels are last"
        )
    step = GraphStep(
        kind=kind, name=name, inputs=(source.name,), shape=shape, weight=kernel, bias=bias, select=source.select
    )
    return replace(found.put(node, step), order=order)


def _norm(found: Lowering, node: fx.Node) -> Map:
    given, what = arguments(node), found.module_name(node, "BatchNorm")
    step = found.fusable(node, what, ("conv", "depthwise"))
    if given.get("training", False) or given.get("running_mean") is None:
        raise ValueError(f"{found.location(node)}: {what} must keep running statistics")
    assert step.weight is not None
    assert step.bias is not None
    what, count = "batch norm parameters", len(step.weight)
    mean, variance = (found.constant(node, what, given[name]) for name in ("running_mean", "running_var"))
    gain = torch.rsqrt(variance + given["eps"])
    if given["weight"] is not None:
        gain = gain * found.constant(node, what, given["weight"])
    if not torch.isfinite(gain).all():
        raise ValueError(f"{found.location(node)}: {what} must be finite, not NaN or infinite")
    offset = found.constant(node, what, given["bias"], count).to(gain.device)
    weight, bias = step.weight * gain[:, None, None, None], offset + gain * (step.bias - mean)
    return found.put(node, replace(step, weight=weight, bias=bias))


def _result(found: Lowering, node: fx.Node) -> Map:
    """The first result of an operator that has several."""
    source = found.map(node)
    if node.args[1] != 0:
        raise ValueError(
            f"{found.location(node)}: only the first result of {node.args[0]} can be read, not {node.args[1]}"
        )
    found.nodes[source.name] = node
    return source


def _relu(found: Lowering, node: fx.Node) -> Map:
    return found.put(node, replace(found.fusable(node, "ReLU", ("conv", "depthwise", "linear", "add")), relu=True))


def _add(found: Lowering, node: fx.Node) -> Map:
    owner, _ = found.exported.module(node)
    location, given = f"{owner}.add" if owner else node.name, arguments(node)
    if any(given[name] not in found.maps for name in ("self", "other")):
        raise ValueError(f"{location}: an addition must be of two maps")
    if given["alpha"] != 1:
        raise ValueError(
            f"{location}: an addition's alpha must be 1, not {given['alpha']}: multiply the map by it before"
        )
    maps = [found.whole(node, "an addition", number, turned=True) for number in (0, 1)]
    return added(found, node, maps, location)


def added(found: Lowering, node: fx.Node, maps: Sequence[Map], location: str) -> Map:
    """The sum of two maps; ``location`` is what an error calls it."""
    names = (maps[0].name, maps[1].name)
    shapes = [found.shape(name) for name in names]
    if shapes[0] != shapes[1] or maps[0].order != maps[1].order:
        raise ValueError(f"{location}: operands must have equal shapes, not {shapes[0]} and {shapes[1]}")
    step = GraphStep(kind="add", name=found.name(node, "add"), inputs=names, shape=shapes[0])
    return replace(found.put(node, step), order=maps[0].order)


def _winners(found: Lowering, node: fx.Node) -> Map:
    """Where the winners of a map are."""
    source, given = found.map(node), arguments(node)
    if not source.plain:
        raise ValueError(f"{found.location(node)}: winners must be of a map as it is, not padded or chosen twice")
    select = Select(kind=given["kind"], count=given["count"], channels=tuple(given["channels"]))
    return replace(source, mask=select)


def _product(found: Lowering, node: fx.Node) -> Map:
    """A map times where its winners are."""
    operands = [operand for operand in node.args if isinstance(operand, fx.Node) and operand in found.maps]
    maps = [found.maps[operand] for operand in operands]
    if any(operand.target == _WINNERS and found.is_unknown(operand) for operand in operands):
        raise UnknownError
    masks = [each for each in maps if each is not None and each.mask is not None]
    plain = [each for each in maps if each is not None and each.plain]
    if len(masks) != 1 or [each.name for each in plain] != [masks[0].name]:
        raise ValueError(f"{found.location(node)}: a product must be of a map and its own winners")
    return Map(masks[0].name, sole=False, select=masks[0].mask)


def _view(found: Lowering, node: fx.Node) -> Map:
    """The same values in the same order; :meth:`Lowering.layout` says how they lie."""
    source, values = found.map(node), found.exported.values
    if source.pads != NO_PADS or len(values[node]) != len(values[found.exported.image]):
        raise ValueError(f"{found.location(node)}: a view must be of each image's map by itself, without padding")
    return source


def _pad(found: Lowering, node: fx.Node) -> Map:
    if is_unreached(node):
        return found.map(node)  # The max pools that read it say so.
    given, source = arguments(node), found.map(node)
    sizes, mode = given["pad"], given.get("mode", "constant")
    left, right, top, bottom = (*sizes, 0, 0, 0, 0)[:4]
    convolved = all(user.target in CONVOLUTIONS for user in node.users)
    usual = mode == "constant" and not given["value"] and len(sizes) <= 4 and min(sizes) >= 0
    if not convolved or not usual or source.mask or source.order != FIRST:
        raise ValueError(
            f"{found.location(node)}: padding must add rows and columns of zeros before a convolution, "
            f"not {tuple(sizes)} of {mode} {given['value'] or 0}"
        )
    return replace(source, pads=_together(source.pads, (top, bottom, left, right)))


def _exit(found: Lowering, node: fx.Node) -> None:
    """Note what the network returns."""
    source = found.maps.get(node)
    if node in found.maps and found.is_unknown(node):
        return
    step = None if source is None or not source.plain else found.steps.get(source.name)
    if step is None or step.kind != "linear" or step.relu:
        found.refuse(node, f"{source.name if source else node}: an exit must be a Linear without ReLU")
        return
    found.exits.append(step.name)


_ATEN, _WINNERS = torch.ops.aten, OPERATOR
#: What no user writes.
_INNER = {
    "_adaptive_avg_pool2d", "_log_softmax", "_softmax", "_to_copy", "_unsafe_view", "addmm", "choose_qparams",
    "choose_qparams_symmetric", "constant_pad_nd", "convolution", "getitem", "max_pool2d_with_indices", "mm", "mul",
    "refused", "to", "winners",
}  # fmt: skip
#: Convolutions, as modules call them, and as one operator, which decompositions make of them.
CONVOLUTIONS = (
    _ATEN.conv2d.default, _ATEN.conv2d.padding, _ATEN.conv1d.default, _ATEN.conv1d.padding, _ATEN.convolution.default,
)  # fmt: skip
#: The rule of each operator.
OPERATORS: dict[Any, Rule] = {
    **dict.fromkeys(CONVOLUTIONS, _conv),
    _ATEN.linear.default: _linear,
    _ATEN.batch_norm.default: _norm,
    _ATEN._native_batch_norm_legit_no_training.default: _norm,
    _ATEN._native_batch_norm_legit.no_stats: _norm,
    operator.getitem: _result,
    _ATEN.relu.default: _relu,
    _ATEN.add.Tensor: _add,
    _ATEN.pad.default: _pad,
    _ATEN.constant_pad_nd.default: _pad,
    **dict.fromkeys(
        (_ATEN.adaptive_avg_pool2d.default, _ATEN._adaptive_avg_pool2d.default, _ATEN.adaptive_avg_pool1d.default),
        global_pool,
    ),
    _ATEN.adaptive_max_pool2d.default: largest,
    _ATEN.mean.dim: mean,
    _ATEN.amax.default: maximum,
    **dict.fromkeys((_ATEN.avg_pool2d.default, _ATEN.avg_pool1d.default), average_pool),
    **dict.fromkeys(MAX_POOLS, max_pool),
    _WINNERS: _winners,
    _ATEN.mul.Tensor: _product,
    **dict.fromkeys(
        (
            _ATEN.view.default, _ATEN._unsafe_view.default, _ATEN.reshape.default, _ATEN.flatten.using_ints,
            _ATEN.unsqueeze.default, _ATEN.squeeze.dims, _ATEN.squeeze.dim,
        ),
        _view,
    ),
}  # fmt: skip
