"""Takes a TensorFlow Lite file (schema version 3) apart into plain tensors and operators, believing nothing.

Layout: tensorflow/lite/schema/schema.fbs, a FlatBuffer with the identifier ``TFL3``; read with the package ``tflite``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Graph", "Operator", "TensorEntry", "parse"]

_DTYPES: dict[str, np.dtype[Any]] = {"INT8": np.dtype("<i1"), "INT32": np.dtype("<i4")}

#: Tensors that an operator can't do without, where that is more than one.
_INPUTS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "ADD": 2}


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
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int
    data: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator: its name in the schema, its position in the file, tensor numbers (-1: left out), options."""

    name: str
    position: int
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name} (operator {self.position})"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Tensors and operators of the file's only graph, with the numbers of its input and output tensors."""

    tensors: list[TensorEntry]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]


def parse(path: Path) -> Graph:
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
        graph = _graph(tflite, model) if graphs == 1 else None
    except Exception as error:  # whatever a FlatBuffer's offsets into nowhere make the reader raise
        raise ValueError(f"{path}: truncated or damaged TFLite file: {error or type(error).__name__}") from error
    if graph is None:
        raise ValueError(f"{path}: must hold one graph, not {graphs}")
    return graph


def _graph(tflite: Any, model: Any) -> Graph:
    graph = model.Subgraphs(0)
    # The whole file is walked, also what no network needs, so that a missing end is noticed.
    buffers = [_bytes(model.Buffers(i)) for i in range(model.BuffersLength())]
    for i in range(model.MetadataLength()):
        model.Metadata(i).Name().decode()
    tensors = [_tensor(tflite, graph.Tensors(i), buffers) for i in range(graph.TensorsLength())]
    operators = [_operator(tflite, model, graph.Operators(i), i) for i in range(graph.OperatorsLength())]
    result = Graph(
        tensors=tensors,
        operators=operators,
        inputs=_numbers(graph.InputsAsNumpy()),
        outputs=_numbers(graph.OutputsAsNumpy()),
    )
    used = [result.inputs, result.outputs, *(o.inputs for o in operators), *(o.outputs for o in operators)]
    for number in (number for numbers in used for number in numbers):
        if not -1 <= number < len(tensors):
            raise ValueError(f"tensor numbers must be below {len(tensors)}, not {number}")
    for operator in operators:
        needed = operator.inputs[: _INPUTS.get(operator.name, 1)]
        if len(needed) < _INPUTS.get(operator.name, 1) or min(needed) < 0:
            raise ValueError(f"{operator} must read {_INPUTS.get(operator.name, 1)} tensors, not {operator.inputs}")
        if not operator.outputs or min(operator.outputs) < 0:
            raise ValueError(f"{operator} must write a tensor, not {operator.outputs}")
    if min([*result.inputs, *result.outputs], default=0) < 0:
        raise ValueError("input and output must be tensors, not left out")
    return result


def _bytes(buffer: Any) -> bytes:
    if buffer.Offset() > 1:
        raise ValueError("buffers must lie inside the FlatBuffer, not behind it")
    return b"" if buffer.DataIsNone() else buffer.DataAsNumpy().tobytes()


def _numbers(array: Any) -> list[int]:
    return [] if isinstance(array, int) else [int(value) for value in array]


def _names(table: type) -> dict[int, str]:
    """Names of an enum's values."""
    return {value: name for name, value in vars(table).items() if isinstance(value, int)}


def _tensor(tflite: Any, tensor: Any, buffers: list[bytes]) -> TensorEntry:
    name = (tensor.Name() or b"").decode()
    dtype = _names(tflite.TensorType)[tensor.Type()]
    shape = tuple(_numbers(tensor.ShapeAsNumpy()))
    quantization = tensor.Quantization()
    scales, zero_points, axis = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64), 0
    if quantization is not None and quantization.ScaleLength():
        scales = np.array(quantization.ScaleAsNumpy(), dtype=np.float32)
        zero_points = np.array(quantization.ZeroPointAsNumpy(), dtype=np.int64).reshape(-1)
        axis = quantization.QuantizedDimension()
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"scales of tensor {name} must be positive and finite")
    contents = buffers[tensor.Buffer()]
    data = None
    if contents and dtype in _DTYPES:
        expected = int(np.prod(shape, dtype=np.int64)) * _DTYPES[dtype].itemsize
        if len(contents) != expected:
            raise ValueError(f"tensor {name} must be {expected} bytes, not {len(contents)}")
        data = np.frombuffer(contents, dtype=_DTYPES[dtype]).reshape(shape)
    return TensorEntry(
        name=name, dtype=dtype, shape=shape, scales=scales, zero_points=zero_points, axis=axis, data=data
    )


def _operator(tflite: Any, model: Any, operator: Any, position: int) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Codes above 127 stand in the second field; older files have only the first.
    name = _names(tflite.BuiltinOperator)[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    if name == "CUSTOM":
        name = f"CUSTOM {(code.CustomCode() or b'').decode()}"
    return Operator(
        name=name,
        position=position,
        inputs=_numbers(operator.InputsAsNumpy()),
        outputs=_numbers(operator.OutputsAsNumpy()),
        options=_options(tflite, name, operator.BuiltinOptions()),
    )


def _options(tflite: Any, name: str, table: Any) -> dict[str, Any]:
    """Options of the operators that matter here, enums by name."""
    kinds = {
        "CONV_2D": tflite.Conv2DOptions,
        "DEPTHWISE_CONV_2D": tflite.DepthwiseConv2DOptions,
        "FULLY_CONNECTED": tflite.FullyConnectedOptions,
        "ADD": tflite.AddOptions,
        "AVERAGE_POOL_2D": tflite.Pool2DOptions,
        "MAX_POOL_2D": tflite.Pool2DOptions,
    }
    if name not in kinds:
        return {}
    activations, paddings = _names(tflite.ActivationFunctionType), _names(tflite.Padding)
    if table is None:
        raise ValueError(f"{name} must have options")
    options = kinds[name]()
    options.Init(table.Bytes, table.Pos)
    values: dict[str, Any] = {"activation": activations[options.FusedActivationFunction()]}
    if name not in ("FULLY_CONNECTED", "ADD"):
        values |= {"padding": paddings[options.Padding()], "stride": (options.StrideH(), options.StrideW())}
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        values["dilation"] = (options.DilationHFactor(), options.DilationWFactor())
    if name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        values["window"] = (options.FilterHeight(), options.FilterWidth())
    return values
