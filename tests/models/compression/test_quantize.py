from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hw.compiler.compile import compile_network
from hw.compiler.lower import lower
from hw.config import preset
from hw.network.network import (
    NEVER,
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePool,
    Linear,
    MaxPool2D,
    Network,
)
from hw.numerics import Rounding
from models.compression.quantize import encode, quantize, to_network
from models.integer import golden
from models.integer.surrogate import Surrogate
from models.networks.residual_net import to_torch
from models.training.train import Schedule, accuracy, fit, predict
from tests.models.separable import SeparableNet

ONE = Schedule(epochs=1, lr=0.001)


@pytest.fixture(scope="module")
def twin(digits, trained):
    return quantize(trained.model(), digits.train, replace(ONE, epochs=3), seed=0)


@pytest.fixture(scope="module")
def network(twin):
    return to_network(twin, "digits")


def test_integers_and_twin_agree(digits, twin, network):
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    for logits, expected, head in zip(result.logits, predict(twin, digits.test.images), network.exits, strict=True):
        scale = network.layer(head.logits).output.scale
        assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.98
        # A code that rounds the other way moves a logit by at most a weight's 127 steps; a few do.
        assert np.abs(logits - expected / scale).mean() < 127


def test_integers_are_within_a_point_of_float(digits, trained, network):
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    for logits, expected in zip(result.logits, predict(trained.model(), digits.test.images), strict=True):
        found, reference = (accuracy(values, digits.test.labels) for values in (logits, expected))
        assert found >= reference - 0.01


def test_layers(network):
    assert (network.input.scale, network.input.zero_point) == (1 / 255, -128)
    for layer in network.layers:
        if isinstance(layer, Conv2D):
            assert layer.rounding is Rounding.DOUBLE
            assert np.abs(layer.weight.astype(int)).max(axis=(1, 2, 3)).tolist() == [127] * len(layer.bias)
            assert (layer.multiplier >= 1 << 30).all()
        if isinstance(layer, Linear):
            assert layer.raw
            assert np.abs(layer.weight.astype(int)).max() == 127  # one scale for all rows
        if isinstance(layer, Add) or layer.name.endswith("first.conv"):
            assert layer.clamp == (-128, 127)
            assert layer.output.zero_point == -128
    assert [head.threshold for head in network.exits] == [NEVER, None]


def test_a_bias_is_the_nearest_on_the_scale_of_the_products(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 6 * 6, 10))
    twin = quantize(model, digits.train.take(64), ONE, seed=0)
    network = to_network(twin, "x")
    for step, node in zip(twin.graph.steps, twin.nodes, strict=True):
        source = network.tensors()[step.inputs[0]].scale
        exact = node.bias.detach().double().numpy() / (node.weight_scale(source).double().numpy() * source)
        distance = network.layer(step.name).bias - exact
        assert np.abs(distance).max() <= 0.5
        assert distance.min() < 0 < distance.max()


def test_without_exits(digits, trained):
    network = to_network(quantize(trained.model(), digits.train, ONE, seed=0, exits=False), "plain")
    assert [head.logits for head in network.exits] == ["head.linear"]
    assert not [layer.name for layer in network.layers if layer.name.startswith("branch")]


def test_pruned_weights_stay_zero(digits, trained):
    model = trained.model()
    with torch.no_grad():
        model.late.first.conv.weight[:, ::2] = 0
    network = to_network(quantize(model, digits.train, ONE, seed=0), "pruned")
    weight = network.layer("late.first.conv").weight
    assert not weight[..., ::2].any()
    assert weight[..., 1::2].any()


def test_other_heads(digits):
    """A hidden linear layer, a head over a whole map, an odd kernel and uneven padding: equal decisions."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, (5, 3), stride=(1, 2), padding=(2, 0)), nn.ReLU(), nn.Flatten(),
        nn.Linear(6 * 8 * 3, 16), nn.ReLU(), nn.Linear(16, 10),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.uniform_(-0.3, 0.3, generator=generator)
    twin = quantize(model, digits.train, ONE, seed=0)
    network = to_network(twin, "other")
    assert network.layer("3").rounding is Rounding.SINGLE
    assert network.layer("3").weight.shape == (16, 8, 3, 6)
    assert network.layer("0").pads == (2, 2, 0, 0)
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    assert (result.classes == predict(twin, digits.test.images)[0].argmax(axis=1)).mean() > 0.98


def test_separable_network(digits):
    """A small DS-CNN, trained briefly and quantized: integers, twin and surrogate decide alike, as well as float."""
    torch.manual_seed(0)
    model = SeparableNet(digits.shape, 10, width=16, kernel=(4, 3))
    fit(model, digits.train, Schedule(epochs=7, lr=0.05), seed=0)
    float_accuracy = accuracy(predict(model, digits.test.images)[0], digits.test.labels)
    twin = quantize(model, digits.train, replace(ONE, epochs=3), seed=0)
    network = to_network(twin, "separable")
    kinds = [type(layer) for layer in network.layers]
    assert kinds == [Conv2D, *[DepthwiseConv2D, Conv2D] * 2, GlobalAveragePool, Linear]
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    for float_form in (twin, Surrogate(network)):
        decided = predict(float_form, digits.test.images)[0].argmax(axis=1)
        assert (result.classes == decided).mean() > 0.98
    assert float_accuracy > 0.8
    assert result.accuracy(digits.test.labels) > float_accuracy - 0.015


def test_pool_with_a_window(digits):
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.AvgPool2d((2, 3), stride=(2, 1)), nn.Conv2d(5, 5, 3, groups=5),
        nn.ReLU(), nn.Flatten(), nn.Linear(5 * 2 * 4, 10),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.uniform_(-0.4, 0.4, generator=generator)
    twin = quantize(model, digits.train, ONE, seed=0)
    network = to_network(twin, "pooled")
    pool = network.layer("2")
    assert isinstance(pool, AveragePool2D)
    assert (pool.window, pool.stride, pool.output.shape) == ((2, 3), (2, 1), (4, 6, 5))
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    for float_form in (twin, Surrogate(network)):
        decided = predict(float_form, digits.test.images)[0].argmax(axis=1)
        assert (result.classes == decided).mean() > 0.97


def test_max_pools(digits):
    """Behind a ReLU, so that the compiler takes it; and of the image."""
    model = nn.Sequential(
        nn.MaxPool2d((1, 2), stride=1), nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1), nn.Flatten(), nn.Linear(5 * 4 * 4, 10),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.uniform_(-0.4, 0.4, generator=generator)
    network = to_network(twin := quantize(model, digits.train, ONE, seed=0), "pooled")
    pool = network.layer("3")
    assert isinstance(pool, MaxPool2D)
    assert (pool.window, pool.stride, pool.pads, pool.output.shape) == ((3, 3), (2, 2), (1, 1, 1, 1), (4, 4, 5))
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    for float_form in (twin, Surrogate(network)):
        decided = predict(float_form, digits.test.images)[0].argmax(axis=1)
        assert (result.classes == decided).mean() > 0.97
    assert [step.kernel.max_pool for step in lower(network).steps] == [True, False, True, False]
    assert compile_network(network, preset("tiny").replace(list_words=4096, activation_words=2048)).commands


def test_network_survives_its_file_form(network):
    again = Network.from_dict(network.to_dict(), dict(network.arrays()))
    assert again.to_dict() == network.to_dict()
    for (name, array), (other, copy) in zip(network.arrays(), again.arrays(), strict=True):
        assert name == other
        np.testing.assert_array_equal(array, copy)


def test_training_diverges_loudly(digits, trained):
    with pytest.raises(FloatingPointError, match=r"conv: activations became NaN or infinite"):
        quantize(trained.model(), digits.train, replace(ONE, epochs=5, lr=1e30), seed=0)


def test_thresholds(twin):
    assert to_network(twin, "x", (5,)).exits[0].threshold == 5
    with pytest.raises(ValueError, match="thresholds must be one for each of 1 early exits, not 2"):
        to_network(twin, "x", (1, 2))


@pytest.mark.parametrize("what", ["weight", "bias"])
def test_a_weight_that_is_no_number_is_named(digits, trained, what):
    twin = quantize(trained.model(), digits.train.take(64), ONE, seed=0)
    with torch.no_grad():
        getattr(twin.nodes[2], what).view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match=r"early.second.conv: weights must be finite, not NaN or infinite"):
        to_network(twin, "x")


def test_a_bias_never_fills_the_accumulator(digits, trained):
    model = trained.model()
    with torch.no_grad():
        model.late.first.conv.weight[3] = 0
        model.late.first.conv.weight[4] *= 1e-9
        model.late.first.norm.running_mean[3:5] = 0
        model.late.first.norm.running_var[3:5] = 1
        model.late.first.norm.bias[3:5] = 0.5
    twin = quantize(model, digits.train, ONE, seed=0)
    network = to_network(twin, "biased")
    layer = network.layer("late.first.conv")
    assert abs(layer.bias[3]) == 1 << 20
    assert not layer.weight[3].any()
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    for logits, expected in zip(result.logits, predict(twin, digits.test.images), strict=True):
        assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.98


def test_a_dead_layer_still_gives_a_network(digits, trained):
    model = trained.model()
    with torch.no_grad():
        model.late.second.norm.weight.zero_()
        model.late.second.norm.bias.zero_()
    network = to_network(quantize(model, digits.train.take(64), ONE, seed=0), "dead")
    assert not network.layer("late.second.conv").weight.any()
    golden.run(network, encode(digits.test.images[:4], network))


def test_encode(network):
    images = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    codes = encode(images, network)
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(codes, np.rint(images.astype(np.float64) * 255) - 128)
    every = (np.arange(256, dtype=np.float32) / 255).reshape(4, 8, 8, 1)
    assert encode(every, network).ravel().tolist() == list(range(-128, 128))


def test_encode_is_what_the_twin_sees(digits, twin, network):
    codes = encode(digits.test.images, network).astype(np.float32)
    seen = torch.from_numpy((codes + 128) / 255).permute(0, 3, 1, 2)
    with torch.no_grad():
        for found, expected in zip(twin(seen), twin(to_torch(digits.test.images)), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 9, 1)), r"images must be a floating-point array \(N, 8, 8, 1\), not float64 \(2, 8, 9, 1\)"),
        (np.zeros((8, 8, 1)), "images must be"),
        (np.zeros((2, 8, 8, 1), np.uint8), "images must be a floating-point array .* not uint8"),
        (np.full((1, 8, 8, 1), 1.5), r"pixels must be numbers from 0 to 1, not 1.5 to 1.5"),
        (np.full((1, 8, 8, 1), np.nan), "pixels must be numbers from 0 to 1, not nan"),
    ],
)
def test_encode_wrong(network, images, message):
    with pytest.raises(ValueError, match=message):
        encode(images, network)
