"""Maps whose channels come last, as TensorFlow's exporters write them, are turned: transpositions cancel.

The graph that comes out computes on maps with channels first. Where a transposition doesn't cancel before something
that depends on the layout, it stays; before a matrix of constant weights, their rows are turned instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.frontends.onnx.file import MICROSOFT, OnnxGraph, OnnxNode

__all__ = ["Layouts", "channels_first", "inverse", "is_channels_last"]

#: Operators of one map that work on each element alone.
_EACH = {
    "Relu", "Clip", "HardSigmoid", "Neg", "Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear",
    f"{MICROSOFT}.QuantizeLinear", f"{MICROSOFT}.DequantizeLinear",
}  # fmt: skip
_OVER = ("ReduceMax", "ReduceMean")
_PAIRS = {"Add", "Sub", "Mul", "Div"}
_LAST = {4: (0, 3, 1, 2), 3: (0, 2, 1)}  # what puts channels first, by the number of dimensions


@dataclass(frozen=True, kw_only=True)
class Layouts:
    """How tensors lie in the file: as what is computed, with its axes in another order.

    Attributes
    ----------
    orders : dict of str to tuple of int
        Of maps.
    rows : dict of str to str
        Rows of values, by the map of which they are in the file's order.
    """

    orders: dict[str, tuple[int, ...]] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The order that undoes another."""
    return tuple(int(index) for index in np.argsort(order))


def is_channels_last(graph: OnnxGraph) -> bool:
    """Whether all that reads the image puts its channels first."""
    names, found = [graph.input.name], False
    while names:
        name = names.pop()
        for node in graph.nodes:
            if name in node.inputs[:1]:
                if node.operator == "Transpose":
                    if node.attributes.get("perm") != _LAST.get(len(graph.input.sizes)):
                        return False
                    found = True
                elif node.operator in _EACH:
                    names.append(node.outputs[0])
                else:
                    return False
            elif name in node.inputs:
                return False
    return found


def channels_first(graph: OnnxGraph) -> tuple[OnnxGraph, Layouts]:
    """The graph with transpositions left out where they cancel, and how its tensors lie in the file."""
    if not any(node.operator == "Transpose" for node in graph.nodes):
        return graph, Layouts()
    turned = _Turned(graph)
    for node in graph.nodes:
        turned.add(node)
    outputs = tuple(map(turned.plain, graph.outputs))
    changed = replace(graph, nodes=tuple(turned.nodes), constants=turned.constants, outputs=outputs)
    return changed, turned.layouts


class _Turned:
    """The nodes so far."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.nodes: list[OnnxNode] = []
        self.constants = dict(graph.constants)
        self.layouts = Layouts()
        self.orders, self.rows = self.layouts.orders, self.layouts.rows
        self.taken = {name for node in graph.nodes for name in (*node.inputs, *node.outputs)} | {graph.input.name}
        if graph.input.is_channels_last:
            self.orders[graph.input.name] = inverse(_LAST[len(graph.input.sizes)])

    def add(self, node: OnnxNode) -> None:
        """Take a node, changed to the layout of what it reads."""
        first = node.inputs[0] if node.inputs else ""
        order, output = self.orders.get(first), node.outputs[0]
        if node.operator == "Transpose":
            self._transpose(node, first, output)
        elif first in self.rows and node.operator in _EACH:
            self.rows[output] = self.rows[first]
            self.nodes.append(node)
        elif first in self.rows and node.operator in ("MatMul", "Gemm") and not node.attributes.get("transA"):
            map_ = self.rows[first]
            attributes = {**node.attributes, "columns": self.orders[map_], "map": map_}
            self.nodes.append(replace(node, attributes=attributes))
        elif order is None and not any(name in self.orders or name in self.rows for name in node.inputs):
            self.nodes.append(node)
        elif order is not None and node.operator in _EACH:
            self._put(node, output, order)
        elif node.operator in _PAIRS and (changed := self._pair(node)):
            self._put(changed, output, next(self.orders[name] for name in node.inputs if name in self.orders))
        elif order is not None and node.operator == "Concat" and all(self.orders.get(n) == order for n in node.inputs):
            axis = node.attributes.get("axis", 1)
            self._put(replace(node, attributes={"axis": order[axis]}), output, order)
        elif order is not None and node.operator in _OVER and (axes := self._axes(node)):
            self._reduce(node, output, order, axes)
        elif order is not None and self._flattens(node):
            self.rows[output] = first
            self.nodes.append(replace(node, operator="Flatten", inputs=(first,), attributes={}))
        else:
            self.nodes.append(replace(node, inputs=tuple(map(self.plain, node.inputs))))

    def plain(self, name: str) -> str:
        """A tensor as it lies in the file: transposed where it must be."""
        source = self.rows.get(name, name)
        if source not in self.orders:
            return name
        output = self._unused(name)
        node = OnnxNode(
            operator="Transpose", name=output, inputs=(source,), outputs=(output,),
            attributes={"perm": self.orders[source]},
        )  # fmt: skip
        self.nodes.append(node)
        if name in self.rows:
            flat = self._unused(name)
            self.nodes.append(OnnxNode(operator="Flatten", name=flat, inputs=(output,), outputs=(flat,), attributes={}))
            return flat
        return output

    def _unused(self, name: str) -> str:
        """A new tensor's name."""
        found = next(new for n in range(len(self.taken) + 1) if (new := f"{name}.{n}") not in self.taken)
        self.taken.add(found)
        return found

    def _put(self, node: OnnxNode, output: str, order: Sequence[int]) -> None:
        self.nodes.append(node)
        if list(order) != sorted(order):
            self.orders[output] = tuple(order)

    def _transpose(self, node: OnnxNode, source: str, output: str) -> None:
        """A transposition is nothing but another order, unless it is of constants or moves the axis of images."""
        perm = node.attributes.get("perm")
        order = self.orders.get(source, None if perm is None else tuple(range(len(perm))))
        fits = perm is not None and order is not None and sorted(perm) == sorted(order) and perm[0] == 0
        if not fits or perm is None or order is None or source in self.constants or source in self.rows:
            self.nodes.append(replace(node, inputs=(self.plain(source), *node.inputs[1:])))
            return
        same = replace(node, operator="Identity", inputs=(source,), attributes={})
        self._put(same, output, [order[axis] for axis in perm])

    def _pair(self, node: OnnxNode) -> OnnxNode | None:
        """Arithmetic of maps in one order, or of a map and a constant, which is turned; None where it is of others."""
        orders = {self.orders.get(name) for name in node.inputs if name not in self.constants}
        if len(orders) != 1 or len(node.inputs) != 2 or None in orders:
            return None
        (order,) = orders
        assert order is not None
        names = list(node.inputs)
        for index, name in enumerate(node.inputs):
            if name in self.constants:
                values = self.constants[name]
                if values.ndim > len(order):
                    return None
                whole = values.reshape((1,) * (len(order) - values.ndim) + values.shape)
                names[index] = self._unused(name)
                self.constants[names[index]] = whole.transpose(inverse(order))
        return replace(node, inputs=tuple(names))

    def _axes(self, node: OnnxNode) -> list[int] | None:
        """Constant axes of a node, as an attribute or an input."""
        if "axes" in node.attributes:
            return list(node.attributes["axes"])
        values = self.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        return None if values is None else [int(axis) for axis in values.reshape(-1)]

    def _reduce(self, node: OnnxNode, output: str, order: tuple[int, ...], axes: list[int]) -> None:
        count = len(order)
        along = [axis + count if axis < 0 else axis for axis in axes]
        if not all(0 < axis < count for axis in along):
            self.nodes.append(replace(node, inputs=tuple(map(self.plain, node.inputs))))
            return
        name, attributes = self._unused("axes"), {key: n for key, n in node.attributes.items() if key != "axes"}
        turned = [order[axis] for axis in along]
        if "axes" in node.attributes:
            changed = replace(node, attributes={**attributes, "axes": tuple(turned)})
        else:
            self.constants[name] = np.array(turned, dtype=np.int64)
            changed = replace(node, inputs=(node.inputs[0], name))
        left = [axis for index, axis in enumerate(order) if index not in along]
        kept = bool(node.attributes.get("keepdims", 1))
        self._put(changed, output, order if kept else [sorted(left).index(axis) for axis in left])

    def _flattens(self, node: OnnxNode) -> bool:
        """Whether a node makes a row of values of each image."""
        if node.operator == "Flatten":
            return bool(node.attributes.get("axis", 1) == 1)
        sizes = self.constants.get(node.inputs[1]) if node.operator == "Reshape" and len(node.inputs) > 1 else None
        return sizes is not None and sizes.size == 2
