"""Writes small TFLite files with given operators, so that the importer and LiteRT can be shown anything."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tflite  # newer than the schema that the importer knows

TYPES = {
    name: getattr(tflite.TensorType, name.upper()) for name in ("int8", "int32", "int64", "uint8", "int16", "float32")
}


@dataclass
class Builder:
    """Tensors and operators of one graph; tensors are named by the numbers that :meth:`tensor` returns.

    ``inputs`` and ``outputs`` are notes of whoever builds, for :meth:`finish`.

    ``more`` of a tensor, its quantization, its buffer, an operator, and by name an operator code, of the graph or the
    model are further fields of the schema: values, or functions of the FlatBuffer's builder that return an offset.
    """

    tensors: list[dict[str, Any]] = field(default_factory=list)
    operators: list[dict[str, Any]] = field(default_factory=list)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    graph: dict[str, Any] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)

    def tensor(
        self,
        shape: Sequence[int],
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] = 0,
        *,
        data: np.ndarray | None = None,
        dtype: str = "int8",
        axis: int = 0,
    ) -> int:
        scales = None if scale is None else np.atleast_1d(np.asarray(scale, dtype=np.float32))
        points = None if scales is None else np.broadcast_to(np.asarray(zero_point, dtype=np.int64), scales.shape)
        self.tensors.append(
            {"shape": shape, "scales": scales, "points": points, "data": data, "dtype": dtype, "axis": axis}
        )
        return len(self.tensors) - 1

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: str | None = None, **values: int
    ) -> None:
        self.operators.append(
            {"name": name, "inputs": inputs, "outputs": outputs, "options": options, "values": values}
        )

    def convolution(self, source: int, weight: np.ndarray, bias: np.ndarray | None, scales, output: int, **values):
        """A CONV_2D with weights of (output channels, height, width, input channels)."""
        inputs = [source, self.tensor(weight.shape, scales, data=weight)]
        inputs.append(-1 if bias is None else self.tensor(bias.shape, data=bias, dtype="int32"))
        values = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1} | values
        self.operator("CONV_2D", inputs, [output], "Conv2DOptions", **values)

    def depthwise(self, source: int, weight: np.ndarray, bias: np.ndarray | None, scales, output: int, **values):
        """A DEPTHWISE_CONV_2D with weights of (1, height, width, output channels)."""
        inputs = [source, self.tensor(weight.shape, scales, data=weight, axis=3)]
        if bias is not None:  # LiteRT refuses -1 here
            inputs.append(self.tensor(bias.shape, data=bias, dtype="int32"))
        values = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1} | values
        self.operator("DEPTHWISE_CONV_2D", inputs, [output], "DepthwiseConv2DOptions", **values)

    def integers(self, *values: Any) -> int:
        """A constant of int32 values, as axes, shapes and pads are."""
        data = np.array(values, dtype=np.int32)
        return self.tensor(data.shape, data=data, dtype="int32")

    def average_pool(self, source: int, output: int, window: tuple[int, int], stride: tuple[int, int], **values: int):
        self._pool("AVERAGE_POOL_2D", source, output, window, stride, **values)

    def max_pool(self, source: int, output: int, window: tuple[int, int], stride: tuple[int, int], **values: int):
        self._pool("MAX_POOL_2D", source, output, window, stride, **values)

    def _pool(self, name: str, source: int, output: int, window: tuple[int, int], stride: tuple[int, int], **values):
        sizes = {"StrideH": stride[0], "StrideW": stride[1], "FilterHeight": window[0], "FilterWidth": window[1]}
        self.operator(name, [source], [output], "Pool2DOptions", **sizes, **values)

    def fully_connected(self, source: int, weight: np.ndarray, bias: np.ndarray | None, scales, output: int, **values):
        inputs = [source, self.tensor(weight.shape, scales, data=weight)]
        inputs.append(-1 if bias is None else self.tensor(bias.shape, data=bias, dtype="int32"))
        self.operator("FULLY_CONNECTED", inputs, [output], "FullyConnectedOptions", **values)

    def finish(self, inputs: Sequence[int], outputs: Sequence[int], subgraphs: int = 1) -> bytes:
        """The file's bytes."""
        b = flatbuffers.Builder(1024)
        names = sorted({operator["name"] for operator in self.operators})
        codes = [
            _table(
                b,
                "OperatorCode",
                **{
                    "DeprecatedBuiltinCode": min(getattr(tflite.BuiltinOperator, name), 127),
                    "BuiltinCode": getattr(tflite.BuiltinOperator, name),
                    "Version": 1,
                    **self.codes.get(name, {}),
                },
            )
            for name in names
        ]
        buffers = [_table(b, "Buffer")]
        tensors = []
        for number, tensor in enumerate(self.tensors):
            index = 0
            if tensor.get("buffer"):
                buffers.append(_table(b, "Buffer", **tensor["buffer"]))
                index = len(buffers) - 1
            elif tensor["data"] is not None:
                data = b.CreateNumpyVector(np.frombuffer(tensor["data"].tobytes(), dtype=np.uint8))
                buffers.append(_table(b, "Buffer", Data=data))
                index = len(buffers) - 1
            values = {"Shape": b.CreateNumpyVector(np.asarray(tensor["shape"], dtype=np.int32))}
            if tensor["scales"] is not None:
                values["Quantization"] = _table(
                    b,
                    "QuantizationParameters",
                    Scale=b.CreateNumpyVector(tensor["scales"]),
                    ZeroPoint=b.CreateNumpyVector(np.ascontiguousarray(tensor["points"])),
                    QuantizedDimension=tensor["axis"],
                    **tensor.get("quantization", {}),
                )
            name = b.CreateString(f"tensor{number}")
            values |= {"Type": TYPES[tensor["dtype"]], "Buffer": index, "Name": name}
            tensors.append(_table(b, "Tensor", **values | tensor.get("more", {})))
        operators = []
        for operator in self.operators:
            values = {
                "Inputs": b.CreateNumpyVector(np.asarray(operator["inputs"], dtype=np.int32)),
                "Outputs": b.CreateNumpyVector(np.asarray(operator["outputs"], dtype=np.int32)),
            }
            if operator["options"]:
                values["BuiltinOptions"] = _table(b, operator["options"], **operator["values"])
                values["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, operator["options"])
            values["OpcodeIndex"] = names.index(operator["name"])
            operators.append(_table(b, "Operator", **values | operator.get("more", {})))
        graph = {
            "Tensors": _vector(b, tensors),
            "Inputs": b.CreateNumpyVector(np.asarray(inputs, dtype=np.int32)),
            "Outputs": b.CreateNumpyVector(np.asarray(outputs, dtype=np.int32)),
            "Operators": _vector(b, operators),
        }
        graphs = [_table(b, "SubGraph", **graph, **self.graph) for _ in range(subgraphs)]
        parts = {"OperatorCodes": _vector(b, codes), "Subgraphs": _vector(b, graphs), "Buffers": _vector(b, buffers)}
        b.Finish(_table(b, "Model", **{"Version": 3, **parts, **self.model}), file_identifier=b"TFL3")
        return bytes(b.Output())


def _table(b: flatbuffers.Builder, kind: str, **given: Any) -> int:
    values = {name: value(b) if callable(value) else value for name, value in given.items()}
    getattr(tflite, f"{kind}Start")(b)
    for name, value in values.items():
        getattr(tflite, f"{kind}Add{name}")(b, value)
    return getattr(tflite, f"{kind}End")(b)


def _vector(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()
