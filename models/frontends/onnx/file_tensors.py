"""The tensors of an ONNX file that operators of its exported module compute, and their values as these have them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from models.frontends.onnx.layout import inverse
from models.frontends.onnx.module import OnnxModule
from models.frontends.onnx.proto import open_model

__all__ = ["file_tensors", "module_values"]


def file_tensors(
    path: Path | str, module: OnnxModule, program: ExportedProgram, nodes: Mapping[str, str]
) -> dict[str, str]:
    """The file's tensors that operators compute, by the names that those have.

    Tensors that the file doesn't have are left out, and rows of values that it has in another order.

    Parameters
    ----------
    module : OnnxModule
        What has been read from the file.
    program : ExportedProgram
        The module, exported.
    nodes : dict of str to str
        Operators of the program, by any names.
    """
    last = {}  # operator of each child
    for node in program.graph.nodes:
        stack = [where for where, _ in (node.meta.get("nn_module_stack") or {}).values()]
        if node.op == "call_function" and stack:
            last[stack[-1].partition(".")[0]] = node.name
    made = {last[step.child]: step.output for step in module.program.steps if step.child in last}
    written = {name for node in open_model(Path(path)).graph.node for name in node.output}
    written -= module.program.layouts.rows.keys()
    found = {name: made[node] for name, node in nodes.items() if node in made}
    return {name: tensor for name, tensor in found.items() if tensor in written}


def module_values(module: OnnxModule, tensor: str, values: np.ndarray) -> torch.Tensor:
    """What a tensor of the file has, with its axes as the module has them."""
    order = module.program.layouts.orders.get(tensor, range(values.ndim))
    return torch.from_numpy(np.ascontiguousarray(values.transpose(inverse(order))))
