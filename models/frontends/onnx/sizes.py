"""What of an ONNX graph depends on no image: constants that nodes compute, and sizes that a Reshape reads.

Both are computed with the reference implementation in the package ``onnx``, whose results are small by what is checked
before.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hw.rules import first_line
from models.frontends.onnx.file import OnnxNode
from models.frontends.onnx.sites import RefusalError

__all__ = ["FOLDED", "SizesEvaluator"]

#: Operators whose results are computed from constants, or from the sizes of maps.
FOLDED = frozenset((
    "Add", "Cast", "Clip", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Identity", "Mul", "Neg",
    "QuantizeLinear", "ReduceProd", "Reciprocal", "Reshape", "Shape", "Size", "Slice", "Sqrt", "Squeeze", "Sub",
    "Transpose", "Unsqueeze", "Where", "Flatten", "Range",
))  # fmt: skip
_MOST = 1 << 26  # elements of a result


class SizesEvaluator:
    """Computes nodes whose inputs are arrays.

    Parameters
    ----------
    opset : int
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self._made: dict[str, Any] = {}

    def __call__(self, node: OnnxNode, arrays: Sequence[np.ndarray | None]) -> np.ndarray:
        """The first result of a node.

        Raises
        ------
        RefusalError
            When it can't be computed, or is too large.
        """
        if any(node.outputs[1:]):
            raise RefusalError(f"{node}: it must have one output where it computes sizes or constants")
        with np.errstate(all="ignore"):
            try:
                size = _size(node, arrays)
                if size > _MOST:
                    raise RefusalError(f"{node}: a result must have at most {_MOST} elements, not {size}")
                found = np.asarray(self._evaluator(node).run(None, self._feeds(node, arrays))[0])
            except RefusalError:
                raise
            except Exception as error:  # The reference implementation raises whatever NumPy does, and more.
                raise RefusalError(f"{node}: its constant inputs must fit, but: {first_line(error)}") from error
        if found.size > _MOST or found.dtype.kind not in "fiub":
            raise RefusalError(f"{node}: a result must be of at most {_MOST} numbers, not {found.size} {found.dtype}")
        return found.astype(np.float32) if found.dtype.kind == "f" else found

    def _feeds(self, node: OnnxNode, arrays: Sequence[np.ndarray | None]) -> Mapping[str, np.ndarray]:
        return {name: array for name, array in zip(node.inputs, arrays, strict=True) if array is not None}

    def _evaluator(self, node: OnnxNode) -> Any:
        import onnx
        from onnx.reference import ReferenceEvaluator

        if node.outputs[0] not in self._made:
            tensors = {
                key: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
                for key, value in node.attributes.items()
            }
            proto = onnx.helper.make_node(node.operator, list(node.inputs), list(node.outputs), **tensors)
            graph = onnx.GraphProto(node=[proto])
            graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.inputs) if name)
            graph.output.add(name=node.outputs[0])
            self._made[node.outputs[0]] = ReferenceEvaluator(graph, opsets={"": self.opset})
        return self._made[node.outputs[0]]


def _size(node: OnnxNode, arrays: Sequence[np.ndarray | None]) -> int:
    """At most so many elements a result will have."""
    given = [array for array in arrays if array is not None]
    if node.operator == "ConstantOfShape":
        return math.prod(int(n) for n in given[0].reshape(-1))
    if node.operator == "Expand":
        return math.prod(np.broadcast_shapes(given[0].shape, tuple(int(n) for n in given[1].reshape(-1))))
    if node.operator == "Gather":
        return given[0].size * given[1].size
    if node.operator == "Range":
        start, end, step = (float(array.item()) for array in given)
        return max(0, math.ceil((end - start) / step))
    if node.operator == "Concat":
        return sum(array.size for array in given)
    if node.operator in ("Add", "Sub", "Mul", "Div", "Equal", "Where"):
        return math.prod(np.broadcast_shapes(*(array.shape for array in given)))
    return max((array.size for array in given), default=0)
