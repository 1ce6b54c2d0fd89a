"""Takes a TensorFlow Lite file (schema version 3) apart into plain tensors and operators, believing nothing.

Layout: tensorflow/lite/schema/schema.fbs, a FlatBuffer with the identifier ``TFL3``; read with the package ``tflite``.
Tables and vectors may lie over one another in a FlatBuffer, so a small file can claim as much as it likes: what is read
is counted, and bounded by the file's size.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.frontends.tflite import schema

__all__ = ["Operator", "Subgraph", "TensorEntry", "parse"]

_DTYPES: dict[str, np.dtype[Any]] = {"INT8": np.dtype("<i1"), "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8")}

#: Bytes of a file, at most.
_LARGEST = 1 << 30
#: What a graph has of each kind, at most.
_MOST = {"Tensors": 4096, "Operators": 512, "Buffers": 8192, "OperatorCodes": 512, "Metadata": 256}
#: Dimensions of a tensor, and tensors that an operator reads or writes, at most.
_DIMENSIONS, _OPERANDS = 8, 256


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One tensor of the file.

    Parameters
    ----------
    dtype : str
        Name in the schema: ``INT8``, ``FLOAT32``, ...
    scales : float32 array, zero_points : int64 array
        Quantization: empty, one value, or one per index along ``axis``.
    data : array or None
        Contents of an INT8, INT32 or INT64 constant.
    objections : tuple of str
        What it says that isn't followed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int
    data: np.ndarray | None
    objections: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator: its name in the schema, its position in the file, tensor numbers (-1: left out), options.

    Objections are to what it says that isn't followed.
    """

    name: str
    position: int
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any]
    objections: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} (operator {self.position})"


@dataclass(frozen=True, kw_only=True)
class Subgraph:
    """Tensors and operators of the file's only graph, with the numbers of its input and output tensors.

    Objections are to what the file says as a whole that isn't followed.
    """

    tensors: list[TensorEntry]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]
    objections: tuple[str, ...]


def parse(path: Path) -> Subgraph:
    """The graph of a file.

    Raises
    ------
    ValueError
        When the file can't be read, is no TFLite file, is damaged, or has more than one graph.
    ModuleNotFoundError
        When the package ``tflite`` isn't installed.
    """
    try:
        import tflite
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("reading TFLite files needs the package tflite: pip install tflite") from error
    data = _contents(path)
    try:
        model = tflite.Model.GetRootAs(data, 0)
        graphs = model.SubgraphsLength()
        graph = _graph(tflite, model, data) if graphs == 1 else None
    except Exception as error:  # whatever a FlatBuffer's offsets into nowhere make the reader raise
        raise ValueError(f"{path}: truncated or damaged TFLite file: {error or type(error).__name__}") from error
    if graph is None:
        raise ValueError(f"{path}: must hold one graph, not {graphs}")
    return graph


def _contents(path: Path) -> bytes:
    """Bytes of a regular file that begins as a TFLite file does."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path}: must be a file, not a folder or a device")
        with path.open("rb") as file:
            head = file.read(8)
            if head[4:] != b"TFL3":
                raise ValueError(f"{path}: must carry the identifier b'TFL3', not {head[4:]!r}: not a TFLite file")
            size = path.stat().st_size
            if size > _LARGEST:
                raise ValueError(f"{path}: must be of at most {_LARGEST} bytes, not {size}")
            return head + file.read()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


class _Allowance:
    """How much of a file may still be read, over and over."""

    def __init__(self, data: bytes) -> None:
        self.left = 4 * len(data)

    def spend(self, length: int) -> None:
        """Refuse to read more in all than a file of this size holds."""
        self.left -= length
        if self.left < 0:
            raise ValueError("its vectors must not lie over one another")


def _count(table: Any, kind: str) -> int:
    """How many of a kind there are, not more than can be."""
    count = getattr(table, f"{kind}Length")()
    if count > _MOST[kind]:
        raise ValueError(f"it must have at most {_MOST[kind]} {kind.lower()}, not {count}")
    return count


def _graph(tflite: Any, model: Any, data: bytes) -> Subgraph:
    graph, allowance = model.Subgraphs(0), _Allowance(data)
    objections = [*schema.newer_fields("Model", model), *schema.newer_fields("SubGraph", graph)]
    if model.Version() != 3:
        objections.append(f"schema version {model.Version()}, not 3")
    # The whole file is walked, also what no network needs, so that a missing end is noticed.
    buffers = [_bytes(model.Buffers(i), data, allowance) for i in range(_count(model, "Buffers"))]
    for i in range(len(buffers)):
        objections += schema.newer_fields("Buffer", model.Buffers(i))
    for i in range(_count(model, "Metadata")):
        _name(model.Metadata(i), allowance)
    codes = [model.OperatorCodes(i) for i in range(_count(model, "OperatorCodes"))]
    tensors = [_tensor(tflite, graph.Tensors(i), buffers, allowance) for i in range(_count(graph, "Tensors"))]
    operators = [_operator(tflite, codes, graph.Operators(i), i, allowance) for i in range(_count(graph, "Operators"))]
    if max(graph.InputsLength(), graph.OutputsLength()) > _OPERANDS:
        raise ValueError(f"it must have at most {_OPERANDS} inputs and outputs")
    result = Subgraph(
        tensors=tensors,
        operators=operators,
        inputs=schema.numbers(graph.InputsAsNumpy()),
        outputs=schema.numbers(graph.OutputsAsNumpy()),
        objections=tuple(dict.fromkeys(objections)),
    )
    _check_numbers(result)
    return result


def _name(table: Any, allowance: _Allowance) -> str:
    """The name of a table that has one."""
    name = table.Name() or b""
    allowance.spend(len(name))
    return name.decode()


def _check_numbers(graph: Subgraph) -> None:
    """Refuse operators that read or write what isn't there."""
    operators = graph.operators
    used = [graph.inputs, graph.outputs, *(o.inputs for o in operators), *(o.outputs for o in operators)]
    for number in (number for numbers in used for number in numbers):
        if not -1 <= number < len(graph.tensors):
            raise ValueError(f"tensor numbers must be below {len(graph.tensors)}, not {number}")
    for operator in operators:
        if operator.name not in schema.FORMS:
            continue
        least, most = schema.FORMS[operator.name][:2]
        most = _OPERANDS if most is None else most
        if not least <= len(operator.inputs) <= most or min(operator.inputs[:least]) < 0:
            count = {least: f"{least}", least + 1: f"{least} or {most}"}.get(most, f"{least} to {most}")
            raise ValueError(f"{operator} must read {count} tensors, not {operator.inputs}")
        if len(operator.outputs) != 1 or min(operator.outputs) < 0:
            raise ValueError(f"{operator} must write a tensor, not {operator.outputs}")
    if min([*graph.inputs, *graph.outputs], default=0) < 0:
        raise ValueError("input and output must be tensors, not left out")


def _bytes(buffer: Any, data: bytes, allowance: _Allowance) -> memoryview:
    """Contents of a buffer: within the FlatBuffer or, of large models, at an offset of the file behind it."""
    start, size = buffer.Offset(), buffer.Size()
    if start <= 1:  # 0 and 1 say that there is no offset
        allowance.spend(buffer.DataLength())
        return memoryview(b"" if buffer.DataIsNone() else buffer.DataAsNumpy()).cast("B")
    if buffer.DataLength():
        raise ValueError("a buffer must have contents or an offset, not both")
    if start + size > len(data):
        raise ValueError(f"a buffer must end within the file's {len(data)} bytes, not at {start + size}")
    allowance.spend(size)
    return memoryview(data)[start : start + size]


def _tensor(tflite: Any, tensor: Any, buffers: list[memoryview], allowance: _Allowance) -> TensorEntry:
    name = _name(tensor, allowance)
    dtype = schema.value_name(tflite.TensorType, tensor.Type())
    if max(tensor.ShapeLength(), tensor.ShapeSignatureLength()) > _DIMENSIONS:
        raise ValueError(f"tensor {name} must have at most {_DIMENSIONS} dimensions, not {tensor.ShapeLength()}")
    shape = tuple(schema.numbers(tensor.ShapeAsNumpy()))
    if min(shape, default=0) < 0:
        raise ValueError(f"tensor {name} must have sizes of at least 0, not {list(shape)}")
    quantization = tensor.Quantization()
    scales, zero_points, axis = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64), 0
    if quantization is not None and quantization.ScaleLength():
        allowance.spend(4 * quantization.ScaleLength() + 8 * quantization.ZeroPointLength())
        scales = np.array(quantization.ScaleAsNumpy(), dtype=np.float32)
        zero_points = np.array(quantization.ZeroPointAsNumpy(), dtype=np.int64).reshape(-1)
        axis = quantization.QuantizedDimension()
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"scales of tensor {name} must be positive and finite")
    objections = tuple(schema.tensor_objections(tflite, tensor))
    contents = buffers[tensor.Buffer()] if tensor.Buffer() else b""  # the first buffer stands for none
    data = None
    if contents and dtype in _DTYPES and not objections:
        expected = math.prod(shape) * _DTYPES[dtype].itemsize
        if len(contents) != expected:
            raise ValueError(f"tensor {name} must be {expected} bytes, not {len(contents)}")
        data = np.frombuffer(contents, dtype=_DTYPES[dtype]).reshape(shape)
    return TensorEntry(
        name=name,
        dtype=dtype,
        shape=shape,
        scales=scales,
        zero_points=zero_points,
        axis=axis,
        data=data,
        objections=objections,
    )


def _operator(tflite: Any, codes: list[Any], operator: Any, position: int, allowance: _Allowance) -> Operator:
    code = codes[operator.OpcodeIndex()]
    name = schema.operator_name(tflite, code)
    most = max(operator.InputsLength(), operator.OutputsLength(), operator.MutatingVariableInputsLength())
    if most > _OPERANDS:
        raise ValueError(f"{name} (operator {position}) must read and write at most {_OPERANDS} tensors, not {most}")
    allowance.spend(len(name))
    options, objections = schema.options(tflite, name, operator)
    return Operator(
        name=name,
        position=position,
        inputs=schema.numbers(operator.InputsAsNumpy()),
        outputs=schema.numbers(operator.OutputsAsNumpy()),
        options=options,
        objections=(*schema.operator_objections(tflite, name, operator, code), *objections),
    )
