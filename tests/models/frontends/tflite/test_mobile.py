"""Depthwise convolutions and windowed pools of TFLite files, and the official networks that have them."""

import numpy as np
import pytest

from hw.network.network import AveragePool2D, Conv2D, DepthwiseConv2D, GlobalAveragePool, MaxPool2D, Network
from models.frontends.tflite import file as tflite_file
from models.frontends.tflite import reader as tflite_reader
from models.integer import golden
from tests.models.frontends.tflite.litert_reference import cifar10_test, data_file, litert
from tests.models.frontends.tflite.test_reader import (
    NONE,
    RELU,
    RELU6,
    SAME,
    VALID,
    head_codes,
    random_weight,
    read_bytes,
)
from tests.models.frontends.tflite.tflite_builder import Builder


def assert_official_equals_litert(path, codes: np.ndarray) -> Network:
    """Every layer's tensor, and the head requantized as the file says."""
    network, graph = tflite_reader.read(path), tflite_file.parse(path)
    result, reference = golden.run(network, codes), litert(path.read_bytes(), codes)
    for layer in network.layers:
        number = graph.operators[int(layer.name.rsplit("_", 1)[1])].outputs[0]
        found = result.tensors[layer.name]
        if layer is network.layers[-1]:
            output = graph.tensors[number]
            found = head_codes(result, network, output.scales[0], output.zero_points[0])
        expected = reference[number].reshape(found.shape)
        np.testing.assert_array_equal(found, expected, err_msg=layer.name, strict=True)
    return network


def test_official_keyword_spotting_equals_the_reference_kernels_layer_by_layer(data_root):
    samples = np.load(data_file(data_root, "mlperf_tiny", "kws01.npz"), allow_pickle=False)
    codes = samples["X"][:64, :, :, np.newaxis]
    network = assert_official_equals_litert(data_file(data_root, "mlperf_tiny", "kws_ref_model.tflite"), codes)
    kinds = [type(layer) for layer in network.layers]
    assert kinds[:-1] == [Conv2D, *[DepthwiseConv2D, Conv2D] * 4, GlobalAveragePool]
    assert network.layers[0].weight.shape == (64, 10, 4, 1)
    assert (network.layers[0].stride, network.layers[0].pads) == ((2, 2), (4, 5, 1, 1))


def test_official_keyword_spotting_accuracy(data_root):
    """By int8 logits 901 of 1000, as LiteRT's reference kernels; the raw ones tell equal int8 logits apart."""
    path = data_file(data_root, "mlperf_tiny", "kws_ref_model.tflite")
    network, samples = (
        tflite_reader.read(path),
        np.load(data_file(data_root, "mlperf_tiny", "kws01.npz"), allow_pickle=False),
    )
    result = golden.run(network, samples["X"][:, :, :, np.newaxis], keep=False)
    output = tflite_file.parse(path).tensors[33]
    codes = head_codes(result, network, output.scales[0], output.zero_points[0])
    assert (codes.argmax(axis=1) == samples["y"]).sum() == 901
    assert result.accuracy(samples["y"]) >= 0.895


def test_official_visual_wake_words_equals_the_reference_kernels_layer_by_layer(data_root):
    images, _ = cifar10_test(data_root, 6)
    codes = (images.repeat(3, axis=1).repeat(3, axis=2).astype(np.int16) - 128).astype(np.int8)
    network = assert_official_equals_litert(data_file(data_root, "mlperf_tiny", "vww_96_int8.tflite"), codes)
    assert [type(layer) for layer in network.layers].count(DepthwiseConv2D) == 13
    assert sum(layer.weight.size for layer in network.layers if hasattr(layer, "weight")) == 208_112


def test_channels_without_weights_need_no_wide_accumulator(data_root):
    """The official MobileNet has biases of 2**30 there."""
    graph = tflite_file.parse(data_file(data_root, "mlperf_tiny", "vww_96_int8.tflite"))
    network = tflite_reader.read(data_file(data_root, "mlperf_tiny", "vww_96_int8.tflite"))
    biases = [graph.tensors[o.inputs[2]].data for o in graph.operators if len(o.inputs) == 3]
    assert max(int(np.abs(bias.astype(np.int64)).max()) for bias in biases) >= 1 << 30
    for layer in network.layers:
        if isinstance(layer, Conv2D | DepthwiseConv2D):
            dead = ~layer.weight.any(axis=(1, 2, 3))
            assert np.abs(layer.bias[dead]).max(initial=0) <= 510
            assert np.abs(layer.bias).max() < 1 << 27


@pytest.mark.parametrize("bias", [0, 1, -1, 77, -3000, 1 << 20, 1 << 30, -(1 << 30), (1 << 31) - 1, -(1 << 31)])
def test_channels_without_weights_equal_the_reference_kernels(tmp_path, bias):
    b = Builder()
    image, middle, hidden = b.tensor((1, 2, 2, 3), 0.1), b.tensor((1, 2, 2, 2), 0.3, 40), b.tensor((1, 2), 0.1, -90)
    out = b.tensor((1, 2), 0.1)
    weight, biases = np.zeros((2, 1, 1, 3), np.int8), np.full(2, bias, dtype=np.int32)
    weight[1] = 3 if abs(bias) < 1 << 30 else 0
    b.convolution(image, weight, biases, [1e-8, 0.02], middle)
    b.fully_connected(middle, np.zeros((2, 8), np.int8), biases, 1e-6, hidden)
    b.fully_connected(hidden, np.ones((2, 2), np.int8), None, 0.1, out)
    model = b.finish([image], [out])
    codes = np.random.default_rng(0).integers(-128, 128, (5, 2, 2, 3)).astype(np.int8)
    result, reference = golden.run(read_bytes(tmp_path, model), codes), litert(model, codes)
    np.testing.assert_array_equal(result.tensors["conv2d_0"], reference[middle], strict=True)
    np.testing.assert_array_equal(result.tensors["linear_1"].reshape(5, 2), reference[hidden], strict=True)


def same(size: int, stride: int) -> int:
    return -(-size // stride)


@pytest.mark.parametrize("activation", [NONE, RELU, RELU6])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 3), (2, 2)), ((10, 4), (2, 2)), ((1, 5), (1, 2)), ((11, 11), (1, 1))]
)
@pytest.mark.parametrize("channels", [1, 2, 7])
def test_generated_depthwise_networks_equal_the_reference_kernels(tmp_path, activation, kernel, stride, channels):
    """Depthwise SAME, average pool with a window, depthwise VALID, head; several zero points and odd sizes."""
    rng = np.random.default_rng([activation, *kernel, channels])
    height, width, b = 13, 9, Builder()
    image = b.tensor((1, height, width, channels), 0.07, -20)
    rows, columns = same(height, stride[0]), same(width, stride[1])
    deep = b.tensor((1, rows, columns, channels), 0.11, 9)
    scales = rng.uniform(0.001, 0.003, channels).astype(np.float32)
    biases = rng.integers(-20000, 20000, channels).astype(np.int32)
    weight = random_weight(rng, 1, *kernel, channels)
    values = {"StrideH": stride[0], "StrideW": stride[1], "DepthMultiplier": 1, "FusedActivationFunction": activation}
    b.depthwise(image, weight, biases, scales, deep, Padding=SAME, **values)
    pooled = b.tensor((1, rows - 1, (columns - 3) // 2 + 1, channels), 0.11, 9)
    b.average_pool(deep, pooled, (2, 3), (1, 2), Padding=VALID, FusedActivationFunction=activation)
    last = b.tensor((1, rows - 2, (columns - 3) // 2 + 1, channels), 0.2, -100)
    b.depthwise(pooled, random_weight(rng, 1, 2, 1, channels), None, 0.004, last, Padding=VALID, DepthMultiplier=1)
    logits = b.tensor((1, 4), 0.5, 2)
    count = (rows - 2) * ((columns - 3) // 2 + 1) * channels
    b.fully_connected(last, random_weight(rng, 4, count), None, 0.0021, logits)
    model = b.finish([image], [logits])
    network = read_bytes(tmp_path, model)
    kind = DepthwiseConv2D if channels > 1 else Conv2D
    assert [type(layer) for layer in network.layers[:-1]] == [kind, AveragePool2D, kind]
    codes = rng.integers(-128, 128, (9, height, width, channels)).astype(np.int8)
    result, reference = golden.run(network, codes), litert(model, codes)
    for layer, number in zip(network.layers, (deep, pooled, last), strict=False):
        np.testing.assert_array_equal(result.tensors[layer.name], reference[number], err_msg=layer.name, strict=True)
    np.testing.assert_array_equal(head_codes(result, network, 0.5, 2), reference[logits], strict=True)


@pytest.mark.parametrize("activation", [NONE, RELU, RELU6])
@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize(
    ("window", "stride"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((5, 2), (1, 3)), ((1, 4), (3, 1)), ((9, 8), (1, 1))]
)
def test_max_pools_equal_the_reference_kernels(tmp_path, activation, padding, window, stride):
    """Odd sizes, a window as large as the map, a zero point inside."""
    rng = np.random.default_rng([activation, padding, *window])
    size, b = (9, 8), Builder()
    image = b.tensor((1, *size, 3), 0.07, -20)
    shape = [same(size[a] if padding == SAME else size[a] - window[a] + 1, stride[a]) for a in (0, 1)]
    pooled, logits = b.tensor((1, *shape, 3), 0.07, -20), b.tensor((1, 4), 0.5, 2)
    b.max_pool(image, pooled, window, stride, Padding=padding, FusedActivationFunction=activation)
    b.fully_connected(pooled, random_weight(rng, 4, 3 * shape[0] * shape[1]), None, 0.0021, logits)
    model = b.finish([image], [logits])
    network = read_bytes(tmp_path, model)
    layer = network.layers[0]
    assert isinstance(layer, MaxPool2D)
    assert (layer.name, layer.window, layer.stride) == ("max_pool2d_0", window, stride)
    assert padding == SAME or not any(layer.pads)
    codes = rng.integers(-128, 128, (9, *size, 3)).astype(np.int8)
    codes[0] = rng.integers(-128, -60, codes[0].shape)
    result, reference = golden.run(network, codes), litert(model, codes)
    np.testing.assert_array_equal(result.tensors[layer.name], reference[pooled], strict=True)
    np.testing.assert_array_equal(head_codes(result, network, 0.5, 2), reference[logits], strict=True)


def test_channel_multiplier_of_a_single_input_channel_is_a_convolution(tmp_path):
    rng = np.random.default_rng(3)
    b = Builder()
    image, deep, out = b.tensor((1, 5, 4, 1), 0.07, 11), b.tensor((1, 5, 4, 6), 0.3, -5), b.tensor((1, 2), 0.5)
    weight, scales = random_weight(rng, 1, 3, 3, 6), rng.uniform(0.001, 0.003, 6)
    b.depthwise(image, weight, None, scales, deep, Padding=SAME, DepthMultiplier=6)
    b.fully_connected(deep, random_weight(rng, 2, 120), None, 0.002, out)
    model = b.finish([image], [out])
    network = read_bytes(tmp_path, model)
    layer = network.layers[0]
    assert isinstance(layer, Conv2D)
    np.testing.assert_array_equal(layer.weight[:, :, :, 0], weight[0].transpose(2, 0, 1))
    codes = rng.integers(-128, 128, (20, 5, 4, 1)).astype(np.int8)
    expected = litert(model, codes)[deep]
    np.testing.assert_array_equal(golden.run(network, codes).tensors["conv2d_0"], expected, strict=True)


def test_same_padding_that_pads_nothing_is_none(tmp_path):
    b = Builder()
    image, pooled, out = b.tensor((1, 4, 6, 2), 0.1), b.tensor((1, 2, 3, 2), 0.1), b.tensor((1, 2), 0.2)
    b.average_pool(image, pooled, (2, 2), (2, 2), Padding=SAME)
    b.fully_connected(pooled, np.ones((2, 12), np.int8), None, 0.01, out)
    assert isinstance(read_bytes(tmp_path, b.finish([image], [out])).layers[0], AveragePool2D)


def test_unsupported_forms_are_named(tmp_path):
    b = Builder()
    image, pooled, out = b.tensor((1, 4, 4, 4), 0.1), b.tensor((1, 4, 4, 4), 0.1), b.tensor((1, 2), 0.2)
    b.average_pool(image, pooled, (2, 2), (1, 1), Padding=SAME)
    b.fully_connected(pooled, np.ones((2, 64), np.int8), None, 0.01, out)
    expected = (
        r"unsupported: AVERAGE_POOL_2D with padding, whose divisor is another at the edges; nearest: without padding "
        r"\(operator 0 'tensor1'\)$"
    )
    with pytest.raises(ValueError, match=expected):
        read_bytes(tmp_path, b.finish([image], [out]))


@pytest.mark.parametrize(
    ("weight", "scales", "stride", "expected"),
    [
        (np.ones((3, 3, 2), np.int8), 0.1, 1, "weights must have 4 dimensions, not 3"),
        (np.ones((1, 3, 3, 2), np.int8), [0.1, 0.2, 0.3], 1, "weights must be symmetric with one scale, or one per"),
        (np.ones((1, 3, 3, 2), np.int8), 0.1, 0, r"strides must be positive, not \(1, 0\)"),
    ],
)
def test_impossible_depthwise_convolutions_are_refused(tmp_path, weight, scales, stride, expected):
    b = Builder()
    image, middle, out = b.tensor((1, 4, 4, 2), 0.1), b.tensor((1, 2, 2, 2), 0.1), b.tensor((1, 2), 0.1)
    b.depthwise(image, weight, None, scales, middle, Padding=VALID, StrideW=stride, DepthMultiplier=1)
    b.fully_connected(middle, np.ones((2, 8), np.int8), None, 0.1, out)
    with pytest.raises(ValueError, match=rf"DEPTHWISE_CONV_2D: {expected}.* \(operator 0 'tensor1'\)$"):
        read_bytes(tmp_path, b.finish([image], [out]))


def test_per_channel_scales_lie_along_the_last_axis(tmp_path):
    b = Builder()
    image, middle, out = b.tensor((1, 4, 4, 2), 0.1), b.tensor((1, 2, 2, 2), 0.1), b.tensor((1, 2), 0.1)
    b.depthwise(image, np.ones((1, 3, 3, 2), np.int8), None, [0.1, 0.2], middle, Padding=VALID, DepthMultiplier=1)
    b.tensors[3]["axis"] = 0
    b.fully_connected(middle, np.ones((2, 8), np.int8), None, 0.1, out)
    with pytest.raises(ValueError, match="weights must be symmetric with one scale, or one per output channel"):
        read_bytes(tmp_path, b.finish([image], [out]))


def test_pool_with_strides_of_zero_is_refused(tmp_path):
    for padding in (SAME, VALID):
        b = Builder()
        image, pooled, out = b.tensor((1, 4, 6, 2), 0.1), b.tensor((1, 2, 3, 2), 0.1), b.tensor((1, 2), 0.2)
        b.average_pool(image, pooled, (2, 2), (2, 0), Padding=padding)
        b.fully_connected(pooled, np.ones((2, 12), np.int8), None, 0.01, out)
        with pytest.raises(ValueError, match=r"AVERAGE_POOL_2D: strides must be positive, not \(2, 0\) \(operator 0 "):
            read_bytes(tmp_path, b.finish([image], [out]))
