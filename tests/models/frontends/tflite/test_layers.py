"""Forms of layers with weights that a file may say, and the accelerator takes as others, against LiteRT."""

import numpy as np
import pytest

from hw.network.network import Conv2D, DepthwiseConv2D, Linear
from models.frontends.tflite import schema as tflite_schema
from tests.models.frontends.tflite.litert_reference import assert_equals_litert
from tests.models.frontends.tflite.test_reader import NONE, RELU, RELU6, SAME, VALID, random_weight, read_bytes
from tests.models.frontends.tflite.tflite_builder import Builder


def biases(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(-2000, 2000, count).astype(np.int32)


def convolved(
    kind: str, shape, weight_shape, *, padding=SAME, stride=(1, 1), dilation=(1, 1), out=0.2, scales=None, **values
):
    """A file of a convolution of a kind, and a head."""
    rng, b = np.random.default_rng([*shape, *weight_shape, *dilation, padding]), Builder()
    count = weight_shape[3 if kind == "depthwise" else 0]
    kernel = weight_shape[1:3]
    size = []
    for axis in (0, 1):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        length = shape[1 + axis]
        size.append(-(-(length if padding == SAME else length - reach + 1) // stride[axis]))
    image, middle, logits = b.tensor(shape, 0.07, -20), b.tensor((1, *size, count), out, 9), b.tensor((1, 4), 0.5, 2)
    sizes = {"StrideH": stride[0], "StrideW": stride[1], "DilationHFactor": dilation[0], "DilationWFactor": dilation[1]}
    sizes |= {"DepthMultiplier": count // shape[3]} if kind == "depthwise" else {}
    scales = rng.uniform(0.001, 0.003, count) if scales is None else scales
    getattr(b, kind)(
        image, random_weight(rng, *weight_shape), biases(rng, count), scales, middle, Padding=padding, **sizes, **values
    )
    total = int(np.prod(size)) * count
    b.fully_connected(middle, random_weight(rng, 4, total), biases(rng, 4), 0.003, logits)
    return b.finish([image], [logits])


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
@pytest.mark.parametrize("multiplier", [2, 3])
def test_depth_multipliers(tmp_path, padding, stride, multiplier):
    model = convolved("depthwise", (1, 7, 6, 4), (1, 3, 2, 4 * multiplier), padding=padding, stride=stride)
    (layer, _) = assert_equals_litert(tmp_path, model).network.layers
    assert isinstance(layer, Conv2D)
    assert layer.weight.shape == (4 * multiplier, 3, 2, 4)
    assert (layer.weight != 0).sum() <= 3 * 2 * 4 * multiplier


@pytest.mark.parametrize("kind", ["convolution", "depthwise"])
@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("dilation", [(2, 2), (1, 3), (3, 2)])
def test_dilations(tmp_path, kind, padding, dilation):
    weight = (1, 3, 2, 4) if kind == "depthwise" else (5, 3, 2, 4)
    model = convolved(kind, (1, 9, 8, 4), weight, padding=padding, dilation=dilation)
    (layer, _) = assert_equals_litert(tmp_path, model).network.layers
    assert layer.weight.shape[1:3] == (2 * dilation[0] + 1, dilation[1] + 1)


@pytest.mark.parametrize(("groups", "count"), [(2, 6), (4, 4), (4, 8), (1, 3)])
@pytest.mark.parametrize("activation", [NONE, RELU, RELU6])
def test_groups(tmp_path, groups, count, activation):
    model = convolved("convolution", (1, 5, 6, 4), (count, 3, 3, 4 // groups), FusedActivationFunction=activation)
    (layer, _) = assert_equals_litert(tmp_path, model).network.layers
    assert isinstance(layer, DepthwiseConv2D if groups == count else Conv2D)


@pytest.mark.parametrize("scale", [0.07 / 0.002, 0.07 / 0.0007, 0.07])
@pytest.mark.parametrize("kind", ["convolution", "linear"])
def test_scales_of_one_and_more_double_the_weights(tmp_path, scale, kind):
    """Their left shift is one of weights and bias, where these are small."""
    rng, b = np.random.default_rng(3), Builder()
    image, middle, out = b.tensor((1, 4, 4, 3), 0.07, -20), b.tensor((1, 4, 4, 5), 0.07, 9), b.tensor((1, 4), 0.5, 2)
    weight = rng.integers(-1, 2, (5, 1, 1, 3)).astype(np.int8)
    scales = 0.07 / scale * np.array([1, 0.5, 1.7, 40, 30])
    if kind == "linear":
        b.tensors[image]["shape"], b.tensors[middle]["shape"] = (1, 3), (1, 5)
        b.fully_connected(image, weight.reshape(5, 3), np.arange(5, dtype=np.int32), scales, middle)
    else:
        b.convolution(image, weight, np.arange(5, dtype=np.int32), scales, middle)
    count = int(np.prod(b.tensors[middle]["shape"]))
    b.fully_connected(middle, random_weight(rng, 4, count), biases(rng, 4), 0.003, out)
    model = b.finish([image], [out])
    assert_equals_litert(tmp_path, model, count=40)
    b.tensors[3]["data"] = np.full_like(b.tensors[3]["data"], 100)
    if scale == 0.07:
        expected = (
            "the scale of input times weights must be below that of the output, not 40 times it, or weights and bias"
        )
        with pytest.raises(ValueError, match=expected):
            read_bytes(tmp_path, b.finish([image], [out]))


@pytest.mark.parametrize("activation", [NONE, RELU])
@pytest.mark.parametrize("channels", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 4, 6), (1, 7, 6)])
def test_fully_connected_at_every_position_is_a_convolution(tmp_path, activation, channels, shape):
    rng, b = np.random.default_rng(4), Builder()
    image, middle, out = b.tensor(shape, 0.07, -20), b.tensor((*shape[:-1], 5), 0.2, 9), b.tensor((1, 4), 0.5, 2)
    scales = rng.uniform(0.001, 0.004, 5) if channels else 0.002
    values = {"KeepNumDims": True, "FusedActivationFunction": activation}
    b.fully_connected(image, random_weight(rng, 5, 6), biases(rng, 5), scales, middle, **values)
    count = int(np.prod(shape[:-1])) * 5
    b.fully_connected(middle, random_weight(rng, 4, count), biases(rng, 4), 0.003, out)
    assert isinstance(assert_equals_litert(tmp_path, b.finish([image], [out])).network.layers[0], Conv2D)


@pytest.mark.parametrize("activation", [NONE, RELU6])
def test_hidden_layers_with_a_scale_per_channel(tmp_path, activation):
    rng, b = np.random.default_rng(5), Builder()
    image, middle, out = b.tensor((1, 4, 3, 2), 0.07, -20), b.tensor((1, 300), 0.2, 9), b.tensor((1, 4), 0.5, 2)
    scales = rng.uniform(0.0001, 0.01, 300)
    b.fully_connected(
        image, random_weight(rng, 300, 24), biases(rng, 300), scales, middle, FusedActivationFunction=activation
    )
    b.fully_connected(middle, random_weight(rng, 4, 300), biases(rng, 4), 0.003, out)
    layers = assert_equals_litert(tmp_path, b.finish([image], [out]), count=40).network.layers
    assert [type(layer) for layer in layers] == [Linear, Linear]


@pytest.mark.parametrize("factor", [0.5, 0.25, 0.75, 0.375, 1.5, 2**-9, 3 * 2**-12, 4.029550603393304e-07, 1e-3])
@pytest.mark.parametrize("channels", [True, False])
def test_fully_connected_rounds_real_products_half_away_from_zero(tmp_path, factor, channels):
    """Biases put every accumulator near a tie: one of whole factors, with weights, and of any, without."""
    steps = np.arange(-126, 127)[:, None] + 0.5
    sums = np.unique((np.round(steps / factor) + np.arange(-2, 3)).clip(-(1 << 30), 1 << 30)).astype(np.int32)
    for weight in (0, 1):
        b = Builder()
        count = len(sums)
        image, middle, out = b.tensor((1, 1), 0.5, 0), b.tensor((1, count), 0.5, 1), b.tensor((1, 2), 0.5)
        scales, weights = [factor] * count if channels else factor, np.full((count, 1), weight, np.int8)
        b.fully_connected(image, weights, sums, scales, middle)
        scale = np.atleast_1d(np.array(scales, np.float32) * np.float32(0.5))
        b.tensors[4].update(scales=scale, points=np.zeros(len(scale), np.int64))
        b.fully_connected(middle, np.ones((2, count), np.int8), None, 0.01, out)
        model = b.finish([image], [out])
        if factor == 1.5 and weight:  # weights of 2, at most
            assert set(assert_equals_litert(tmp_path, model).network.layers[0].weight.reshape(-1)) == {2}
        assert_equals_litert(tmp_path, model, count=5)


def test_factors_that_no_multiplier_rounds_as_the_kernel_are_refused(tmp_path):
    """Its ties are at accumulators so large that the next multiplier moves others over theirs."""
    b = Builder()
    image, middle, out = b.tensor((1, 2048), 2**-10), b.tensor((1, 2), 1.0), b.tensor((1, 2), 1.0)
    b.fully_connected(image, np.full((2, 2048), 127, np.int8), None, 301 * 2**-15, middle)
    b.fully_connected(middle, np.ones((2, 2), np.int8), None, 1.0, out)
    with pytest.raises(
        ValueError, match=r"FULLY_CONNECTED by 8\.97\d*e-06, which rounds accumulators as no 31 bits do"
    ):
        read_bytes(tmp_path, b.finish([image], [out]))


#: Operators whose options by default mean what LiteRT does without a table.
DEFAULTED = [
    "ADD",
    "CONCATENATION",
    "EXPAND_DIMS",
    "FULLY_CONNECTED",
    "MEAN",
    "MUL",
    "PAD",
    "PADV2",
    "QUANTIZE",
    "SQUEEZE",
    "SUB",
]


@pytest.mark.parametrize("kind", DEFAULTED)
def test_without_a_table_options_are_the_schemas_defaults(tmp_path, kind):
    from tests.models.frontends.tflite.test_schema import data_of, file_with

    b = file_with(kind)
    for operator in b.operators:
        operator.update(options=None)
    if kind == "CONCATENATION":  # along the batch: by default of no use
        with pytest.raises(ValueError, match="along 0; nearest: along channels"):
            read_bytes(tmp_path, data_of(b))
    else:
        assert_equals_litert(tmp_path, data_of(b))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("CONV_2D", r"CONV_2D: strides must be positive, not \(0, 0\)"),
        ("MAX_POOL_2D", r"MAX_POOL_2D: strides must be positive, not \(0, 0\)"),
        ("SOFTMAX", r"SOFTMAX with beta 0\.0; nearest: above 0"),
    ],
)
def test_defaults_that_no_operator_can_have_are_refused(tmp_path, kind, expected):
    from tests.models.frontends.tflite.test_schema import data_of, file_with

    b = file_with(kind)
    for operator in b.operators:
        operator.update(options=None)
    with pytest.raises(ValueError, match=rf"unsupported: .*{expected}"):
        read_bytes(tmp_path, data_of(b))
    assert tflite_schema.FORMS[kind].options is not None


def test_operators_that_have_no_options_may_not_be_given_any(tmp_path):
    b = Builder()
    image, middle, out = b.tensor((1, 6), 0.1), b.tensor((1, 6), 0.1), b.tensor((1, 2), 0.1)
    b.operator("RELU", [image], [middle], "AddOptions")
    b.fully_connected(middle, np.ones((2, 6), np.int8), None, 0.1, out)
    with pytest.raises(ValueError, match=r"RELU must have no options, not AddOptions$"):
        read_bytes(tmp_path, b.finish([image], [out]))
