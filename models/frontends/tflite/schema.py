"""What the tables of a TensorFlow Lite file can say beside values and shapes, and what of it is followed.

Every field that can change what an operator or a tensor means is either followed or named in an objection. A field of a
newer schema than the package ``tflite`` knows can't be read, but it shows, because a table lists the fields it has.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = [
    "FORMS",
    "Form",
    "newer_fields",
    "numbers",
    "operator_name",
    "operator_objections",
    "options",
    "tensor_objections",
    "value_name",
]
#: A FlatBuffer's table without fields: a list of fields that holds its own size and the table's, and the table.
_NOTHING = bytes([4, 0, 4, 0, 4, 0, 0, 0])


class Form(NamedTuple):
    """What an operator of the schema looks like.

    Parameters
    ----------
    least, most : int
        How many tensors it reads; ``most`` None: any number.
    version : int
        The newest that LiteRT's reference kernels (2.3.0) take.
    options : str or None
        Name of its table of options; None: it has none.
    """

    least: int
    most: int | None
    version: int
    options: str | None


FORMS = {
    "ADD": Form(2, 2, 5, "AddOptions"),
    "AVERAGE_POOL_2D": Form(1, 1, 3, "Pool2DOptions"),
    "CONCATENATION": Form(1, None, 7, "ConcatenationOptions"),
    "CONV_2D": Form(2, 3, 8, "Conv2DOptions"),
    "DEPTHWISE_CONV_2D": Form(2, 3, 6, "DepthwiseConv2DOptions"),
    "DEQUANTIZE": Form(1, 1, 9, "DequantizeOptions"),
    "EXPAND_DIMS": Form(2, 2, 1, "ExpandDimsOptions"),
    "FULLY_CONNECTED": Form(2, 3, 14, "FullyConnectedOptions"),
    "LOGISTIC": Form(1, 1, 3, None),
    "MAX_POOL_2D": Form(1, 1, 3, "Pool2DOptions"),
    "MEAN": Form(2, 2, 3, "ReducerOptions"),
    "MUL": Form(2, 2, 7, "MulOptions"),
    "PAD": Form(2, 2, 6, "PadOptions"),
    "PADV2": Form(3, 3, 6, "PadV2Options"),
    "QUANTIZE": Form(1, 1, 6, "QuantizeOptions"),
    "RELU": Form(1, 1, 3, None),
    "RELU6": Form(1, 1, 3, None),
    "RELU_0_TO_1": Form(1, 1, 1, None),
    "RELU_N1_TO_1": Form(1, 1, 1, None),
    "RESHAPE": Form(1, 2, 1, "ReshapeOptions"),
    "SOFTMAX": Form(1, 1, 3, "SoftmaxOptions"),
    "SQUEEZE": Form(1, 1, 1, "SqueezeOptions"),
    "SUB": Form(2, 2, 5, "SubOptions"),
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
    "AddOptions": 2,
    "ConcatenationOptions": 2,
    "Conv2DOptions": 7,
    "DepthwiseConv2DOptions": 7,
    "DequantizeOptions": 0,
    "ExpandDimsOptions": 0,
    "FullyConnectedOptions": 5,
    "MulOptions": 1,
    "PadOptions": 0,
    "PadV2Options": 0,
    "Pool2DOptions": 6,
    "QuantizeOptions": 0,
    "ReducerOptions": 1,
    "ReshapeOptions": 1,
    "SoftmaxOptions": 1,
    "SqueezeOptions": 1,
    "SubOptions": 2,
}


def numbers(array: Any) -> list[int]:
    """Values of a vector as the package ``tflite`` returns it: 0 where there is none."""
    return [] if isinstance(array, int) else [int(value) for value in array]


def newer_fields(kind: str, table: Any) -> Iterator[str]:
    """Objections to fields of a table that the schema doesn't have."""
    from flatbuffers import number_types

    raw = table._tab
    listed = raw.Pos - raw.Get(number_types.SOffsetTFlags, raw.Pos)
    count = raw.Get(number_types.VOffsetTFlags, listed) // 2 - 2  # behind the sizes of the list and of the table
    for number in range(_FIELDS[kind], count):
        if raw.Offset(4 + 2 * number):
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

    raw = code._tab
    offset = raw.Offset(10)
    newer = raw.Get(number_types.Int32Flags, offset + raw.Pos) if offset else 0
    name = value_name(tflite.BuiltinOperator, max(newer, code.DeprecatedBuiltinCode()))
    return f"CUSTOM {(code.CustomCode() or b'').decode()}" if name == "CUSTOM" else name


def operator_objections(tflite: Any, name: str, operator: Any, code: Any) -> Iterator[str]:
    """What an operator says that isn't followed, whatever its options."""
    if name not in FORMS:
        return
    if not 1 <= code.Version() <= FORMS[name].version:
        yield f"{name} of version {code.Version()}, not 1..{FORMS[name].version}"
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

    Without a table every option is the schema's default.

    Raises
    ------
    ValueError
        When the options are those of another operator.
    """
    if name not in FORMS:
        return {}, []
    kind, table = FORMS[name].options, operator.BuiltinOptions()
    if table is not None:
        found = value_name(tflite.BuiltinOptions, operator.BuiltinOptionsType())
        if found != (kind or "NONE"):
            raise ValueError(f"{name} must have {kind or 'no options'}, not {found}")
    if kind is None:
        return {}, []
    given = getattr(tflite, kind)()
    if table is None:
        given.Init(_NOTHING, 4)
    else:
        given.Init(table.Bytes, table.Pos)
    values, objections = _values(tflite, name, given)
    return values, [*(f"{name} with {reason}" for reason in newer_fields(kind, given)), *objections]


def _values(tflite: Any, name: str, given: Any) -> tuple[dict[str, Any], list[str]]:
    """Options that a table holds, or stands for, and objections."""
    values: dict[str, Any] = {}
    objections = []
    if name == "SOFTMAX":
        values["beta"] = given.Beta()
    elif name == "RESHAPE":
        if given.NewShapeLength() > 8:
            raise ValueError(f"RESHAPE must have at most 8 sizes, not {given.NewShapeLength()}")
        values["shape"] = numbers(given.NewShapeAsNumpy())
    elif name == "CONCATENATION":
        values["axis"] = given.Axis()
    if hasattr(given, "FusedActivationFunction"):
        values["activation"] = value_name(tflite.ActivationFunctionType, given.FusedActivationFunction())
    if hasattr(given, "StrideH"):
        values |= {"padding": value_name(tflite.Padding, given.Padding()), "stride": (given.StrideH(), given.StrideW())}
    if hasattr(given, "DilationHFactor"):
        values["dilation"] = (given.DilationHFactor(), given.DilationWFactor())
    if hasattr(given, "FilterHeight"):
        values["window"] = (given.FilterHeight(), given.FilterWidth())
    if name == "FULLY_CONNECTED":
        values["keep_dimensions"] = bool(given.KeepNumDims())
    if name == "FULLY_CONNECTED" and given.WeightsFormat():
        layout = value_name(tflite.FullyConnectedOptionsWeightsFormat, given.WeightsFormat())
        objections.append(f"{name} with weights of format {layout}")
    return values, objections
