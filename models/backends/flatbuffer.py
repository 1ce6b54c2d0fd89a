"""Puts tensors and operators into the bytes of a TensorFlow Lite file (schema version 3), as current converters do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["FlatGraph"]

_TYPES = {np.dtype(np.int8): "INT8", np.dtype(np.int32): "INT32"}
#: Of a constant's first byte, as the schema asks for it.
_ALIGNMENT = 16
#: Versions of the operators with which they take int8.
_VERSIONS = {
    "ADD": 2, "AVERAGE_POOL_2D": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 12, "MAX_POOL_2D": 2,
    "PAD": 2, "RESHAPE": 1,
}  # fmt: skip


@dataclass
class FlatGraph:
    """The graph so far; tensors are numbers, in the order in which they were made.

    Raises
    ------
    ModuleNotFoundError
        When the package ``tflite`` isn't installed.
    """

    _tensors: list[dict[str, Any]] = field(default_factory=list)
    _operators: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            import tflite
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("writing TFLite files needs the package tflite: pip install tflite") from error
        self._schema: Any = tflite

    def map(self, name: str, shape: Sequence[int], scale: float, zero_point: int) -> int:
        """A tensor of int8 codes that is computed, or given."""
        return self._tensor(name, shape, np.dtype(np.int8), None, np.array([scale]), zero_point, 0)

    def constant(self, name: str, values: np.ndarray, scales: np.ndarray | None = None, axis: int = 0) -> int:
        """A constant of int8 or int32, with scales or without."""
        return self._tensor(name, values.shape, values.dtype, values, scales, 0, axis)

    def _tensor(
        self, name: str, shape: Sequence[int], dtype: np.dtype[Any], data: np.ndarray | None,
        scales: np.ndarray | None, zero_point: int, axis: int,
    ) -> int:  # fmt: skip
        self._tensors.append(
            {"name": name, "shape": shape, "type": _TYPES[dtype], "data": data, "scales": scales, "axis": axis,
             "zero_point": zero_point}
        )  # fmt: skip
        return len(self._tensors) - 1

    def operator(self, name: str, inputs: Sequence[int], output: int, table: str, **options: int | str | bool) -> None:
        """An operator; an enum's value is its name: ``Padding="SAME"``."""
        self._operators.append({"name": name, "inputs": inputs, "output": output, "table": table, "options": options})

    def content(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file's bytes."""
        import flatbuffers

        b = flatbuffers.Builder(1024)
        names = sorted({operator["name"] for operator in self._operators})
        codes = [self._code(b, name) for name in names]
        buffers = [self._table(b, "Buffer")]  # the first one stands for none
        tensors = [self._flat_tensor(b, tensor, buffers) for tensor in self._tensors]
        operators = [self._flat_operator(b, operator, names) for operator in self._operators]
        graph = self._table(
            b, "SubGraph", Name=b.CreateString("main"), Tensors=_offsets(b, tensors), Inputs=_integers(b, inputs),
            Outputs=_integers(b, outputs), Operators=_offsets(b, operators),
        )  # fmt: skip
        model = self._table(
            b, "Model", Version=3, OperatorCodes=_offsets(b, codes), Subgraphs=_offsets(b, [graph]),
            Buffers=_offsets(b, buffers), Description=b.CreateString("written by Offramp"),
        )  # fmt: skip
        b.Finish(model, file_identifier=b"TFL3")
        return bytes(b.Output())

    def _code(self, b: Any, name: str) -> int:
        code = getattr(self._schema.BuiltinOperator, name)
        return self._table(
            b, "OperatorCode", DeprecatedBuiltinCode=min(code, 127), BuiltinCode=code, Version=_VERSIONS[name]
        )

    def _flat_tensor(self, b: Any, tensor: dict[str, Any], buffers: list[int]) -> int:
        buffer, quantization = 0, {}
        if tensor["data"] is not None:
            data = np.frombuffer(tensor["data"].tobytes(), dtype=np.uint8)
            b.Prep(_ALIGNMENT, data.size)
            buffers.append(self._table(b, "Buffer", Data=b.CreateNumpyVector(data)))
            buffer = len(buffers) - 1
        if tensor["scales"] is not None:
            points = np.full(len(tensor["scales"]), tensor["zero_point"], dtype=np.int64)
            quantization["Quantization"] = self._table(
                b, "QuantizationParameters", Scale=b.CreateNumpyVector(tensor["scales"].astype(np.float32)),
                ZeroPoint=b.CreateNumpyVector(points), QuantizedDimension=tensor["axis"],
            )  # fmt: skip
        kind = getattr(self._schema.TensorType, tensor["type"])
        return self._table(
            b, "Tensor", Name=b.CreateString(tensor["name"]), Shape=_integers(b, tensor["shape"]), Type=kind,
            Buffer=buffer, **quantization,
        )  # fmt: skip

    def _flat_operator(self, b: Any, operator: dict[str, Any], names: list[str]) -> int:
        enums = {"Padding": "Padding", "FusedActivationFunction": "ActivationFunctionType"}
        options = {
            name: getattr(getattr(self._schema, enums[name]), value) if name in enums else value
            for name, value in operator["options"].items()
        }
        return self._table(
            b, "Operator", OpcodeIndex=names.index(operator["name"]), Inputs=_integers(b, operator["inputs"]),
            Outputs=_integers(b, [operator["output"]]), BuiltinOptions=self._table(b, operator["table"], **options),
            BuiltinOptionsType=getattr(self._schema.BuiltinOptions, operator["table"]),
        )  # fmt: skip

    def _table(self, b: Any, kind: str, **values: Any) -> int:
        getattr(self._schema, f"{kind}Start")(b)
        for name, value in values.items():
            getattr(self._schema, f"{kind}Add{name}")(b, value)
        offset: int = getattr(self._schema, f"{kind}End")(b)
        return offset


def _integers(b: Any, values: Sequence[int]) -> int:
    offset: int = b.CreateNumpyVector(np.asarray(values, dtype=np.int32))
    return offset


def _offsets(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    vector: int = b.EndVector()
    return vector
