"""What an ONNX graph ends in that doesn't change which class is the largest: it is left out, and said so."""

from collections.abc import Sequence
from dataclasses import replace

from models.frontends.onnx.file import MICROSOFT, OnnxGraph, OnnxNode

__all__ = ["needed", "without_tail"]

#: Operators that keep the order of the classes.
_ORDERED = (
    "Softmax", "LogSoftmax", "Sigmoid", "Tanh", "ArgMax", f"{MICROSOFT}.QLinearSoftmax", f"{MICROSOFT}.QLinearSigmoid",
)  # fmt: skip
#: What may stand among them.
_PASSING = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear")


def without_tail(graph: OnnxGraph) -> tuple[OnnxGraph, tuple[str, ...]]:
    """The graph whose outputs are logits, and a sentence for each output that was another.

    Softmax, LogSoftmax, Sigmoid, Tanh and ArgMax over the classes are left out with all that follows them, where they
    are the last that computes. Twice the same output becomes one.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs}
    outputs, notes = list[str](), list[str]()
    for output in graph.outputs:
        name, dropped = _logits(output, makers)
        if dropped:
            notes.append(f"output {output}: {', '.join(map(str, dropped))} left out, the order of the classes stays")
        if name in outputs:
            notes.append(f"output {output}: left out, it is another one's")
        else:
            outputs.append(name)
    return needed(replace(graph, outputs=tuple(outputs))), tuple(notes)


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
    if node.operator.endswith(("Sigmoid", "Tanh")):
        return True
    default = 0 if node.operator == "ArgMax" else -1
    return node.attributes.get("axis", default) in (1, -1)
