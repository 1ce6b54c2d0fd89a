"""What the tables of a TensorFlow Lite file can say beside values and shapes, and what of it is followed.

Every field that can change what an operator or a tensor means is either followed or named in an objection. A field of a
newer schema than the package ``tflite`` knows can't be read, but it shows, because a table lists the fields it has.
"""

from collections.abc import Iterator
from typing import Any

__all__ = [
    "COUNTS",
    "newer_fields",
    "numbers",
    "operator_name",
    "operator_objections",
    "options",
    "tensor_objections",
    "value_name",
]

#: How many tensors an operator reads at least and at most.
COUNTS = {
    "CONV_2D": (2, 3),
    "DEPTHWISE_CONV_2D": (2, 3),
    "FULLY_CONNECTED": (2, 3),
    "ADD": (2, 2),
    "AVERAGE_POOL_2D": (1, 1),
    "MAX_POOL_2D": (1, 1),
    "RESHAPE": (1, 2),
    "SOFTMAX": (1, 1),
}

#: Newest version of each operator that LiteRT's reference kernels (2.3.0) take.
_VERSIONS = {
    "CONV_2D": 8,
    "DEPTHWISE_CONV_2D": 6,
    "FULLY_CONNECTED": 14,
    "ADD": 5,
    "AVERAGE_POOL_2D": 3,
    "MAX_POOL_2D": 3,
    "RESHAPE": 1,
    "SOFTMAX": 3,
}

_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "RESHAPE": "ReshapeOptions",
    "SOFTMAX": "SoftmaxOptions",
}

#: Fields that each table has in schema.fbs as of TensorFlow 2.18.
_FIELDS = {
    "Model": 8,
    "SubGraph": 6,
    "OperatorCode": 4,
    "Operator": 14,
    "Tensor": 10,
    "QuantizationParameters": 7,
    "Buffer": 3,
    "Conv2DOptions": 7,
    "DepthwiseConv2DOptions": 7,
    "FullyConnectedOptions": 5,
    "AddOptions": 2,
    "Pool2DOptions": 6,
    "ReshapeOptions": 1,
    "SoftmaxOptions": 1,
}


def numbers(array: Any) -> list[int]:
    """Values of a vector as the package ``tflite`` returns it: 0 where there is none."""
    return [] if isinstance(array, int) else [int(value) for value in array]


def newer_fields(kind: str, table: Any) -> Iterator[str]:
    """Objections to fields of a table that the schema doesn't have."""
    from flatbuffers import number_types

    place = table._tab
    listed = place.Pos - place.Get(number_types.SOffsetTFlags, place.Pos)
    count = place.Get(number_types.VOffsetTFlags, listed) // 2 - 2  # behind the sizes of the list and of the table
    for number in range(_FIELDS[kind], count):
        if place.Offset(4 + 2 * number):
            yield f"field {number} of {kind}, which is newer than TensorFlow 2.18"


def value_name(enum: type, value: int) -> str:
    """Name of an enum's value; of one that the schema doesn't have, the enum's name and the value."""
    return next((name for name, known in vars(enum).items() if known == value), f"{enum.__name__} {value}")


def operator_name(tflite: Any, code: Any) -> str:
    """Name of an operator code: the larger of its two fields, as LiteRT takes it.

    Codes above 127 don't fit the older field, files before 2020 have only that one, and newer ones may have only the
    other, which the package ``tflite`` then doesn't return.
    """
    from flatbuffers import number_types

    place = code._tab
    offset = place.Offset(10)
    newer = place.Get(number_types.Int32Flags, offset + place.Pos) if offset else 0
    name = value_name(tflite.BuiltinOperator, max(newer, code.DeprecatedBuiltinCode()))
    return f"CUSTOM {(code.CustomCode() or b'').decode()}" if name == "CUSTOM" else name


def operator_objections(tflite: Any, name: str, operator: Any, code: Any) -> Iterator[str]:
    """What an operator says that isn't followed, whatever its options."""
    if name not in COUNTS:
        return
    if not 1 <= code.Version() <= _VERSIONS[name]:
        yield f"{name} of version {code.Version()}, not 1..{_VERSIONS[name]}"
    if operator.BuiltinOptions2Type():
        yield f"{name} with {value_name(tflite.BuiltinOptions2, operator.BuiltinOptions2Type())}"
    if operator.CustomOptionsLength() or operator.LargeCustomOptionsOffset() > 1:
        yield f"{name} with custom options"
    if operator.MutatingVariableInputsLength() and operator.MutatingVariableInputsAsNumpy().any():
        yield f"{name} that changes a variable"
    if operator.IntermediatesLength():
        yield f"{name} with intermediate tensors"
    for kind, table in (("Operator", operator), ("OperatorCode", code)):
        yield from (f"{name} with {reason}" for reason in newer_fields(kind, table))


def tensor_objections(tflite: Any, tensor: Any) -> Iterator[str]:
    """What a tensor says that isn't followed: ``a variable``."""
    if tensor.IsVariable():
        yield "a variable"
    if tensor.Sparsity() is not None:
        yield "stored sparsely"
    shape, signature = (numbers(array) for array in (tensor.ShapeAsNumpy(), tensor.ShapeSignatureAsNumpy()))
    known = [size for size in signature if size != -1]
    if signature and (
        len(signature) != len(shape) or known != [b for a, b in zip(signature, shape, strict=True) if a != -1]
    ):
        yield f"of shape {shape}, but of signature {signature}"
    quantization = tensor.Quantization()
    if quantization is not None:
        if quantization.DetailsType():
            yield f"quantized by {value_name(tflite.QuantizationDetails, quantization.DetailsType())}"
        yield from newer_fields("QuantizationParameters", quantization)
    yield from newer_fields("Tensor", tensor)


def options(tflite: Any, name: str, operator: Any) -> tuple[dict[str, Any], list[str]]:
    """Options of an operator that are followed, enums by name, and objections to others.

    Raises
    ------
    ValueError
        When the options are those of another operator.
    """
    if name not in _OPTIONS:
        return {}, []
    if name == "RESHAPE" and operator.BuiltinOptions() is None:  # it has its shape from a tensor
        return {"shape": []}, []
    kind, found = _OPTIONS[name], value_name(tflite.BuiltinOptions, operator.BuiltinOptionsType())
    table = operator.BuiltinOptions()
    if table is None or found != kind:
        raise ValueError(f"{name} must have {kind}, not {found}")
    given = getattr(tflite, kind)()
    given.Init(table.Bytes, table.Pos)
    values: dict[str, Any] = {}
    objections = [f"{name} with {reason}" for reason in newer_fields(kind, given)]
    if name == "SOFTMAX":
        return {"beta": given.Beta()}, objections
    if name == "RESHAPE":
        return {"shape": numbers(given.NewShapeAsNumpy())}, objections
    values["activation"] = value_name(tflite.ActivationFunctionType, given.FusedActivationFunction())
    if name == "FULLY_CONNECTED":
        values["keep_dimensions"] = bool(given.KeepNumDims())
        if given.WeightsFormat():
            layout = value_name(tflite.FullyConnectedOptionsWeightsFormat, given.WeightsFormat())
            objections.append(f"{name} with weights of format {layout}")
    elif name != "ADD":
        values |= {"padding": value_name(tflite.Padding, given.Padding()), "stride": (given.StrideH(), given.StrideW())}
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        values["dilation"] = (given.DilationHFactor(), given.DilationWFactor())
    if name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        values["window"] = (given.FilterHeight(), given.FilterWidth())
    return values, objections
