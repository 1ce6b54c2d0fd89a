import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from hw.network.network import INPUT, Conv2D, Network
from hw.numerics import Rounding, quantize_scale, requantize
from models.frontends.tflite import file as tflite_file
from models.frontends.tflite import reader as tflite_reader
from models.integer import golden
from tests.models.frontends.tflite.litert_reference import cifar10_test, data_file, litert
from tests.models.frontends.tflite.tflite_builder import Builder

SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6, TANH = 0, 1, 2, 3, 4


def read_bytes(tmp_path, data: bytes) -> Network:
    path = tmp_path / "net.tflite"
    path.write_bytes(data)
    return tflite_reader.read(path)


def random_weight(rng, *shape):
    return rng.integers(-127, 128, shape).astype(np.int8)


def assert_equal_to_litert(network: Network, model: bytes, codes: np.ndarray, output_of: dict[str, int]) -> int:
    """Every requantized tensor, and the head requantized as the file says; returns how many were compared."""
    result = golden.run(network, codes)
    reference = litert(model, codes)
    for layer in network.layers[:-1]:
        expected = reference[output_of[layer.name]].reshape(len(codes), *layer.output.shape)
        np.testing.assert_array_equal(result.tensors[layer.name], expected, err_msg=layer.name, strict=True)
    return len(network.layers)


def head_codes(result: golden.Result, network: Network, scale: float, zero_point: int) -> np.ndarray:
    """The raw logits as the int8 codes that FULLY_CONNECTED writes in the file."""
    factor = quantize_scale(network.layers[-1].output.scale / float(np.float32(scale)))
    codes = requantize(result.logits[-1], *factor, Rounding.SINGLE) + zero_point
    return codes.clip(-128, 127).astype(np.int8)


def test_official_resnet8_equals_the_reference_kernels_layer_by_layer(data_root):
    path = data_file(data_root, "mlperf_tiny", "pretrainedResnet_quant.tflite")
    model, network = path.read_bytes(), tflite_reader.read(path)
    images, _ = cifar10_test(data_root, 64)
    codes = (images.astype(np.int16) - 128).astype(np.int8)
    # Operator k of the file writes tensor 22 + k; RESHAPE (13) and SOFTMAX (15) are dropped.
    outputs = {layer.name: 22 + int(layer.name.rsplit("_", 1)[1]) for layer in network.layers}
    assert assert_equal_to_litert(network, model, codes, outputs) == 14
    reference, result = litert(model, codes), golden.run(network, codes)
    np.testing.assert_array_equal(result.tensors[INPUT], reference[0], strict=True)
    output = tflite_file.parse(path).tensors[36]
    head = head_codes(result, network, output.scales[0], output.zero_points[0])
    np.testing.assert_array_equal(head, reference[36], strict=True)


def test_official_resnet8_accuracy(data_root):
    network = tflite_reader.read(data_file(data_root, "mlperf_tiny", "pretrainedResnet_quant.tflite"))
    images, labels = cifar10_test(data_root, 1000)
    codes = (images.astype(np.int16) - 128).astype(np.int8)
    assert golden.run(network, codes, keep=False).accuracy(labels) >= 0.85


@pytest.mark.parametrize("kind", ["convolution", "depthwise", "max_pool", "average_pool"])
def test_an_operator_of_a_constant_is_refused(tmp_path, kind):
    b, weight = Builder(), np.ones((3, 2, 2, 3), dtype=np.int8)
    image, output = b.tensor((1, 4, 4, 3), 0.1), b.tensor((1, 3, 3, 3), 0.1)
    constant = b.tensor((1, 4, 4, 3), 0.1, data=np.ones((1, 4, 4, 3), np.int8))
    if kind == "convolution":
        b.convolution(constant, weight, None, 0.1, output, Padding=VALID)
    elif kind == "depthwise":
        b.depthwise(constant, weight[:1], None, (0.1, 0.1, 0.1), output, Padding=VALID, DepthMultiplier=1)
    else:
        getattr(b, kind)(constant, output, (2, 2), (1, 1), Padding=VALID)
    flat, logits = b.tensor((1, 27), 0.1), b.tensor((1, 3), 0.1)
    b.operator("RESHAPE", [output, b.tensor((2,), data=np.array([1, 27], np.int32), dtype="int32")], [flat])
    b.fully_connected(flat, np.ones((3, 27), dtype=np.int8), None, 0.1, logits)
    with pytest.raises(
        ValueError, match=r"tensor 2 \(tensor2\) must be computed by an earlier operator, not be a constant"
    ):
        read_bytes(tmp_path, b.finish([image], [logits]))


@pytest.mark.parametrize(("scale", "zero_point"), [(0.05, -5), (0.1, 20)])
def test_a_reshape_that_gives_codes_another_meaning_is_refused(tmp_path, scale, zero_point):
    b = Builder()
    image, flat, logits = b.tensor((1, 2, 2, 3), 0.1, -5), b.tensor((1, 12), scale, zero_point), b.tensor((1, 3), 0.1)
    b.operator("RESHAPE", [image, b.tensor((2,), data=np.array([1, 12], np.int32), dtype="int32")], [flat])
    b.fully_connected(flat, np.ones((3, 12), dtype=np.int8), None, 0.1, logits)
    with pytest.raises(
        ValueError, match=r"unsupported: RESHAPE to another scale or zero point \(operator 0 'tensor1'\)$"
    ):
        read_bytes(tmp_path, b.finish([image], [logits]))


def small_network(rng, *, height, width, stride, padding, activation, zero_points=(3, -20, 7), bias=True):
    """Convolution, residual add of two branches, hidden and final FULLY_CONNECTED; odd scales everywhere."""
    b = Builder()
    image = b.tensor((1, height, width, 3), 0.071, zero_points[0])
    steps = (-(-height // stride[0]), -(-width // stride[1]))
    if padding == VALID:
        steps = ((height - 3) // stride[0] + 1, (width - 2) // stride[1] + 1)
    maps = []
    for branch, scale in enumerate((0.113, 0.29)):
        maps.append(b.tensor((1, *steps, 5), scale, zero_points[1] + branch))
        scales = rng.uniform(0.001, 0.004, 5).astype(np.float32)
        biases = rng.integers(-20000, 20000, 5).astype(np.int32)
        values = {"StrideH": stride[0], "StrideW": stride[1], "Padding": padding, "FusedActivationFunction": activation}
        b.convolution(image, random_weight(rng, 5, 3, 2, 3), biases, scales, maps[-1], **values)
    total = b.tensor((1, *steps, 5), 0.31, zero_points[2])
    b.operator("ADD", maps, [total], "AddOptions", FusedActivationFunction=activation)
    hidden, logits = b.tensor((1, 9), 0.4, -3), b.tensor((1, 4), 0.5, 2)
    count = 5 * steps[0] * steps[1]
    flat = b.tensor((1, count), 0.31, zero_points[2])
    shape = b.tensor((2,), data=np.array([1, count], dtype=np.int32), dtype="int32")
    b.operator("RESHAPE", [total, shape], [flat])
    biases = rng.integers(-2000, 2000, 9).astype(np.int32) if bias else None
    b.fully_connected(flat, random_weight(rng, 9, count), biases, 0.0033, hidden, FusedActivationFunction=activation)
    b.fully_connected(hidden, random_weight(rng, 4, 9), None, 0.0021, logits)
    out = b.tensor((1, 4), 1 / 256, -128)
    b.operator("SOFTMAX", [logits], [out], "SoftmaxOptions", Beta=1.0)
    outputs = {"conv2d_0": maps[0], "conv2d_1": maps[1], "add_2": total, "linear_4": hidden, "linear_5": logits}
    return b.finish([image], [out]), outputs


@pytest.mark.parametrize("activation", [NONE, RELU, RELU6, RELU_N1_TO_1])
@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 2)])
def test_generated_networks_equal_the_reference_kernels(tmp_path, activation, padding, stride):
    rng = np.random.default_rng([activation, padding, *stride])
    for height, width in ((7, 6), (4, 9)):
        sizes = {"height": height, "width": width, "stride": stride, "padding": padding}
        model, outputs = small_network(rng, **sizes, activation=activation, bias=bool(height % 2))
        network = read_bytes(tmp_path, model)
        assert [layer.name for layer in network.layers] == list(outputs)
        codes = rng.integers(-128, 128, (12, height, width, 3)).astype(np.int8)
        assert assert_equal_to_litert(network, model, codes, outputs) == 5
        head = head_codes(golden.run(network, codes), network, 0.5, 2)
        np.testing.assert_array_equal(head, litert(model, codes)[outputs["linear_5"]], strict=True)


def test_precision_of_the_product_of_scales(tmp_path):
    """The kernels multiply input and weight scale in float64, not in float32.

    Zero weights and chosen biases give accumulators that the two factors round to different codes.
    """
    scales = [float(np.float32(value)) for value in (0.0007128374, 0.00033917, 0.6)]
    single = float(np.float32(scales[0]) * np.float32(scales[1])) / scales[2]
    double = scales[0] * scales[1] / scales[2]
    candidates = np.array([int((code + 0.5) / double) + near for code in range(-120, 120) for near in (-1, 0, 1)])
    telling = {}
    for rounding in Rounding:
        codes = [requantize(candidates, *quantize_scale(factor), rounding) for factor in (single, double)]
        telling[rounding] = candidates[codes[0] != codes[1]].astype(np.int32)
        assert len(telling[rounding]) > 20
    biases = np.concatenate(list(telling.values()))
    count = len(biases)
    b = Builder()
    image, middle = b.tensor((1, 1, 1, 3), scales[0]), b.tensor((1, 1, 1, count), scales[2])
    hidden, total = b.tensor((1, 1, 1, count), scales[2]), b.tensor((1, 1, 1, count), 1.3)
    out = b.tensor((1, 2), 0.9)
    b.convolution(image, np.zeros((count, 1, 1, 3), np.int8), biases, scales[1], middle)
    b.fully_connected(image, np.zeros((count, 3), np.int8), biases, scales[1], hidden, KeepNumDims=1)
    b.operator("ADD", [middle, hidden], [total], "AddOptions")
    b.fully_connected(total, np.ones((2, count), np.int8), None, 0.01, out)
    model = b.finish([image], [out])
    outputs = {"conv2d_0": middle, "linear_1": hidden, "add_2": total}
    codes = np.zeros((1, 1, 1, 3), dtype=np.int8)
    assert assert_equal_to_litert(read_bytes(tmp_path, model), model, codes, outputs) == 4


def average_pool_network(window=(4, 4), output=(1, 1), name="AVERAGE_POOL_2D"):
    b = Builder()
    image, pooled, out = b.tensor((1, 4, 4, 3), 0.1, 5), b.tensor((1, *output, 3), 0.1, 5), b.tensor((1, 2), 0.2)
    if name == "MEAN":
        axes = b.tensor((2,), data=np.array([1, 2], dtype=np.int32), dtype="int32")
        b.operator("MEAN", [image, axes], [pooled], "ReducerOptions", KeepDims=1)
    else:
        values = {"StrideH": 1, "StrideW": 1, "FilterHeight": window[0], "FilterWidth": window[1], "Padding": VALID}
        b.operator(name, [image], [pooled], "Pool2DOptions", **values)
    weight = np.ones((2, 3 * output[0] * output[1]), dtype=np.int8)
    b.fully_connected(pooled, weight, None, 0.01, out)
    return b.finish([image], [out]), pooled


def test_average_pool_equals_the_reference_kernel_at_every_sum(tmp_path):
    model, pooled = average_pool_network()
    network = read_bytes(tmp_path, model)
    base = np.arange(-128, 127, dtype=np.int64)[:, None] * np.ones(16, dtype=np.int64)
    steps = np.concatenate([base + (np.arange(16) < extra) for extra in range(17)])
    codes = np.repeat(steps.reshape(-1, 4, 4, 1), 3, axis=3).astype(np.int8)[::5]
    result = golden.run(network, codes)
    expected = litert(model, codes)[pooled]
    np.testing.assert_array_equal(result.tensors["average_pool_0"], expected, strict=True)
    exact = [Fraction(int(total), 16) for total in codes[..., 0].sum(axis=(1, 2), dtype=np.int64)]
    away = [int(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1) for value in exact]
    np.testing.assert_array_equal(result.tensors["average_pool_0"][:, 0, 0, 0], away)


def test_mean_equals_the_reference_kernel_which_rounds_otherwise_than_the_pool(tmp_path):
    model, pooled = average_pool_network(name="MEAN")
    codes = np.random.default_rng(0).integers(-128, 128, (64, 4, 4, 3)).astype(np.int8)
    pool_model, pool_pooled = average_pool_network()
    expected = litert(model, codes)[pooled]
    assert (expected != litert(pool_model, codes)[pool_pooled]).any()
    found = golden.run(read_bytes(tmp_path, model), codes).tensors["mean_0"]
    np.testing.assert_array_equal(found, expected, strict=True)


def test_all_that_is_unsupported_stands_in_one_error(tmp_path):
    b = Builder()
    maps = [b.tensor((1, 4, 4, 2), 0.1) for _ in range(6)]
    b.operator("LOGISTIC", maps[0:1], maps[1:2])
    b.convolution(maps[1], random_weight(np.random.default_rng(0), 2, 1, 1, 2), None, 0.1, maps[2], DilationHFactor=0)
    b.operator("ADD", maps[1:3], maps[3:4], "AddOptions", FusedActivationFunction=TANH)
    b.operator("SOFTMAX", maps[3:4], maps[4:5], "SoftmaxOptions", Beta=1.0)
    b.operator("TANH", maps[4:5], maps[5:6])
    b.operator("LOGISTIC", maps[5:6], maps[0:1])
    b.convolution(maps[5], random_weight(np.random.default_rng(0), 2, 1, 1, 2), None, 0.1, b.tensor((1, 4, 4, 2), 0.1))
    expected = (
        r"unsupported: LOGISTIC before the end; nearest: at the end only "
        r"\(operator 0 'tensor1', operator 5 'tensor0'\); "
        r"CONV_2D with dilation \(0, 1\) \(operator 1 'tensor2'\); "
        r"ADD with activation TANH; nearest: NONE, RELU, RELU6, RELU_N1_TO_1, RELU_0_TO_1 \(operator 2 'tensor3'\); "
        r"SOFTMAX before the end, or over the channels of a map; nearest: at the end only, over all values "
        r"\(operator 3 'tensor4'\); "
        r"TANH; nearest: RELU_N1_TO_1 \(operator 4 'tensor5'\); "
        r"LOGISTIC that writes tensor 0 \(tensor0\), which holds something already \(operator 5 'tensor0'\)$"
    )
    with pytest.raises(ValueError, match=expected):
        read_bytes(tmp_path, b.finish([maps[0]], b.operators[-1]["outputs"]))


def test_an_output_of_too_many_values_is_among_the_reasons(tmp_path):
    b = Builder()
    image, odd, out = (b.tensor((1, 32, 32, 3), 1 / 255, -128) for _ in range(3))
    b.operator("HARD_SWISH", [image], [odd])
    b.convolution(odd, np.ones((3, 1, 1, 3), np.int8), None, (0.01,) * 3, out)
    with pytest.raises(
        ValueError,
        match=r"unsupported: HARD_SWISH; nearest: RELU6 \(operator 0 'tensor1'\); "
        r"output tensor 2 \(tensor2\) must have at most 2048 values, not 3072$",
    ):
        read_bytes(tmp_path, b.finish([image], [out]))


def test_one_reason_names_some_of_its_operators(tmp_path):
    b = Builder()
    maps = [b.tensor((1, 4, 4, 2), 0.1) for _ in range(12)]
    for before, after in pairwise(maps):
        b.operator("ELU", [before], [after])
    b.operators[-1]["name"] = "COS"
    expected = (
        r"unsupported: ELU; nearest: RELU \(operator 0 'tensor1', .*operator 7 'tensor8', 2 more\); "
        r"COS; nearest: CONV_2D, FULLY_CONNECTED, ADD or a pool \(operator 10 "
    )
    with pytest.raises(ValueError, match=expected):
        read_bytes(tmp_path, b.finish(maps[:1], maps[-1:]))


def head_only(
    *, source=(1, 1, 1, 3), dtype="int8", scale=0.1, zero_point=0, weight=None, weight_scale=0.01, bias=None, **values
):
    """A file of one FULLY_CONNECTED, with something wrong in it."""
    b = Builder()
    image, out = b.tensor(source, scale, zero_point, dtype=dtype), b.tensor((1, 2), 0.2)
    b.fully_connected(image, np.ones((2, 3), np.int8) if weight is None else weight, bias, weight_scale, out, **values)
    return b.finish([image], [out])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dtype": "uint8"}, r"unsupported: tensor 0 \(tensor0\) must be INT8, or become so by a QUANTIZE, not UINT8$"),
        ({"scale": [0.1, 0.2]}, "must have one scale and one zero point, not 2 and 2$"),
        ({"scale": None}, "must have one scale and one zero point, not 0 and 0$"),
        ({"source": (2, 1, 1, 3)}, r"must be a batch of one map, not \[2, 1, 1, 3\]$"),
        (
            {"weight": np.ones((2, 4), np.int8)},
            r"weights must cover the input \(1, 1, 3\), not have \(2, 4\) \(operator 0 'tensor1'\)$",
        ),
        (
            {"weight_scale": [0.1, 0.2, 0.3]},
            r"weights must be symmetric with one scale, or one per output channel \(op",
        ),
        (
            {"bias": np.ones(3, np.int32)},
            r"FULLY_CONNECTED: the bias must be of 2 values, not of shape \(3,\) \(operator 0",
        ),
    ],
)
def test_impossible_heads_are_refused(tmp_path, changes, expected):
    with pytest.raises(ValueError, match=expected):
        read_bytes(tmp_path, head_only(**changes))


def test_scale_above_one_names_the_operator(tmp_path):
    b = Builder()
    image, hidden, out = b.tensor((1, 1, 1, 3), 10.0), b.tensor((1, 3), 0.01), b.tensor((1, 2), 1.0)
    b.fully_connected(image, np.ones((3, 3), np.int8), None, 1.0, hidden)
    b.fully_connected(hidden, np.ones((2, 3), np.int8), None, 1.0, out)
    with pytest.raises(
        ValueError, match=r"requantization scale must be above 0 and below 128, not 1e\+03 \(operator 0 'tensor1'\)"
    ):
        read_bytes(tmp_path, b.finish([image], [out]))


def test_wrong_weight_types(tmp_path):
    for position, expected in ((1, "weights must be INT8 constants"), (2, "the bias must be an INT32 constant")):
        b = Builder()
        image, out = b.tensor((1, 1, 1, 3), 0.1), b.tensor((1, 2), 0.1)
        b.fully_connected(image, np.ones((2, 3), np.int8), np.ones(2, np.int32), 0.1, out)
        b.operators[0]["inputs"][position] = image if position == 2 else b.tensor((2, 3), 0.1)
        with pytest.raises(ValueError, match=expected):
            read_bytes(tmp_path, b.finish([image], [out]))


def test_convolution_weights_need_four_dimensions(tmp_path):
    b = Builder()
    image, middle, out = b.tensor((1, 2, 2, 3), 0.1), b.tensor((1, 2, 2, 2), 0.1), b.tensor((1, 2), 0.1)
    b.convolution(image, np.ones((2, 3), np.int8), None, 0.1, middle)
    b.fully_connected(middle, np.ones((2, 8), np.int8), None, 0.1, out)
    with pytest.raises(ValueError, match=r"CONV_2D: weights must have 4 dimensions, not 2 \(operator 0 'tensor1'\)"):
        read_bytes(tmp_path, b.finish([image], [out]))


def test_stride_of_zero_is_refused(tmp_path):
    b = Builder()
    image, middle, out = b.tensor((1, 2, 2, 3), 0.1), b.tensor((1, 2, 2, 2), 0.1), b.tensor((1, 2), 0.1)
    b.convolution(image, np.ones((2, 1, 1, 3), np.int8), None, 0.1, middle, StrideW=0)
    b.fully_connected(middle, np.ones((2, 8), np.int8), None, 0.1, out)
    with pytest.raises(ValueError, match=r"CONV_2D: strides must be positive, not \(1, 0\) \(operator 0 'tensor1'\)"):
        read_bytes(tmp_path, b.finish([image], [out]))


def test_outputs_that_nothing_computes(tmp_path):
    b = Builder()
    image, other, out = b.tensor((1, 1, 1, 3), 0.1), b.tensor((1, 1, 1, 3), 0.1), b.tensor((1, 2), 0.1)
    with pytest.raises(ValueError, match=r"unsupported: output tensor 2 \(tensor2\) must be computed by an operator$"):
        read_bytes(tmp_path, b.finish([image], [out]))
    with pytest.raises(ValueError, match=r"must have one input and an output or more, not 1 and 0$"):
        read_bytes(tmp_path, b.finish([image], []))
    with pytest.raises(ValueError, match=r"must have one input and an output or more, not 2 and 1$"):
        read_bytes(tmp_path, b.finish([image, other], [out]))


def test_per_tensor_convolution_scale_serves_every_channel(tmp_path):
    b = Builder()
    image, middle, out = b.tensor((1, 2, 2, 3), 0.1), b.tensor((1, 2, 2, 2), 0.3), b.tensor((1, 2), 0.1)
    b.convolution(image, np.ones((2, 1, 1, 3), np.int8), None, 0.02, middle)
    b.fully_connected(middle, np.ones((2, 8), np.int8), None, 0.1, out)
    layer = read_bytes(tmp_path, b.finish([image], [out])).layers[0]
    assert isinstance(layer, Conv2D)
    factor = float(np.float32(0.1)) * float(np.float32(0.02)) / float(np.float32(0.3))
    np.testing.assert_array_equal(layer.multiplier, [quantize_scale(factor).multiplier] * 2)


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(ModuleNotFoundError, match="reading TFLite files needs the package tflite: pip install tflite"):
        read_bytes(tmp_path, head_only())
