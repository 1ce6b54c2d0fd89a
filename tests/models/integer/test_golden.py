from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.network.network import INPUT, Add, Conv2D, Exit, GlobalAveragePool, Network, Select, Tensor
from hw.numerics import Rounding, add, add_scales, average_scale, quantize_scale, requantize
from models.integer import golden
from tests.hw.networks import network as mixed_network
from tests.hw.networks import tensor, weighted
from tests.models.definition import codes_of, ending, head, images, naive_convolution


@settings(max_examples=60)
@given(st.data())
def test_convolutions_equal_the_definition(data):
    draw = data.draw
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    pads = tuple(draw(st.integers(0, kernel[axis] - 1)) for axis in (0, 0, 1, 1))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    size = [draw(st.integers(max(1, kernel[a] - pads[2 * a] - pads[2 * a + 1]), 9)) for a in (0, 1)]
    depth, channels, zero_point = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(-128, 127))
    out = [(size[a] + pads[2 * a] + pads[2 * a + 1] - kernel[a]) // stride[a] + 1 for a in (0, 1)]
    layer = Conv2D(
        name="conv",
        inputs=(INPUT,),
        output=tensor(*out, channels, zero_point=draw(st.integers(-128, 127))),
        stride=stride,
        pads=pads,
        rounding=draw(st.sampled_from(Rounding)),
        threshold=draw(st.one_of(st.just(1), st.integers(1, 255))),
        **weighted(channels, *kernel, depth, seed=draw(st.integers(0, 99))),
    )
    codes = images(draw(st.integers(1, 5)), *size, depth, seed=draw(st.integers(0, 99)))
    result = golden.run(ending(layer, source=tensor(*size, depth, zero_point=zero_point)), codes, batch=3)
    expected = codes_of(naive_convolution(codes, zero_point, layer), layer)
    np.testing.assert_array_equal(result.tensors["conv"], expected, strict=True)
    np.testing.assert_array_equal(result.tensors[INPUT], codes, strict=True)


@pytest.mark.parametrize("stride", [(1, 2), (1, 3), (2, 1)])
def test_single_channel_maps_with_unequal_strides(stride):
    """Found by the RTL: one output column made torch's convolution swap the strides."""
    out = ((7 + 4 - 3) // stride[0] + 1, (3 + 2 - 4) // stride[1] + 1)
    layer = Conv2D(
        name="conv",
        inputs=(INPUT,),
        output=tensor(*out, 6),
        stride=stride,
        pads=(2, 2, 0, 2),
        rounding=Rounding.DOUBLE,
        **weighted(6, 3, 4, 1),
    )
    codes = images(2, 7, 3, 1)
    result = golden.run(ending(layer, source=tensor(7, 3, 1, zero_point=-128)), codes)
    np.testing.assert_array_equal(result.tensors["conv"], codes_of(naive_convolution(codes, -128, layer), layer))


@pytest.mark.parametrize("depth", [57, 58, 4000])
def test_accumulators_around_the_limits_of_float32_are_exact(depth):
    """Sums of 9 * depth products of 127 * 255: beyond 2**24, where odd numbers have no float32, from a depth of 58."""
    layer = Conv2D(
        name="conv",
        inputs=(INPUT,),
        output=tensor(1, 1, 2, zero_point=0),
        rounding=Rounding.DOUBLE,
        **{**weighted(2, 3, 3, depth), "weight": np.full((2, 3, 3, depth), 127, dtype=np.int8)},
    )
    layer.weight[0, 0, 0, 0] = 126
    tail = head(INPUT, (3, 3, depth), layer.weight)
    source = tensor(3, 3, depth)
    net = Network(name="net", input=source, layers=(layer, tail), exits=(Exit(logits="head"),), classes=2)
    codes = np.full((3, 3, 3, depth), 127, dtype=np.int8)
    codes[1, 2, 2, depth - 1], codes[2, 0, 0, 0] = 126, -128
    expected = naive_convolution(codes, -128, layer)
    result = golden.run(net, codes)
    np.testing.assert_array_equal(result.tensors["conv"], codes_of(expected, layer), strict=True)
    np.testing.assert_array_equal(result.logits[0], expected[:, 0, 0] - layer.bias, strict=True)
    assert (result.logits[0].max() >= 1 << 24) == (depth > 57)


def test_accumulators_beyond_int32_are_refused():
    bias = np.array([(1 << 31) - 1, 0], dtype=np.int32)
    net = Network(
        name="net",
        input=tensor(1, 1, 1),
        layers=(head(INPUT, (1, 1, 1), bias=bias),),
        exits=(Exit(logits="head"),),
        classes=2,
    )
    with pytest.raises(ValueError, match=r"^head: accumulators must stay within int32, not reach 0\.\.2147483902$"):
        golden.run(net, images(1, 1, 1, 1))


def test_every_layer_of_a_mixed_network_equals_the_definition():
    net = mixed_network()
    codes = images(40, 6, 4, 2)
    result = golden.run(net, codes, batch=7)
    found = result.tensors
    assert list(found) == list(net.tensors())
    layer = net.layer
    np.testing.assert_array_equal(found["stem"], codes_of(naive_convolution(codes, -128, layer("stem")), layer("stem")))
    np.testing.assert_array_equal(
        found["branch"], codes_of(naive_convolution(found["stem"], -128, layer("branch")), layer("branch"))
    )
    assert found["branch"].min() == -100
    assert found["branch"].max() == 90
    a, b = found["stem"].astype(np.int64) + 128, found["branch"].astype(np.int64) - 3
    total = (add(a, b, add_scales(0.25, 0.25, 0.4)) - 128).clip(-128, 127)
    np.testing.assert_array_equal(found["sum"], total)
    sums = found["sum"].sum(axis=(1, 2), keepdims=True, dtype=np.int64)
    np.testing.assert_array_equal(found["mean"], requantize(sums, *average_scale(12), Rounding.SINGLE))
    for name, source, zero_point in (("early", "stem", -128), ("hidden", "mean", -128), ("head", "hidden", -7)):
        flat = found[source].reshape(40, -1).astype(np.int64) - zero_point
        sums = flat @ layer(name).weight.reshape(len(layer(name).weight), -1).T.astype(np.int64) + layer(name).bias
        expected = sums if layer(name).raw else codes_of(sums, layer(name))
        np.testing.assert_array_equal(found[name].reshape(40, -1), expected, strict=True)
    np.testing.assert_array_equal(result.logits[0], found["early"][:, 0, 0])
    np.testing.assert_array_equal(result.logits[1], found["head"][:, 0, 0])


def multiply(layer, codes: np.ndarray, zero_point: int) -> np.ndarray:
    """Codes that a layer with a selection sees: those that aren't selected at the zero point, image by image."""
    kept = np.full_like(codes, zero_point)
    for image, result in zip(codes, kept, strict=True):
        magnitudes = abs(image.astype(int) - zero_point)
        if layer.select.kind == "mask":
            used = list(layer.select.channels)
            result[..., used] = image[..., used]
        elif layer.select.kind == "channels":
            scores = magnitudes.sum(axis=(0, 1))
            used = sorted(range(len(scores)), key=lambda c: (-scores[c], c))[: layer.select.count]
            result[..., used] = image[..., used]
        else:
            order = sorted(range(image.size), key=lambda n: (-magnitudes.reshape(-1)[n], n))[: layer.select.count]
            result.reshape(-1)[order] = image.reshape(-1)[order]
    return kept


@pytest.mark.parametrize(
    "select",
    [
        Select(kind="elements", count=1),
        Select(kind="elements", count=17),
        Select(kind="elements", count=48),
        Select(kind="channels", count=2),
        Select(kind="mask", channels=(1, 3)),
    ],
)
@pytest.mark.parametrize("threshold", [1, 60])
def test_a_selection_is_of_one_layer_alone(select, threshold):
    """The head ``early`` and the add read the same map whole."""
    plain = mixed_network({"stem": {"clamp": (-128, -60)}})
    net = mixed_network(
        {
            "stem": {"clamp": (-128, -60)},
            "branch": {"select": select, "threshold": threshold},
            "early": {"select": None},
        }
    )
    codes = images(9, 6, 4, 2)
    found, whole = golden.run(net, codes, batch=4).tensors, golden.run(plain, codes).tensors
    np.testing.assert_array_equal(found["early"], whole["early"])
    seen = multiply(net.layer("branch"), found["stem"], -128)
    expected = codes_of(naive_convolution(seen, -128, net.layer("branch")), net.layer("branch"))
    np.testing.assert_array_equal(found["branch"], expected)
    a, b = found["stem"].astype(np.int64) + 128, found["branch"].astype(np.int64) - 3
    np.testing.assert_array_equal(found["sum"], (add(a, b, add_scales(0.25, 0.25, 0.4)) - 128).clip(-128, 127))


def test_one_convolution_by_hand():
    """Padded positions hold the zero point and add nothing; (2 * 3 - 1) / 2 is a tie that rounds up."""
    scale = quantize_scale(0.5)
    layer = Conv2D(
        name="conv",
        inputs=(INPUT,),
        output=Tensor(shape=(1, 2, 1), scale=1.0, zero_point=-10),
        clamp=(-10, 127),
        weight=np.array([[[[2], [-1], [4]]]], dtype=np.int8),
        bias=np.array([-1], dtype=np.int32),
        multiplier=np.array([scale.multiplier], dtype=np.int32),
        shift=np.array([scale.shift], dtype=np.int32),
        pads=(0, 0, 1, 1),
        rounding=Rounding.DOUBLE,
    )
    codes = np.array([8, 5], dtype=np.int8).reshape(1, 1, 2, 1)
    net = ending(layer, source=Tensor(shape=(1, 2, 1), scale=1.0, zero_point=5))
    # a = [3, 0]: [-1 * 3 + 4 * 0 - 1, 2 * 3 - 1 * 0 - 1] = [-4, 5], halved and rounded [-2, 3], clamped [0, 3].
    result = golden.run(net, codes)
    assert result.tensors["conv"].ravel().tolist() == [-10, -7]
    # The head sums a = q + 10 over the map.
    assert result.logits[0].tolist() == [[3, 3]]
    assert (result.classes.tolist(), result.margins.tolist()) == ([0], [[0]])


def test_an_exit_is_taken_from_its_threshold_on():
    """Margins of one below, at and one above it; of equal logits the first; without a threshold, always."""
    early = np.array([[3, 9, 5], [9, 4, 1], [0, -6, 0], [1, 2, 8]], dtype=np.int64)
    late = np.array([[7, 7, 0], [0, 1, 2], [5, 4, 5], [1, 1, 1]], dtype=np.int64)
    margins, taken, classes = golden.decide([early, late], [5, None])
    assert margins.tolist() == [[4, 0], [5, 1], [0, 0], [6, 0]]
    assert taken.tolist() == [1, 0, 1, 0]
    assert classes.tolist() == [0, 0, 0, 2]


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_average_pool_is_half_away_from_zero(height, width, seed):
    source = tensor(height, width, 4, zero_point=3)
    layer = GlobalAveragePool(name="mean", inputs=(INPUT,), output=tensor(1, 1, 4, zero_point=3), clamp=(-90, 90))
    codes = images(9, height, width, 4, seed=seed)
    codes[1:5] = np.int8(seed - 50)
    codes[1:3, : (height + 1) // 2] += 1  # half of the positions: a tie where their number is even
    found = golden.run(ending(layer, source=source), codes).tensors["mean"][:, 0, 0]
    for row, sums in zip(found, codes.sum(axis=(1, 2), dtype=np.int64), strict=True):
        for value, total in zip(row, sums, strict=True):
            mean = Fraction(int(total), height * width)
            away = int(abs(mean) + Fraction(1, 2)) * (1 if mean >= 0 else -1)
            assert value == min(max(away, -90), 90)


def test_golden_is_close_to_float_torch():
    """A quantized residual network against the same network in float: no code is further off than its roundings."""
    rng = np.random.default_rng(1)
    zero_points = {INPUT: -5, "a": -128, "b": 10, "sum": -20}
    scales = {INPUT: 0.02, "a": 0.05, "b": 0.04, "sum": 0.06}
    weights = {name: rng.integers(-127, 128, (6, 3, 3, 6)).astype(np.int8) for name in ("a", "b")}
    steps = {name: rng.uniform(0.0005, 0.002, 6) for name in ("a", "b")}
    layers, source = [], INPUT
    for name in ("a", "b"):
        factors = [quantize_scale(scales[source] * step / scales[name]) for step in steps[name]]
        layers.append(
            Conv2D(
                name=name,
                inputs=(source,),
                output=tensor(8, 8, 6, scale=scales[name], zero_point=zero_points[name]),
                weight=weights[name],
                bias=np.rint(rng.uniform(-0.5, 0.5, 6) / (scales[source] * steps[name])).astype(np.int32),
                multiplier=np.array([f.multiplier for f in factors], dtype=np.int32),
                shift=np.array([f.shift for f in factors], dtype=np.int32),
                rounding=Rounding.DOUBLE,
                pads=(1, 1, 1, 1),
            )
        )
        source = name
    output = tensor(8, 8, 6, scale=scales["sum"], zero_point=zero_points["sum"])
    layers.append(Add(name="sum", inputs=("a", "b"), output=output))
    net = ending(*layers, source=tensor(8, 8, 6, scale=scales[INPUT], zero_point=zero_points[INPUT]))
    codes = images(16, 8, 8, 6)
    found = golden.run(net, codes).tensors
    real = {name: (found[name].astype(np.float64) - zero_points[name]) * scales[name] for name in scales}

    def saturated(name: str, value: np.ndarray) -> np.ndarray:
        low, high = ((code - zero_points[name]) * scales[name] for code in (-128, 127))
        return value.clip(low, high)

    for layer, source in ((layers[0], INPUT), (layers[1], "a")):
        weight = torch.from_numpy(layer.weight * steps[layer.name][:, None, None, None]).permute(0, 3, 1, 2)
        bias = torch.from_numpy(layer.bias * scales[source] * steps[layer.name])
        value = F.conv2d(torch.from_numpy(real[source]).permute(0, 3, 1, 2), weight, bias, padding=1)
        expected = saturated(layer.name, value.permute(0, 2, 3, 1).numpy())
        # Two roundings, the first to 31 fractional bits: a little more than half a step.
        assert np.abs(real[layer.name] - expected).max() <= 0.76 * scales[layer.name]
        assert np.abs(real[layer.name] - expected).mean() <= 0.3 * scales[layer.name]
    assert np.abs(real["sum"] - saturated("sum", real["a"] + real["b"])).max() <= 0.501 * scales["sum"]
