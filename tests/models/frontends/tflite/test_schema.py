"""Whatever the schema can say is followed, as LiteRT's reference kernels do, or refused by a sentence that is true."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from hw.network.network import Network
from models.frontends.tflite import schema as tflite_schema
from tests.models.frontends.tflite.litert_reference import assert_equals_litert
from tests.models.frontends.tflite.test_reader import RELU, SAME, TANH, VALID, read_bytes
from tests.models.frontends.tflite.tflite_builder import Builder


def file_with(kind: str, **values) -> Builder:
    """A network of one operator of a kind, and a head before or behind it."""
    b = Builder()
    rng = np.random.default_rng(5)
    at_the_end = kind in ("DEQUANTIZE", "FULLY_CONNECTED", "LOGISTIC", "SOFTMAX")
    image = b.tensor((1, 4, 4, 2), 0.1, 3)
    middle = image if at_the_end else b.tensor(SHAPES.get(kind, (1, 4, 4, 2)), 0.1, 3)
    out = b.tensor((1, 2), 0.9, -7)
    biases = rng.integers(-900, 900, 2).astype(np.int32)
    if kind == "CONV_2D":
        weight = rng.integers(-127, 128, (2, 1, 1, 2)).astype(np.int8)
        b.convolution(image, weight, biases, [0.003, 0.002], middle, **values)
    elif kind == "DEPTHWISE_CONV_2D":
        weight = rng.integers(-127, 128, (1, 1, 1, 2)).astype(np.int8)
        b.depthwise(image, weight, biases, [0.003, 0.002], middle, **values)
    elif kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        (b.average_pool if kind.startswith("A") else b.max_pool)(image, middle, (2, 2), (1, 1), **VALUES[kind] | values)
    elif not at_the_end:
        constants = [b.integers(*CONSTANTS[kind])] if kind in CONSTANTS else []
        if kind in ("MUL", "PADV2"):
            constants.append(b.tensor((1,), 0.1, 3, data=np.array([3], np.int8)))
        sources = [image] * (1 + (kind in ("ADD", "SUB", "CONCATENATION")))
        table = tflite_schema.FORMS[kind].options
        table = None if kind == "RESHAPE" else table
        b.operator(kind, [*sources, *constants], [middle], table, **VALUES.get(kind, {}) | values)
    head = rng.integers(-127, 128, (2, int(np.prod(b.tensors[middle]["shape"])))).astype(np.int8)
    b.fully_connected(middle, head, biases, 0.004, out, **(values if kind == "FULLY_CONNECTED" else {}))
    if kind in ("LOGISTIC", "SOFTMAX"):
        last = b.tensor((1, 2), 1 / 256, -128)
        b.operator(kind, [out], [last], tflite_schema.FORMS[kind].options, **VALUES.get(kind, {}) | values)
    elif kind == "DEQUANTIZE":
        b.operator(kind, [out], [b.tensor((1, 2), dtype="float32")], "DequantizeOptions")
    return b


#: Shapes of what operators write that isn't like what they read.
SHAPES = {
    "AVERAGE_POOL_2D": (1, 3, 3, 2),
    "CONCATENATION": (1, 4, 4, 4),
    "EXPAND_DIMS": (1, 1, 4, 4, 2),
    "MEAN": (1, 2),
    "PAD": (1, 6, 5, 2),
    "PADV2": (1, 6, 5, 2),
    "RESHAPE": (1, 32),
    "SQUEEZE": (4, 4, 2),
}
CONSTANTS = {
    "EXPAND_DIMS": [1],
    "MEAN": [1, 2],
    "PAD": [[0, 0], [1, 1], [0, 1], [0, 0]],
    "PADV2": [[0, 0], [1, 1], [0, 1], [0, 0]],
    "RESHAPE": [1, 32],
}
VALUES = {
    "AVERAGE_POOL_2D": {"Padding": VALID},
    "CONCATENATION": {"Axis": 3},
    "MAX_POOL_2D": {},
    "SOFTMAX": {"Beta": 1.0},
}


def data_of(b: Builder) -> bytes:
    return b.finish([0], b.operators[-1]["outputs"])


def assert_followed(tmp_path: Path, data: bytes) -> Network:
    """The file is read, and every layer equals the reference kernels."""
    return assert_equals_litert(tmp_path, data).network


@pytest.mark.parametrize("kind", tflite_schema.FORMS)
def test_operator_codes_in_either_field_alone_are_followed(tmp_path, kind):
    b = file_with(kind)
    number = getattr(schema.BuiltinOperator, kind)
    layers = []
    older = {"DeprecatedBuiltinCode": number, "BuiltinCode": 0} if number < 128 else {}
    for fields in (older, {"DeprecatedBuiltinCode": 0}, {}):
        b.codes = {kind: fields}
        layers.append([layer.name for layer in assert_followed(tmp_path, data_of(b)).layers])
    assert layers[0] == layers[1] == layers[2]


@pytest.mark.parametrize("kind", ["SUB", "MUL"])
@pytest.mark.parametrize("fields", [{"DeprecatedBuiltinCode": 0}, {"BuiltinCode": 0}, {}])
def test_other_operators_are_no_additions_whatever_field_says_so(tmp_path, kind, fields):
    b = file_with(kind)
    b.codes = {kind: fields}
    assert_followed(tmp_path, data_of(b))


@pytest.mark.parametrize("kind", ["ADD", "SUB"])
@pytest.mark.parametrize(
    ("larger", "smaller"), [("DeprecatedBuiltinCode", "BuiltinCode"), ("BuiltinCode", "DeprecatedBuiltinCode")]
)
def test_the_larger_of_two_codes_counts(tmp_path, kind, larger, smaller):
    """ADD is 0, which a field that is left out has, too; SUB is not."""
    b = file_with(kind)
    b.codes = {kind: {larger: schema.BuiltinOperator.DIV, smaller: getattr(schema.BuiltinOperator, kind)}}
    with pytest.raises(ValueError, match=r"unsupported: DIV; nearest: MUL by a constant \(operator \d+ 'tensor"):
        read_bytes(tmp_path, data_of(b))


def test_operators_of_a_newer_schema_are_named_by_their_number(tmp_path):
    b = file_with("ADD")
    b.codes = {"ADD": {"BuiltinCode": 987}}
    with pytest.raises(
        ValueError, match=r"unsupported: BuiltinOperator 987; nearest: CONV_2D, .* a pool \(operator 0 'tensor"
    ):
        read_bytes(tmp_path, data_of(b))


@pytest.mark.parametrize("kind", tflite_schema.FORMS)
def test_versions_are_those_of_the_reference_kernels(tmp_path, kind):
    b = file_with(kind)

    def taken(version: int) -> bool:
        b.codes = {kind: {"Version": version}}
        try:
            Interpreter(model_content=data_of(b), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        except ValueError:
            return False
        return True

    newest = next(version for version in range(1, 99) if not taken(version + 1))
    assert taken(newest)
    b.codes = {kind: {"Version": newest}}
    assert_followed(tmp_path, data_of(b))
    for version in (newest + 1, 0, -1):
        b.codes = {kind: {"Version": version}}
        with pytest.raises(
            ValueError, match=rf"unsupported: {kind} of version {version}, not 1\.\.{newest} \(operator"
        ):
            read_bytes(tmp_path, data_of(b))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("ADD", {"PotScaleInt16": False, "FusedActivationFunction": RELU}),
        ("FULLY_CONNECTED", {"AsymmetricQuantizeInputs": True}),
        ("FULLY_CONNECTED", {"QuantizedBiasType": schema.TensorType.INT32}),
        ("CONV_2D", {"QuantizedBiasType": schema.TensorType.INT32}),
        ("DEPTHWISE_CONV_2D", {"DepthMultiplier": 7}),
        ("SOFTMAX", {"Beta": 0.25}),
        ("MAX_POOL_2D", {"Padding": SAME}),
    ],
)
def test_options_without_a_meaning_for_int8_are_none(tmp_path, kind, values):
    assert_followed(tmp_path, data_of(file_with(kind, **values)))


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("FULLY_CONNECTED", {"WeightsFormat": 1}, "FULLY_CONNECTED with weights of format SHUFFLED4x16INT8"),
        ("FULLY_CONNECTED", {"WeightsFormat": 9}, "with weights of format FullyConnectedOptionsWeightsFormat 9"),
        (
            "FULLY_CONNECTED",
            {"KeepNumDims": True},
            r"FULLY_CONNECTED that keeps dimensions must read 32 values at its last, not \[1, 4, 4, 2\]",
        ),
        ("ADD", {"FusedActivationFunction": TANH}, "ADD with activation TANH"),
        ("ADD", {"FusedActivationFunction": 77}, "ADD with activation ActivationFunctionType 77"),
        ("CONV_2D", {"Padding": 5}, "CONV_2D with padding Padding 5"),
        ("CONV_2D", {"DilationWFactor": 0}, r"CONV_2D with dilation \(1, 0\)"),
        ("DEPTHWISE_CONV_2D", {"DilationHFactor": -2}, r"DEPTHWISE_CONV_2D with dilation \(-2, 1\)"),
        ("AVERAGE_POOL_2D", {"Padding": SAME}, "AVERAGE_POOL_2D with padding"),
        ("AVERAGE_POOL_2D", {"Padding": -1}, "AVERAGE_POOL_2D with padding Padding -1"),
        ("SOFTMAX", {"Beta": 0.0}, r"SOFTMAX with beta 0\.0"),
        ("SOFTMAX", {"Beta": -1.0}, r"SOFTMAX with beta -1\.0"),
        ("SOFTMAX", {"Beta": float("nan")}, "SOFTMAX with beta nan"),
    ],
)
def test_options_that_are_not_followed_are_refused(tmp_path, kind, values, expected):
    with pytest.raises(ValueError, match=rf"net\.tflite: unsupported: .*{expected}.* \(operator [01] 'tensor\d'\)$"):
        read_bytes(tmp_path, data_of(file_with(kind, **values)))


def test_a_quantization_newer_than_the_schema_is_refused(tmp_path):
    b = file_with("FULLY_CONNECTED", QuantSpec=lambda b: _empty(b, "BlockwiseQuantization"))
    with pytest.raises(ValueError, match="FULLY_CONNECTED with field 5 of FullyConnectedOptions, which is newer than"):
        read_bytes(tmp_path, data_of(b))


def _empty(b, kind: str) -> int:
    getattr(schema, f"{kind}Start")(b)
    return getattr(schema, f"{kind}End")(b)


def _empty_vector(b) -> int:
    b.StartVector(4, 0, 4)
    return b.EndVector()


def _vector(values, dtype):
    return lambda b: b.CreateNumpyVector(np.array(values, dtype=dtype))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"BuiltinOptions2Type": 18}, "CONV_2D with DilateOptions"),
        ({"BuiltinOptions2Type": 99}, "CONV_2D with BuiltinOptions2 99"),
        ({"CustomOptions": _vector([1, 2], np.uint8)}, "CONV_2D with custom options"),
        ({"LargeCustomOptionsOffset": 64, "LargeCustomOptionsSize": 8}, "CONV_2D with custom options"),
        ({"MutatingVariableInputs": _vector([0, 1, 0], bool)}, "CONV_2D that changes a variable"),
        ({"Intermediates": _vector([1], np.int32)}, "CONV_2D with intermediate tensors"),
    ],
)
def test_operators_that_say_more_are_refused(tmp_path, more, expected):
    b = file_with("CONV_2D")
    b.operators[0]["more"] = more
    with pytest.raises(ValueError, match=rf"unsupported: {expected} \(operator 0 'tensor"):
        read_bytes(tmp_path, data_of(b))


def test_options_of_another_operator_are_refused(tmp_path):
    b = file_with("CONV_2D")
    b.operators[0]["more"] = {"BuiltinOptionsType": schema.BuiltinOptions.AddOptions}
    with pytest.raises(ValueError, match=r"CONV_2D must have Conv2DOptions, not AddOptions$"):
        read_bytes(tmp_path, data_of(b))


@pytest.mark.parametrize("tensor", [0, 1, 3])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"more": {"IsVariable": True}}, "a variable"),
        ({"more": {"Sparsity": lambda b: _empty(b, "SparsityParameters")}}, "stored sparsely"),
        (
            {"more": {"ShapeSignature": _vector([1, -1, 4, 9], np.int32)}},
            r"of shape \[.*\], but of signature \[1, -1, 4",
        ),
        ({"more": {"ShapeSignature": _vector([-1, 8], np.int32)}}, r"of shape \[.*\], but of signature \[-1, 8\]"),
        ({"more": {"ExternalBuffer": 1}}, r"field 10 of Tensor, which is newer than TensorFlow 2\.18"),
        ({"quantization": {"DetailsType": 1}}, "quantized by CustomQuantization"),
        ({"quantization": {"DetailsType": 2}}, "quantized by QuantizationDetails 2"),
    ],
)
def test_tensors_that_say_more_are_refused(tmp_path, tensor, change, expected):
    b = file_with("CONV_2D")
    b.tensors[tensor].update(change)
    with pytest.raises(
        ValueError, match=rf"unsupported: tensor {tensor} \(tensor{tensor}\) {expected}.* \(operator 0 '"
    ):
        read_bytes(tmp_path, data_of(b))


def test_a_batch_of_any_size_is_followed(tmp_path):
    b = file_with("CONV_2D")
    for tensor in (0, 1):
        b.tensors[tensor]["more"] = {"ShapeSignature": _vector([-1, 4, 4, 2], np.int32)}
    assert_followed(tmp_path, data_of(b))


def test_types_of_a_newer_schema_are_named_by_their_number(tmp_path):
    b = file_with("CONV_2D")
    b.tensors[3]["more"] = {"Type": schema.TensorType.INT2}
    with pytest.raises(ValueError, match=r"weights must be INT8 constants, not TensorType 19 \(op"):
        read_bytes(tmp_path, data_of(b))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": {"Version": 4}}, "schema version 4, not 3"),
        ({"model": {"ExternalBuffers": _empty_vector}}, "field 9 of Model, which is newer than"),
    ],
)
def test_files_that_say_more_are_refused(tmp_path, change, expected):
    b = file_with("CONV_2D")
    vars(b).update(change)
    with pytest.raises(ValueError, match=f"unsupported: {expected}"):
        read_bytes(tmp_path, data_of(b))


def test_contents_behind_the_flatbuffer_are_followed(tmp_path):
    """As of models beyond 2 GB."""
    b = file_with("CONV_2D")
    inside = assert_followed(tmp_path, data_of(b))
    contents = b.tensors[3]["data"].tobytes()
    b.tensors[3]["buffer"] = {"Offset": 1 << 14, "Size": len(contents)}
    data = data_of(b).ljust(1 << 14, b"\0") + contents
    outside = assert_followed(tmp_path, data)
    np.testing.assert_array_equal(outside.layers[0].weight, inside.layers[0].weight, strict=True)
    with pytest.raises(
        ValueError, match=rf"a buffer must end within the file's {len(data) - 1} bytes, not at {len(data)}"
    ):
        read_bytes(tmp_path, data[:-1])
    b.tensors[3]["buffer"]["Data"] = _vector([1], np.uint8)
    with pytest.raises(ValueError, match=r"a buffer must have contents or an offset, not both$"):
        read_bytes(tmp_path, data_of(b))


def test_what_is_written_twice_is_refused(tmp_path):
    b = file_with("ADD")
    b.operators[0]["outputs"] = [0]
    b.operators[1]["inputs"][0] = 0
    with pytest.raises(
        ValueError, match=r"ADD that writes tensor 0 \(tensor0\), which holds something already \(operator 0 'tensor"
    ):
        read_bytes(tmp_path, data_of(b))
    b = file_with("CONV_2D")
    b.tensors[1]["data"] = np.zeros((1, 4, 4, 2), np.int8)
    with pytest.raises(
        ValueError,
        match=r"CONV_2D that writes tensor 1 \(tensor1\), which holds something already \(operator 0 'tensor",
    ):
        read_bytes(tmp_path, data_of(b))


@pytest.mark.parametrize(("sizes", "follows"), [([1, 32], True), ([-1, 32], True), ([1, -1], True), ([2, 16], False)])
def test_shapes_that_are_asked_for(tmp_path, sizes, follows):
    b = file_with("RESHAPE")
    b.tensors[3]["data"] = np.array(sizes, np.int32)
    options = file_with("RESHAPE")
    options.operators[0].update(inputs=[0], options="ReshapeOptions", values={"NewShape": _vector(sizes, np.int32)})
    for made in (b, options):
        if follows:
            assert_followed(tmp_path, data_of(made))
        else:
            with pytest.raises(
                ValueError, match=r"RESHAPE to \[2, 16\] of a tensor of shape \[1, 32\] \(operator 0 'tensor"
            ):
                read_bytes(tmp_path, data_of(made))
    b.tensors[3]["data"] = None
    with pytest.raises(
        ValueError, match=r"RESHAPE to a computed shape of a tensor of shape \[1, 32\] \(operator 0 'tensor"
    ):
        read_bytes(tmp_path, data_of(b))


@pytest.mark.parametrize(
    ("scale", "zero_point", "expected"),
    [
        (0.1 * 0.003, 0, None),
        ([0.1 * 0.003, 0.1 * 0.002], 0, None),
        (0.1 * 0.003 + 0.004, 0, r"must have the scale of input times weights, not 0\.00\d+ off"),
        (0.1 * 0.003, 3, "must be symmetric, not of zero point 3"),
        ([0.1, 0.2, 0.3], 0, "must have 2 scales as the weights, not 3"),
    ],
)
def test_biases_of_another_scale_are_refused(tmp_path, scale, zero_point, expected):
    b = file_with("CONV_2D")
    scales = np.atleast_1d(np.array(scale, np.float32))
    b.tensors[4].update(scales=scales, points=np.full(scales.shape, zero_point, np.int64))
    if expected is None:
        assert_followed(tmp_path, data_of(b))
    else:
        with pytest.raises(ValueError, match=rf"CONV_2D: the bias {expected}"):
            read_bytes(tmp_path, data_of(b))


def test_weights_need_a_zero_point_for_each_scale(tmp_path):
    b = file_with("CONV_2D")
    b.tensors[3]["points"] = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match=r"weights must have as many zero points as scales, not 1 and 2 \(op"):
        read_bytes(tmp_path, data_of(b))


def test_operators_that_read_nothing_are_named(tmp_path):
    """An operator that isn't known isn't damage."""
    b = file_with("ADD")
    b.operator("VAR_HANDLE", [], [b.tensor((1, 2), 0.1)], "VarHandleOptions")
    with pytest.raises(ValueError, match=r"unsupported: VAR_HANDLE; nearest: CONV_2D, .* a pool \(operator 2 'tensor"):
        read_bytes(tmp_path, data_of(b))
