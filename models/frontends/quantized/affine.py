"""Operators of a quantized program that multiply maps by constants and add constants to them.

Behind a layer with weights, before anything is rounded, they become part of it: weights stay the same integers, or
change their sign, and their scales change. Of a map that has been quantized they are a step of their own.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from models.frontends.pytorch.exported import arguments
from models.frontends.pytorch.lowering import LAST, Map
from models.frontends.pytorch.operators import OPERATORS, added
from models.frontends.quantized.lowering import QuantizedLowering, QuantizedStep, plain, put

__all__ = ["AFFINE", "number", "scaled"]


def number(value: float) -> torch.Tensor:
    """One for all channels, float32 (1,), whatever the process's default type and device."""
    return torch.tensor([value], dtype=torch.float32, device="cpu")


def scaled(found: QuantizedLowering, node: fx.Node, operand: Any, gain: torch.Tensor, offset: torch.Tensor) -> Map:
    """A map with a gain and an offset for each channel, or one in all."""
    source = plain(found, node, operand, turned=True)
    step, channels = found.steps.get(source.name), found.shape(source.name)[2]
    gain, offset = gain.expand(channels), offset.expand(channels)
    alone = len(operand.users) == 1
    if alone and step is not None and step.kind in ("conv", "depthwise", "linear"):
        assert step.weight is not None
        assert step.bias is not None
        if step.name in found.scales:
            found.moved.discard(step.name)
            found.scales[step.name] = found.scales[step.name] * torch.where(gain == 0, 1, gain.abs().double())
        weight, bias = step.weight * gain[:, None, None, None], step.bias * gain + offset
        return replace(found.put(node, replace(step, weight=weight, bias=bias)), order=source.order)
    if alone and isinstance(step, QuantizedStep) and step.kind == "affine":
        assert step.gain is not None
        assert step.offset is not None
        made = found.put(node, replace(step, gain=step.gain * gain, offset=step.offset * gain + offset))
        return replace(made, order=source.order)
    return put(found, node, "affine", (source.name,), order=source.order, gain=gain, offset=offset)


def _norm(found: QuantizedLowering, node: fx.Node) -> Map:
    given, what = arguments(node), "batch norm parameters"
    if given.get("training", False) or given.get("running_mean") is None:
        raise ValueError(f"{found.location(node)}: a batch norm must keep running statistics")
    plain(found, node, given["input"])
    mean, variance = (found.constant(node, what, given[name]) for name in ("running_mean", "running_var"))
    gain = torch.rsqrt(variance + given["eps"])
    if given["weight"] is not None:
        gain = gain * found.constant(node, what, given["weight"])
    return scaled(found, node, given["input"], gain, found.constant(node, what, given["bias"], len(gain)) - mean * gain)


def _with_constant(make: Callable[[torch.Tensor, bool], tuple[torch.Tensor, torch.Tensor] | None]) -> Any:
    """A rule of an operator on a map and a constant: gain and offset from the constant, and whether it comes first."""

    def rule(found: QuantizedLowering, node: fx.Node) -> Map:
        given = arguments(node)
        first, second = given["self"], given["other"]
        if first in found.maps and second in found.maps and node.target == _ATEN.add.Tensor:
            if first is second and given["alpha"] == 1:
                return scaled(found, node, first, number(2.0), number(0.0))
            return OPERATORS[node.target](found, node)
        if first in found.maps and second in found.maps and node.target in _DIFFERENCES:
            return _less(found, node)
        if (first in found.maps) == (second in found.maps) or given.get("alpha", 1) != 1:
            two = _of_two_maps(found, node, first, second) if first in found.maps and second in found.maps else ""
            raise ValueError(f"{found.location(node)}: {two or f'{node.name} must be of a map and constants'}")
        operand, constant = (first, second) if first in found.maps else (second, first)
        made = make(_channels(found, node, constant), operand is second)
        if made is None:
            raise ValueError(f"{found.location(node)}: {node.name} must divide a map by constants other than 0")
        return scaled(found, node, operand, *made)

    return rule


def _negative(found: QuantizedLowering, node: fx.Node) -> Map:
    return scaled(found, node, node.args[0], number(-1.0), number(0.0))


def _less(found: QuantizedLowering, node: fx.Node) -> Map:
    """A map less another one: their sum, once that one has another sign."""
    location, alpha = found.location(node), arguments(node).get("alpha", 1)
    if alpha != 1:
        raise ValueError(f"{location}: a difference's alpha must be 1, not {alpha}: multiply the map by it before")
    numbers = _DIFFERENCES[node.target]
    first, second = (found.whole(node, "a difference", each, turned=True) for each in numbers)
    gain, offset = number(-1.0), number(0.0)
    if first.name == second.name:
        gain = gain.expand(found.shape(second.name)[2])
        made = put(
            found, node, "affine", (second.name,), order=second.order, gain=gain, offset=offset.expand(len(gain))
        )
    else:
        made = scaled(found, node, node.args[numbers[1]], gain, offset)
    found.nodes.pop(made.name)  # The node's value is that of the sum alone.
    return added(found, node, (first, made), location)


def _of_two_maps(found: QuantizedLowering, node: fx.Node, first: Any, second: Any) -> str:
    """What a product or quotient of two maps is called, and what is nearest to it."""
    roots = [_root(found, found.operand(node, each).name) for each in (first, second)]
    gates = {kind for _, kinds in roots for kind in kinds}
    if node.target == _ATEN.mul.Tensor and roots[0][0] == roots[1][0] and gates:
        name = "Hardswish" if "clip" in gates else "SiLU"
        return f"{name} isn't among the operators: ReLU and ReLU6 are the nearest"
    if node.target == _ATEN.mul.Tensor:
        gate = "squeeze-and-excitation and other gates"
        return f"{node.name} must be of a map and constants, not of two maps as in {gate}: leave the gate out"
    return f"{node.name} must be of a map and constants, not of two maps: their sum is the nearest"


def _root(found: QuantizedLowering, name: str) -> tuple[str, set[str]]:
    """What a map is a function of, value by value, and whether that clamps it to 0..1 or is a sigmoid: its kinds."""
    kinds = set[str]()
    while isinstance(step := found.steps.get(name), QuantizedStep) and len(step.inputs) == 1:
        if step.kind == "monotone" or (step.kind == "clip" and step.bounds == (0.0, 1.0)):
            kinds.add(step.kind)
        name = step.inputs[0]
    return name, kinds


def _channels(found: QuantizedLowering, node: fx.Node, constant: Any) -> torch.Tensor:
    """A constant, one for each channel or one in all."""
    if not isinstance(constant, fx.Node):
        return number(float(constant))
    values = found.constant(node, "constants", constant)
    shape = found.exported.values[node].shape
    sizes = (*[1] * (len(shape) - values.ndim), *values.shape)
    channel = len(shape) - 1 if _operand(found, node).order == LAST else 1
    others = any(size != 1 for axis, size in enumerate(sizes) if axis != channel)
    if others or (len(shape) == 2 and not _flat(found, node)):
        raise ValueError(f"{found.location(node)}: constants must be one for each channel, not {tuple(values.shape)}")
    return values.flatten()


def _flat(found: QuantizedLowering, node: fx.Node) -> bool:
    """Whether a vector is a map of one position, whose values are its channels."""
    return found.shape(_operand(found, node).name)[:2] == (1, 1)


def _operand(found: QuantizedLowering, node: fx.Node) -> Map:
    """The only map that an operator reads."""
    (operand,) = [each for each in node.all_input_nodes if each in found.maps]
    return found.operand(node, operand)


def _quotient(constant: torch.Tensor, first: bool) -> tuple[torch.Tensor, torch.Tensor] | None:
    return None if first or not constant.all() else (1 / constant, number(0.0))


def _difference(constant: torch.Tensor, first: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return (number(-1.0), constant) if first else (number(1.0), -constant)


_ATEN = torch.ops.aten
#: Operators that subtract one map from another: the numbers of the two operands.
_DIFFERENCES: dict[Any, tuple[int, int]] = {_ATEN.sub.Tensor: (0, 1), _ATEN.rsub.Tensor: (1, 0)}
#: The rule of each of these operators.
AFFINE: dict[Any, Callable[[QuantizedLowering, fx.Node], Map]] = {
    **dict.fromkeys((target for target in OPERATORS if "batch_norm" in str(target)), _norm),
    _ATEN.add.Tensor: _with_constant(lambda constant, _: (number(1.0), constant)),
    _ATEN.sub.Tensor: _with_constant(_difference),
    **dict.fromkeys(  # these subtract their first operand from their second
        (_ATEN.rsub.Scalar, _ATEN.rsub.Tensor), _with_constant(lambda constant, first: _difference(constant, not first))
    ),
    _ATEN.neg.default: _negative,
    _ATEN.mul.Tensor: _with_constant(lambda constant, _: (constant, number(0.0))),
    _ATEN.div.Tensor: _with_constant(_quotient),
}
