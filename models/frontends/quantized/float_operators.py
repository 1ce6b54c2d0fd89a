"""A float network of any style becomes steps in float that :func:`import_quantized` can follow once quantized.

Beside what quantized programs have, there are batch norms and other constants by channel anywhere, what moves and pads
values, shared modules, and types of floating point: all of it becomes steps with weights, or part of them.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from hw.network.network import INPUT
from models.frontends.identities import MAX_OUTPUTS
from models.frontends.pytorch.exported import Exported, arguments
from models.frontends.pytorch.guard import compare
from models.frontends.pytorch.lowering import Lowering, Map
from models.frontends.pytorch.operators import CONVOLUTIONS, OPERATORS, Rule, apply
from models.frontends.pytorch.steps import Graph, GraphStep, compute
from models.frontends.quantized import moves
from models.frontends.quantized.affine import number, scaled
from models.frontends.quantized.lowering import QuantizedLowering, QuantizedStep, put
from models.frontends.quantized.operators import OPERATOR_RULES, as_linear, clamp_bounds, product

__all__ = ["computed", "float_steps"]

_DIMENSIONS = (2, 3, 1)  # of a tensor (images, channels, height, width), by a map's axes


@dataclass(kw_only=True)
class FloatLowering(QuantizedLowering):
    """The steps so far, of a network whose modules may be called several times."""

    def weights(self, node: fx.Node, weight: Any, bias: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and biases of an operator."""
        found = self.constant(node, "weights", weight)
        return found, self.constant(node, "biases", bias, len(found)).to(found.device)


def float_steps(exported: Exported) -> Graph:
    """The steps of a network; what comes out has been compared with it, in float on a few random images.

    Returns
    -------
    Graph
        ``exits`` are the steps that the network returns, without what only keeps the order of values behind them.

    Raises
    ------
    ValueError
        When an operator can't be followed: the message gives all reasons, and the lines of the network's own code.
    """
    found = FloatLowering(exported=exported, maps={exported.image: Map(INPUT)})
    apply(found, _RULES)
    for node in exported.logits:
        _exit(found, node)
    for step in found.steps.values():
        for name in step.inputs:
            if name in found.steps and found.steps[name].kind == "monotone" != step.kind:
                node = found.nodes[name]
                what = f"{found.location(node)}: {node.name} must be at the end of a network"
                found.refuse(node, f"{what}: within it Hardsigmoid and Hardtanh are the nearest")
    if found.problems:
        raise ValueError("; ".join(found.problems))
    graph = Graph(shape=exported.shape, steps=tuple(map(_affine, found.steps.values())), exits=tuple(found.exits))
    compare(graph, found, computed)
    return _without_order(graph)


def computed(
    step: GraphStep,
    operands: Sequence[torch.Tensor],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """What a step makes of its operands; parameters are those of :func:`models.frontends.pytorch.steps.compute`."""
    if isinstance(step, QuantizedStep) and step.kind == "concat":
        return torch.cat(list(operands), _DIMENSIONS[step.axis])
    if step.kind == "affine":
        assert weight is not None
        assert bias is not None
        return operands[0] * weight[:, 0] + bias[:, None, None]
    if step.kind == "clip":
        assert isinstance(step, QuantizedStep)
        return operands[0].clamp(*step.bounds)
    return compute(step, operands, weight, bias)


def _affine(step: GraphStep) -> GraphStep:
    """A gain and an offset for each channel as a weight and a bias; any other step as it is."""
    if not isinstance(step, QuantizedStep) or step.kind != "affine":
        return step
    assert step.gain is not None
    return replace(step, weight=step.gain[:, None, None, None], bias=step.offset)


def _without_order(graph: Graph) -> Graph:
    """The graph without what only keeps the order of values at its end."""
    steps = {step.name: step for step in graph.steps}
    exits = []
    for name in graph.exits:
        step = steps[name]
        while step.kind == "monotone":
            step = steps[step.inputs[0]]
        exits.append(step.name)
    shapes = {INPUT: graph.shape} | {step.name: step.shape for step in graph.steps}
    kept = tuple(as_linear(step, shapes[step.inputs[0]]) for step in graph.steps if step.kind != "monotone")
    return Graph(shape=graph.shape, steps=kept, exits=tuple(exits))


def _exit(found: Lowering, node: fx.Node) -> None:
    """Note what the network returns."""
    source = found.maps.get(node)
    if node in found.maps and found.is_unknown(node):
        return
    if source is not None and source.name == INPUT and source.plain:
        found.refuse(node, f"{node.name}: an output must be computed by a layer, not be the image itself")
        return
    if source is None or source.name == INPUT or not source.plain:
        found.refuse(
            node, f"{node.name}: an output must be computed from the image, with channels first, without padding"
        )
        return
    count = math.prod(found.shape(source.name))
    if found.steps[source.name].kind != "linear" and count > MAX_OUTPUTS:
        found.refuse(node, f"{source.name}: a network's output must have at most {MAX_OUTPUTS} values, not {count}")
    found.exits.append(source.name)


def _pad(found: Lowering, node: fx.Node) -> Map:
    """Zeros before a convolution, or that a convolution of its own adds."""
    given = arguments(node)
    if given.get("mode", "constant") != "constant" or given["value"]:
        return OPERATORS[node.target](found, node)  # says so
    convolved = all(user.target in CONVOLUTIONS for user in node.users)
    simple = convolved and len(given["pad"]) <= 4 and min(given["pad"]) >= 0
    return OPERATORS[node.target](found, node) if simple else moves.move(found, node)


def _clamp(found: QuantizedLowering, node: fx.Node) -> Map:
    """A clamp. What a layer computes is clamped to a range with 0 in it: one without is moved there, and back."""
    low, high = clamp_bounds(found, node)
    nearest = max(low, 0.0) + min(high, 0.0)  # one of them is 0
    if not nearest:
        return OPERATOR_RULES[_ATEN.clamp.default](found, node)
    moved = scaled(found, node, node.args[0], number(1.0), number(-nearest))
    bounds = (low - nearest, high - nearest)
    clip = put(found, node, "clip", (moved.name,), order=moved.order, bounds=bounds)
    for inner in (moved, clip):
        found.nodes.pop(inner.name)  # The node's value is that of the sum alone.
    offset = number(nearest).expand(found.shape(clip.name)[2])
    gain = torch.ones_like(offset)
    return put(found, node, "affine", (clip.name,), order=clip.order, gain=gain, offset=offset)


def _cast(found: Lowering, node: fx.Node) -> Map:
    """A map in another type of floating point, or on another device."""
    if not found.exported.values[node].is_floating_point():
        raise ValueError(f"{found.location(node)}: a map must stay of floating point, not become {node.name}")
    return found.map(node)


_ATEN = torch.ops.aten
_CLAMPS = (
    _ATEN.clamp.default, _ATEN.clamp.Tensor, _ATEN.clamp_min.default, _ATEN.clamp_max.default, _ATEN.hardtanh.default,
)  # fmt: skip
_RULES: dict[Any, Rule] = {
    **{target: rule for target, rule in OPERATOR_RULES.items() if "quantized_decomposed" not in str(target)},
    **dict.fromkeys((_ATEN.mm.default, _ATEN.matmul.default, _ATEN.addmm.default), product),
    **{target: OPERATORS[target] for target in (*CONVOLUTIONS, _ATEN.linear.default)},
    **dict.fromkeys(_CLAMPS, _clamp),
    **dict.fromkeys((_ATEN.pad.default, _ATEN.constant_pad_nd.default), _pad),
    **dict.fromkeys(moves.MOVES, moves.move),
    operator.getitem: moves.part,
    **dict.fromkeys((_ATEN.to.dtype, _ATEN.to.dtype_layout, _ATEN.to.device, _ATEN._to_copy.default), _cast),
}
