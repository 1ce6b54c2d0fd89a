"""What an ONNX graph ends in that doesn't change which class is the largest: it is left out, and said so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.frontends.onnx.file import MICROSOFT, OnnxGraph, OnnxNode
from models.frontends.onnx.sizes import SizesEvaluator

__all__ = ["Tail", "needed", "without_tail"]

#: Operators that keep the order of the classes.
_ORDERED = (
    "Softmax", "LogSoftmax", "Sigmoid", "Tanh", "ArgMax", f"{MICROSOFT}.QLinearSoftmax", f"{MICROSOFT}.QLinearSigmoid",
)  # fmt: skip
#: What may stand among them.
_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_PASSING = (*_RESHAPING, "Identity", "Cast", "QuantizeLinear", "DequantizeLinear")
#: Opset from which on a softmax is over one axis, and not over all from that on.
_ONE_AXIS = 13


@dataclass(frozen=True, kw_only=True)
class Tail:
    """What is left out behind logits.

    Parameters
    ----------
    logits : str
        The tensor.
    nodes : tuple of OnnxNode
        In order; the first reads the logits.
    graph : OnnxGraph
        With the nodes.
    """

    logits: str
    nodes: tuple[OnnxNode, ...]
    graph: OnnxGraph

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse logits (images, ...) whose order it doesn't keep.

        Raises
        ------
        ValueError
            When a node is over some of an image's values, such as those of one row, or over axes that aren't known.
        """
        sizes: tuple[int, ...] | None = shape
        for node in self.nodes:
            if node.operator in _ORDERED and not _has_no_axis(node):
                if sizes is None or _count(node, sizes, self.graph.opset) != math.prod(sizes[1:]):
                    said = "sizes that aren't known" if sizes is None else list(sizes[1:])
                    raise ValueError(
                        f"{node} at the end must be over all values of an image together, not over axis "
                        f"{_axis(node, self.graph.opset)} of {said}: leave it out"
                    )
                if node.operator == "ArgMax":
                    return
            elif node.operator in _RESHAPING:
                arrays = [self.graph.constants.get(name) for name in node.inputs[1:]]
                if sizes is None or any(each is None for each in arrays):
                    sizes = None
                else:
                    values = np.zeros(sizes, dtype=np.float32)
                    sizes = SizesEvaluator(self.graph.opset)(node, [values, *arrays]).shape


def without_tail(graph: OnnxGraph) -> tuple[OnnxGraph, tuple[str, ...], tuple[Tail, ...]]:
    """The graph whose outputs are logits, a sentence for each output that was another, and what was left out.

    Softmax, LogSoftmax, Sigmoid, Tanh and ArgMax over the classes are left out with all that follows them, where they
    are the last that computes. Twice the same output becomes one.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs}
    outputs, notes, tails = list[str](), list[str](), list[Tail]()
    for output in graph.outputs:
        name, dropped = _logits(output, makers)
        if dropped:
            tails.append(Tail(logits=name, nodes=tuple(dropped), graph=graph))
            notes.append(f"output {output}: {', '.join(map(str, dropped))} left out, the order of the classes stays")
        if name in outputs:
            notes.append(f"output {output}: left out, it is another one's")
        else:
            outputs.append(name)
    return needed(replace(graph, outputs=tuple(outputs))), tuple(notes), tuple(tails)


def needed(graph: OnnxGraph) -> OnnxGraph:
    """The graph without nodes that no output needs."""
    wanted, nodes = set(graph.outputs), list[OnnxNode]()
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            nodes.append(node)
    return replace(graph, nodes=tuple(reversed(nodes)))


def _logits(output: str, makers: dict[str, OnnxNode]) -> tuple[str, Sequence[OnnxNode]]:
    """The tensor before the first operator that only orders classes, and what is left out behind it."""
    name, passed, dropped = output, list[OnnxNode](), list[OnnxNode]()
    found = name
    while name in makers:
        node = makers[name]
        ordered = node.operator in _ORDERED and _over_classes(node)
        if not (ordered or node.operator in _PASSING) or node.outputs[0] != name or not node.inputs:
            break
        name = node.inputs[0]
        passed.insert(0, node)
        if ordered:
            found, dropped = name, list(passed)
    return found, dropped


def _over_classes(node: OnnxNode) -> bool:
    """Whether it is over the axis of the classes, the first behind that of images or the last, or over no axis."""
    return _has_no_axis(node) or _axis(node) in (1, -1)


def _has_no_axis(node: OnnxNode) -> bool:
    return node.operator.endswith(("Sigmoid", "Tanh"))


def _axis(node: OnnxNode, opset: int = _ONE_AXIS) -> int:
    default = 0 if node.operator == "ArgMax" else -1 if opset >= _ONE_AXIS else 1
    axis: int = node.attributes.get("axis", default)
    return axis


def _count(node: OnnxNode, sizes: tuple[int, ...], opset: int) -> int:
    """Over how many values of an image a node is."""
    axis = _axis(node, opset) % len(sizes)
    is_one_axis = node.operator == "ArgMax" or node.attributes.get("opset", opset) >= _ONE_AXIS
    return sizes[axis] if is_one_axis else math.prod(sizes[axis:])
