"""Takes an ONNX file apart into plain nodes and constants, believing nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hw.rules import require, shown
from models.frontends.onnx.proto import open_model

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

__all__ = ["MICROSOFT", "OnnxGraph", "OnnxInput", "OnnxNode", "parse"]

#: Domain of operators that ONNX Runtime's quantizer writes.
MICROSOFT = "com.microsoft"

_OLDEST = 7  # opset; before it, operators broadcast by attributes
_SIZES = 1 << 28  # every size of an image is below
_INPUTS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8")


@dataclass(frozen=True, kw_only=True)
class OnnxNode:
    """A node of the graph.

    Attributes
    ----------
    operator : str
        As in the file; before one of another domain stands its domain: ``com.microsoft.QLinearAdd``.
    name : str
        In the file, or its first output's where it has none.
    inputs, outputs : tuple of str
        Tensors; empty where one is left out.
    attributes : dict of str to value
        Integers, floats, texts, tuples of them, and arrays.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.operator} {shown(self.name)}"


@dataclass(frozen=True, kw_only=True)
class OnnxInput:
    """The tensor that a graph takes: its sizes, None where the file leaves one open, and its type in ONNX.

    ``is_channels_last`` says that channels are its last axis, not the one behind that of images.
    """

    name: str
    sizes: tuple[int | None, ...]
    dtype: str
    is_channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class OnnxGraph:
    """A file's graph: nodes in order of execution, constants by tensor, its only input, its outputs.

    ``model`` is the whole file with all its weights in it, checked by ``onnx.checker``.
    """

    opset: int
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, np.ndarray]
    input: OnnxInput
    outputs: tuple[str, ...]
    model: "ModelProto"


def parse(path: Path | str) -> OnnxGraph:
    """The graph of a file.

    Raises
    ------
    ValueError
        When the file can't be read, is damaged, too large, or says what can't be followed.
    ModuleNotFoundError
        When the package ``onnx`` isn't installed.
    """
    path = Path(path)
    try:
        return _graph(open_model(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _graph(model: "ModelProto") -> OnnxGraph:
    graph, opset = model.graph, _opset(model)
    if graph.sparse_initializer:
        raise ValueError("weights must be whole tensors, not sparse ones")
    if model.functions:
        raise ValueError("a model must have no functions of its own; onnx.inliner puts their nodes in their place")
    constants = {tensor.name: _array(tensor) for tensor in graph.initializer}
    if len(constants) != len(graph.initializer):
        raise ValueError("initializers must have names of their own, not twice the same")
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or not graph.output:
        raise ValueError(
            f"a network must have one input and at least one output, not {len(inputs)} and {len(graph.output)}"
        )
    image = _input(inputs[0])
    nodes = []
    written = {image.name, *constants}
    for proto in graph.node:
        node = _node(proto)
        _check_names(node, written)
        if proto.op_type == "Constant" and not proto.domain:
            constants[node.outputs[0]] = _constant(node)
        else:
            nodes.append(node)
        written.update(filter(None, node.outputs))
    outputs = tuple(value.name for value in graph.output)
    for name in outputs:
        require(name in written, f"output {shown(name)} must be computed by a node, not missing")
    _check(model)
    return OnnxGraph(
        opset=opset, nodes=tuple(nodes), constants=constants, input=image, outputs=outputs, model=model
    )  # fmt: skip


def _opset(model: "ModelProto") -> int:
    import onnx

    found = {entry.domain: entry.version for entry in model.opset_import}
    opset, newest = found.get("", found.get("ai.onnx", 0)), onnx.defs.onnx_opset_version()
    if not _OLDEST <= opset <= newest:
        raise ValueError(
            f"the opset must be from {_OLDEST} to {newest}, not {opset}; onnx.version_converter changes it"
        )
    return opset


def _check_names(node: OnnxNode, written: set[str]) -> None:
    """Refuse a node that reads what no node before it wrote, or writes what is written."""
    for name in filter(None, node.inputs):
        if name not in written:
            raise ValueError(f"{node} must read what a node before it computes or an initializer, not {shown(name)}")
    for name in filter(None, node.outputs):
        if name in written:
            raise ValueError(f"{node} must write a tensor of its own, not {shown(name)}, which is there already")
    if len(set(filter(None, node.outputs))) != len([*filter(None, node.outputs)]) or not any(node.outputs):
        raise ValueError(f"{node} must write tensors, and none twice, not {shown(node.outputs)}")


def _check(model: "ModelProto") -> None:
    """Let ONNX's own checker look at it."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, RuntimeError, UnicodeError, ValueError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"the file must be valid ONNX, not one of which onnx.checker says: {said[:300]}") from error


def _input(value: "ValueInfoProto") -> OnnxInput:
    """The image; a size without a number is open."""
    import onnx

    what, tensor = f"input {shown(value.name)}", value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in _types() else "UNDEFINED"
    if not value.type.HasField("tensor_type") or dtype not in _INPUTS:
        raise ValueError(f"{what} must be a tensor of {', '.join(_INPUTS)}, not {dtype}")
    sizes = tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)
    if not 2 <= len(sizes) <= 4 or any(size is not None and not 0 < size < _SIZES for size in sizes):
        raise ValueError(f"{what} must have 2 to 4 sizes, each 1 or more, not {shown(list(sizes))}")
    return OnnxInput(name=value.name, sizes=sizes, dtype=dtype)


def _types() -> list[int]:
    import onnx

    return list(onnx.TensorProto.DataType.values())


def _array(tensor: "TensorProto") -> np.ndarray:
    """A tensor's elements; what is in floating point or of 4 bits, in types that NumPy has."""
    import onnx

    try:
        found = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"tensor {shown(tensor.name)} must hold as many elements as its sizes {list(tensor.dims)} say"
        ) from error
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    if name in ("FLOAT16", "BFLOAT16", "DOUBLE"):
        with np.errstate(over="ignore"):
            found = found.astype(np.float32)
    elif name in ("INT4", "UINT4"):
        found = found.astype(np.int8 if name == "INT4" else np.uint8)
    elif name not in ("FLOAT", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL"):
        raise ValueError(f"tensor {shown(tensor.name)} must be of integers or IEEE floats, not {name}")
    return found


def _node(proto: "NodeProto") -> OnnxNode:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    operator = f"{domain}.{proto.op_type}" if domain else proto.op_type
    name = proto.name or next(filter(None, proto.output), "")
    attributes = {}
    for attribute in proto.attribute:
        what = f"{operator} {shown(name)}: attribute {shown(attribute.name)}"
        if attribute.name in attributes or attribute.ref_attr_name:
            raise ValueError(f"{what} must stand once and hold a value, not twice or refer to a function's")
        attributes[attribute.name] = _value(attribute, what)
    return OnnxNode(
        operator=operator, name=name, inputs=tuple(proto.input), outputs=tuple(proto.output), attributes=attributes
    )  # fmt: skip


def _value(attribute: Any, what: str) -> Any:
    """An attribute's value; graphs and the like as what ONNX has them as, for the operator to refuse."""
    import onnx

    try:
        value = onnx.helper.get_attribute_value(attribute)
    except ValueError as error:
        raise ValueError(f"{what} must be of a type of ONNX's, not {attribute.type}") from error
    if isinstance(value, onnx.TensorProto):
        return _array(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return tuple(value) if isinstance(value, list) else value


def _constant(node: OnnxNode) -> np.ndarray:
    """What a Constant node holds."""
    if len(node.attributes) == 1:
        ((key, value),) = node.attributes.items()
        if key == "value" and isinstance(value, np.ndarray):
            return value
        if key in ("value_int", "value_ints"):
            return np.array(value, dtype=np.int64)
        if key in ("value_float", "value_floats"):
            return np.array(value, dtype=np.float32)
    raise ValueError(f"{node} must hold one tensor or numbers, not {shown(sorted(node.attributes))}")
