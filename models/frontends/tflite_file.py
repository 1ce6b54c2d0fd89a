"""Takes a TensorFlow Lite file (schema version 3) apart into plain tensors and operators, believing nothing.

Layout: tensorflow/lite/schema/schema.fbs, a FlatBuffer with the identifier ``TFL3``; read with the package ``tflite``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.frontends import tflite_schema as schema

__all__ = ["Operator", "Subgraph", "TensorEntry", "parse"]

_DTYPES: dict[str, np.dtype[Any]] = {"INT8": np.dtype("<i1"), "INT32": np.dtype("<i4")}


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
        Contents of an INT8 or INT32 constant.
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
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if data[4:8] != b"TFL3":
        raise ValueError(f"{path}: must carry the identifier b'TFL3', not {data[4:8]!r}: not a TFLite file")
    try:
        model = tflite.Model.GetRootAs(data, 0)
        graphs = model.SubgraphsLength()
        graph = _graph(tflite, model, data) if graphs == 1 else None
    except Exception as error:  # whatever a FlatBuffer's offsets into nowhere make the reader raise
        raise ValueError(f"{path}: truncated or damaged TFLite file: {error or type(error).__name__}") from error
    if graph is None:
        raise ValueError(f"{path}: must hold one graph, not {graphs}")
    return graph


def _graph(tflite: Any, model: Any, data: bytes) -> Subgraph:
    graph = model.Subgraphs(0)
    objections = [*schema.newer_fields("Model", model), *schema.newer_fields("SubGraph", graph)]
    if model.Version() != 3:
        objections.append(f"schema version {model.Version()}, not 3")
    # The whole file is walked, also what no network needs, so that a missing end is noticed.
    buffers = [_bytes(model.Buffers(i), data) for i in range(model.BuffersLength())]
    for i in range(model.BuffersLength()):
        objections += schema.newer_fields("Buffer", model.Buffers(i))
    for i in range(model.MetadataLength()):
        model.Metadata(i).Name().decode()
    tensors = [_tensor(tflite, graph.Tensors(i), buffers) for i in range(graph.TensorsLength())]
    operators = [_operator(tflite, model, graph.Operators(i), i) for i in range(graph.OperatorsLength())]
    result = Subgraph(
        tensors=tensors,
        operators=operators,
        inputs=schema.numbers(graph.InputsAsNumpy()),
        outputs=schema.numbers(graph.OutputsAsNumpy()),
        objections=tuple(objections),
    )
    _check_numbers(result)
    return result


def _check_numbers(graph: Subgraph) -> None:
    """Refuse operators that read or write what isn't there."""
    operators = graph.operators
    used = [graph.inputs, graph.outputs, *(o.inputs for o in operators), *(o.outputs for o in operators)]
    for number in (number for numbers in used for number in numbers):
        if not -1 <= number < len(graph.tensors):
            raise ValueError(f"tensor numbers must be below {len(graph.tensors)}, not {number}")
    for operator in operators:
        if operator.name not in schema.COUNTS:
            continue
        least, most = schema.COUNTS[operator.name]
        if not least <= len(operator.inputs) <= most or min(operator.inputs[:least]) < 0:
            count = f"{least}" if least == most else f"{least} or {most}"
            raise ValueError(f"{operator} must read {count} tensors, not {operator.inputs}")
        if len(operator.outputs) != 1 or min(operator.outputs) < 0:
            raise ValueError(f"{operator} must write a tensor, not {operator.outputs}")
    if min([*graph.inputs, *graph.outputs], default=0) < 0:
        raise ValueError("input and output must be tensors, not left out")


def _bytes(buffer: Any, data: bytes) -> bytes:
    """Contents of a buffer: within the FlatBuffer or, of large models, at an offset of the file behind it."""
    start, size = buffer.Offset(), buffer.Size()
    if start <= 1:  # 0 and 1 say that there is no offset
        return b"" if buffer.DataIsNone() else buffer.DataAsNumpy().tobytes()
    if buffer.DataLength():
        raise ValueError("a buffer must have contents or an offset, not both")
    if start + size > len(data):
        raise ValueError(f"a buffer must end within the file's {len(data)} bytes, not at {start + size}")
    return data[start : start + size]


def _tensor(tflite: Any, tensor: Any, buffers: list[bytes]) -> TensorEntry:
    name = (tensor.Name() or b"").decode()
    dtype = schema.value_name(tflite.TensorType, tensor.Type())
    shape = tuple(schema.numbers(tensor.ShapeAsNumpy()))
    quantization = tensor.Quantization()
    scales, zero_points, axis = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64), 0
    if quantization is not None and quantization.ScaleLength():
        scales = np.array(quantization.ScaleAsNumpy(), dtype=np.float32)
        zero_points = np.array(quantization.ZeroPointAsNumpy(), dtype=np.int64).reshape(-1)
        axis = quantization.QuantizedDimension()
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"scales of tensor {name} must be positive and finite")
    objections = tuple(schema.tensor_objections(tflite, tensor))
    contents = buffers[tensor.Buffer()] if tensor.Buffer() else b""  # the first buffer stands for none
    data = None
    if contents and dtype in _DTYPES and not objections:
        expected = int(np.prod(shape, dtype=np.int64)) * _DTYPES[dtype].itemsize
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


def _operator(tflite: Any, model: Any, operator: Any, position: int) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    name = schema.operator_name(tflite, code)
    options, objections = schema.options(tflite, name, operator)
    return Operator(
        name=name,
        position=position,
        inputs=schema.numbers(operator.InputsAsNumpy()),
        outputs=schema.numbers(operator.OutputsAsNumpy()),
        options=options,
        objections=(*schema.operator_objections(tflite, name, operator, code), *objections),
    )
