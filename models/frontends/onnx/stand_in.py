"""What stands for a node that was refused, so that what follows it is looked at as well."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.frontends.onnx.file import OnnxNode
from models.frontends.onnx.module import OnnxModule
from models.frontends.refused import refused

__all__ = ["OnnxRefusalError", "StandIn"]


class OnnxRefusalError(ValueError):
    """Nodes of a file can't be followed; the message names all that were found.

    Attributes
    ----------
    reasons : tuple of str
    module : OnnxModule
        The network with stand-ins for them: what lowers it finds these reasons, and others of its own.
    """

    def __init__(self, path: Path | str, reasons: Sequence[str], module: OnnxModule) -> None:
        super().__init__(f"{path}: {'; '.join(reasons)}")
        self.reasons, self.module = tuple(reasons), module


class StandIn(nn.Module):
    """Zeros of the sizes that a node's result has.

    Parameters
    ----------
    node : OnnxNode
    reason : str
        Why it was refused.
    opset : int
    constants : dict of str to array
        Those that the node reads.
    """

    def __init__(self, node: OnnxNode, reason: str, opset: int, constants: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.node, self.reason, self.opset, self.constants = node, reason, opset, constants

    def forward(self, *maps: Any) -> torch.Tensor:
        first = maps[0]
        result: torch.Tensor = refused(first, self._sizes([list(each.shape) for each in maps]), self.reason)
        return result

    def _sizes(self, maps: list[list[int]]) -> list[int]:
        """Of one image's result, as ONNX's own inference has them.

        Raises
        ------
        ValueError
            When it has none.
        """
        import onnx

        types, left = {}, iter(maps)
        names = list(dict.fromkeys(name for name in self.node.inputs if name))
        for name in names:
            if name in self.constants:
                kind = onnx.helper.np_dtype_to_tensor_dtype(self.constants[name].dtype)
                types[name] = onnx.helper.make_tensor_type_proto(kind, self.constants[name].shape)
            else:
                types[name] = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, next(left))
        values = {name: onnx.numpy_helper.from_array(self.constants[name]) for name in names if name in self.constants}
        attributes = {
            key: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            for key, value in self.node.attributes.items()
        }
        try:
            schema = onnx.defs.get_schema(self.node.operator, self.opset)
            proto = onnx.helper.make_node(
                self.node.operator, list(self.node.inputs), list(self.node.outputs), **attributes
            )
            found = onnx.shape_inference.infer_node_outputs(
                schema, proto, types, values, opset_imports=[onnx.helper.make_opsetid("", self.opset)]
            )
            sizes = [size.dim_value for size in found[self.node.outputs[0]].tensor_type.shape.dim]
        except Exception as error:  # ONNX's have no common type.
            raise ValueError(f"{self.node}: its sizes can't be told") from error
        if len(sizes) < 2 or min(sizes) < 1 or sizes[0] != maps[0][0]:
            raise ValueError(f"{self.node}: its sizes can't be told")
        return sizes[1:]
