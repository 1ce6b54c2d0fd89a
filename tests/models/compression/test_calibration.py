import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hw.compiler.compile import compile_network
from hw.config import preset
from models.compression.calibration import calibrate
from models.compression.quantize import encode
from models.compression.range_rules import RANGES
from models.integer import golden
from models.networks.residual_net import to_torch
from tests.models.frontends.quantized.quantized_programs import core
from tests.models.settings import Spoiler


def images(*shape, count=32, seed=0):
    """Pixels (N, height, width, channels)."""
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


def settled(build, *shape, seed=0):
    """A module built from a seed, whose batch norms are those of noise."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = build().train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
                nn.init.uniform_(module.weight, -1.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 1)
        model(torch.from_numpy(images(*shape, seed=2).transpose(0, 3, 1, 2)))
    return model


def made(model, pictures):
    """What a module makes of images, output by output."""
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(pictures.transpose(0, 3, 1, 2)))
    return [each.flatten(1).double().numpy() for each in (found if isinstance(found, tuple) else (found,))]


def signal(model, found, pictures) -> float:
    """Signal to noise of golden against a module, in decibel, of the worst output."""
    network = found.network
    logits = golden.run(network, encode(pictures, network)).logits
    ratios = []
    for each, exit_, expected in zip(logits, network.exits, made(model, pictures), strict=True):
        tensor = network.layer(exit_.logits).output
        values = each[:, : expected.shape[1]] * tensor.scale
        noise = (values - values.mean() - expected + expected.mean()).std()
        ratios.append(20 * np.log10(expected.std() / noise))
    return min(ratios)


def check(model, *shape, least=25.0, config="base-85f"):
    """The network of a module, near it in float on other images than calibrated it, and compiled."""
    found = calibrate(model, images(*shape))
    assert min(found.ratios) > least
    ratio = signal(model, found, images(*shape, seed=1))
    assert ratio > least, ratio
    if config:
        compile_network(found.network, preset(config))
    return found.network


class Bottleneck(nn.Module):
    """An inverted residual, as in MobileNetV2."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6(inplace=True),
            nn.Conv2d(24, 24, 3, stride, 1, groups=24, bias=False), nn.BatchNorm2d(24), nn.ReLU6(inplace=True),
            nn.Conv2d(24, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.same = inputs == outputs and stride == 1

    def forward(self, x):
        return x + self.conv(x) if self.same else self.conv(x)


class Mobile(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
            Bottleneck(8, 8, 1), Bottleneck(8, 16, 2), Bottleneck(16, 16, 1),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 10))

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


@pytest.mark.slow
def test_a_mobile_network():
    network = check(settled(Mobile, 16, 16, 3), 16, 16, 3)
    assert {layer.kind for layer in network.layers} == {
        "conv2d", "depthwise_conv2d", "add", "global_average_pool", "linear",
    }  # fmt: skip
    assert [layer.name for layer in network.layers[:3]] == ["features.0.0", "features.1.conv.0", "features.1.conv.3"]


class BesideZero(nn.Module):
    """Clamps to ranges without 0 in them, of the image and of what a layer computes; the second output is one."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(2, 4, 3), nn.Linear(64, 5)

    def forward(self, x):
        x = self.conv(x.clamp(0.2, 0.9)).clamp(max=-0.01)
        return self.linear(x.flatten(1)), x


def test_clamps_to_ranges_without_0():
    check(settled(BesideZero, 6, 6, 2), 6, 6, 2)


class Dense(nn.Module):
    """Batch norms in front of convolutions, maps side by side, a normalization of the image."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(12)])
        self.convs = nn.ModuleList([nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(12, 4, 3, padding=1)])
        self.last, self.head = nn.BatchNorm2d(16), nn.Linear(16, 5)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1))

    def forward(self, x):
        maps = [self.stem((x - self.mean) / 0.25)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            maps.append(conv(F.relu(norm(torch.cat(maps, 1)))))
        x = F.relu(self.last(torch.cat(maps, 1)))
        return self.head(F.avg_pool2d(x, 2).mean((2, 3)))


def test_maps_side_by_side_and_batch_norms_in_front_of_convolutions():
    network = check(settled(Dense, 8, 8, 3), 8, 8, 3, config=None)
    assert network.classes == 5


class Shuffled(nn.Module):
    """Halves of channels, shuffled; every second position, padded with channels; a module that is called twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.same = nn.Conv2d(3, 8, 3, padding="same"), nn.Conv2d(4, 4, 3, padding="same", groups=2)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = F.relu(self.stem(x))
        first, second = x.chunk(2, dim=1)
        x = torch.cat([first, self.same(F.relu(self.same(second)))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = F.hardtanh(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)), -0.5, 0.7)
        x = x + x
        return self.head((x + F.max_pool2d(x, 3, 1, 1)).mean((2, 3)))


def test_channels_that_move_and_shared_modules():
    network = check(settled(Shuffled, 8, 8, 3), 8, 8, 3, config=None)
    assert {"same", "same_1", "chunk", "chunk_1"} <= {layer.name for layer in network.layers}


@pytest.mark.parametrize(
    ("build", "shape", "classes"),
    [
        (
            lambda: nn.Sequential(
                nn.Conv1d(2, 8, 5, stride=2, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 3, dilation=2),
                nn.ReLU(), nn.Flatten(), nn.Linear(8 * 12, 3),
            ),
            (1, 32, 2),
            3,
        ),
        (
            lambda: nn.Sequential(
                nn.Linear(40, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 40)
            ),
            (1, 1, 40),
            40,
        ),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 1)),
         (6, 6, 1), 2),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)), (6, 6, 1), 36),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 3, 1)).double(),
         (6, 6, 1), 3),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(64, 3)).half(), (6, 6, 1), 3),
    ],
    ids=["conv1d", "autoencoder", "one output", "map", "double", "half"],
)  # fmt: skip
def test_networks_of_other_kinds(build, shape, classes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build().eval()
    found = calibrate(model, images(*shape))
    assert (found.network.classes, found.network.input.shape) == (classes, shape)
    assert min(found.ratios) > 25


class Pooled(nn.Module):
    """Averages with padding, windows beyond the edge, a Hardsigmoid, and outputs of unequal widths."""

    def __init__(self):
        super().__init__()
        self.stem, self.gate = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.wide, self.head = nn.Linear(8, 5), nn.Linear(32, 3)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.max_pool2d(F.avg_pool2d(x, 3, 1, 1), 3, 2, ceil_mode=True)
        x = F.hardsigmoid(2 * self.gate(x + x))
        return self.wide(x.amax((2, 3))), self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))


def test_pools_at_the_edge_a_hardsigmoid_and_outputs_of_unequal_widths():
    model = settled(Pooled, 8, 8, 3)
    network = check(model, 8, 8, 3)
    assert (network.classes, [layer.kind for layer in network.layers[:4]]) == (
        5, ["conv2d", "depthwise_conv2d", "max_pool2d", "depthwise_conv2d"],
    )  # fmt: skip
    run, pictures = golden.run(network, encode(images(8, 8, 3), network)), images(8, 8, 3)
    assert (
        run.logits[-1].reshape(len(pictures), -1)[:, 3:].max(axis=1)
        < run.logits[-1].reshape(len(pictures), -1).max(axis=1)
    ).all()
    assert (run.classes == made(model, pictures)[-1].argmax(1)).mean() > 0.9


class Refused(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        x = F.hardswish(self.stem(x))
        x = x * torch.sigmoid(self.gate(x))
        return self.head(F.gelu(x).mean((2, 3)))


class Rows(nn.Module):
    """Convolutions and pools of one dimension."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(3, 8, 3, stride=2, padding=1), nn.Linear(24, 5)

    def forward(self, x):
        return self.head(F.max_pool1d(F.relu6(self.conv(x)), 2, ceil_mode=True).flatten(1))


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (
            lambda: nn.Sequential(
                *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(3, 2, 1)),
                *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5), nn.LogSoftmax(1)),
            ),
            (8, 8, 3),
        ),
        (Rows, (1, 12, 3)),
    ],
)
def test_programs_of_core_operators_are_the_same_networks(build, shape):
    height, width, channels = shape
    taken = (1, channels, width) if height == 1 else (1, channels, height, width)
    program = torch.export.export(build().eval(), (torch.zeros(taken),))
    before, after = (calibrate(each, images(*shape)).network for each in (program, core(program)))
    assert [type(layer) for layer in after.layers] == [type(layer) for layer in before.layers]
    for (_, one), (_, other) in zip(before.arrays(), after.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_that_cannot_run_is_said_before_anything_is_computed():
    class Counting(Refused):
        def forward(self, x):
            assert len(x) <= 3
            return super().forward(x)

    with pytest.raises(ValueError, match="hardswish isn't among the operators: ReLU and ReLU6 are the nearest") as said:
        calibrate(Counting(), images(6, 6, 1))
    reasons = str(said.value).split("; ")
    assert len(reasons) == 3
    assert all("test_calibration.py:" in reason for reason in reasons)
    assert "mul must be of a map and constants, not of two maps as in squeeze-and-excitation" in reasons[1]
    with pytest.raises(ValueError, match="sum isn't among the operators: a mean over the same positions"):
        calibrate(Summed(), images(6, 6, 1))
    with pytest.raises(ValueError, match=r"sigmoid must be at the end of a network: within it Hardsigmoid and"):
        calibrate(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(32, 2)), images(6, 6, 1))
    with pytest.raises(ValueError, match=r"^0: a network's output must have at most 2048 values, not 2304$"):
        calibrate(nn.Sequential(nn.Conv2d(1, 64, 1)), images(6, 6, 1))
    with pytest.raises(ValueError, match="images must be at least 1, not 0"):
        calibrate(nn.Linear(1, 1), images(6, 6, 1, count=0))


def test_a_map_of_which_nothing_is_left_is_refused():
    message = r"^clip: a layer must be more than 0 dB above its noise as int8, not 0\.0 dB"
    with pytest.raises(ValueError, match=message):
        calibrate(Clamped(), 255 * images(6, 6, 1))


def test_what_cannot_be_calibrated_is_said_without_lines_of_ours():
    with pytest.raises(ValueError, match=r"^(?!.*\.py).*the scale of input times weights"):
        calibrate(Vanished(), images(6, 6, 1))


class Clamped(nn.Module):
    """Lets nothing through but what is less than half a step of its image."""

    def forward(self, x):
        return x.clamp(0, 0.4)


class Vanished(nn.Module):
    """Doubles a map that is 0 everywhere."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(36, 3)

    def forward(self, x):
        x = x - x
        return self.head((x + x).flatten(1))


class Summed(nn.Module):
    """Adds all positions up."""

    def forward(self, x):
        return x.sum(dim=(2, 3))


class Doubled(nn.Module):
    """Biases that are absent, a sum of a map with itself, a pool: whatever lowering makes tensors of its own for."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        return self.head((x + x).mean(dim=(2, 3)))


class Difference(nn.Module):
    """Maps less others, one of them a convolution's, one the map itself, and a negative."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.other = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        y = (self.one(x) - x).relu() - self.other(-x)
        return self.head((y - torch.rsub(x, y)).mean(dim=(2, 3)))


def test_differences_of_maps():
    torch.manual_seed(2)
    pictures = np.random.default_rng(0).random((40, 6, 6, 1), dtype=np.float32)
    found = calibrate(Difference().eval(), pictures)
    assert [layer.kind for layer in found.network.layers].count("add") == 4
    assert found.ratios[0] > 25


def test_images_in_other_units_set_the_range_of_the_input():
    """Normalised by a mean and a deviation, as users have them."""
    random = torch.Generator().manual_seed(4)
    module = Doubled().eval()
    pixels = torch.rand(64, 1, 6, 6, generator=random)
    images = ((pixels - 0.45) / 0.2).permute(0, 2, 3, 1).numpy()
    network = calibrate(module, images, "net").network
    scale, zero_point = network.input.scale, network.input.zero_point
    assert scale == (float(images.max()) - float(images.min())) / 255
    assert zero_point == round(-128 - float(images.min()) / scale) > -128
    codes = encode(images, network)
    assert (codes.min(), codes.max()) == (-128, 127)
    assert np.abs((codes.astype(np.float64) - zero_point) * scale - images).max() <= 0.51 * scale
    with torch.no_grad():
        expected = module(to_torch(images)).numpy()
    logits = golden.run(network, codes).logits[-1] * network.layers[-1].output.scale
    assert np.abs(logits - expected).max() < 0.03 * np.abs(expected).max()
    # A little further than calibration saw is clamped; what has other units is refused.
    np.testing.assert_array_equal(encode(1.2 * images, network).max(), 127)
    with pytest.raises(ValueError, match=r"^values of images must be numbers about in -2\.2\d*\.\.2\.7\d*, "):
        encode(255 * images, network)


def doubled(dtype):
    """A network, and images for it."""
    torch.manual_seed(3)
    return Doubled().to(dtype), np.random.default_rng(4).random((70, 8, 8, 1))


@pytest.fixture(
    scope="module",
    params=[torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)],
    ids=["float32", "float64"],
)
def usual(request):
    """A type of weights, and what calibration makes of them in a process that has set nothing."""
    return request.param, calibrate(*doubled(request.param), "net").network


def test_calibration_is_the_same_whatever_the_process_has_set(setting, usual):
    dtype, expected = usual
    model, images = doubled(dtype)
    if isinstance(setting, Spoiler):  # what the module itself computes is another thing then, and that is noticed
        with setting, pytest.raises(ValueError, match="stem"):
            calibrate(model, images)
        return
    with setting:
        found = calibrate(model, images, "net").network
    assert found.to_dict() == expected.to_dict()
    arrays = dict(expected.arrays())
    for name, values in found.arrays():
        np.testing.assert_array_equal(values, arrays.pop(name), err_msg=name, strict=True)
    assert not arrays


class Digits(nn.Module):
    """Random features of digits with the best linear head for them, and one of no use that rarely is very active."""

    def __init__(self, split):
        super().__init__()
        torch.manual_seed(6)
        self.stem, self.head = nn.Conv2d(1, 12, 3, padding=1), nn.Linear(12 * 64, 10)
        with torch.no_grad():
            self.stem.weight[0], self.stem.bias[0] = 20.0, -165.0
            features, classes = self.features(to_torch(split.images)), F.one_hot(torch.from_numpy(split.labels), 10)
            features[:, :64] = 0
            ridge = features.T @ features + torch.eye(features.shape[1])
            self.head.weight[:] = torch.linalg.solve(ridge, features.T @ (classes - 0.1)).T
            self.head.bias.zero_()

    def features(self, x):
        return F.relu(self.stem(x)).flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


def test_each_choice_of_ranges_is_best_at_what_it_is_for(digits):
    model, images, errors, noise = Digits(digits.train).eval(), digits.train.images[:512], {}, {}
    (expected,), (right,) = (made(model, pictures) for pictures in (images, digits.test.images))
    right = (right.argmax(1) == digits.test.labels).mean()
    with torch.no_grad():
        features = model.features(to_torch(images)).unflatten(1, (12, 8, 8)).permute(0, 2, 3, 1).numpy()
    for ranges in RANGES:
        network = calibrate(model, images, ranges=ranges).network
        run, stem = golden.run(network, encode(images, network)), network.layer("stem").output
        values = (run.tensors["stem"].astype(np.float64) - stem.zero_point) * stem.scale
        errors[ranges] = np.square(values - features).mean()
        noise[ranges] = np.square(run.logits[-1] * network.layer("head").output.scale - expected).mean()
        classes = golden.run(network, encode(digits.test.images, network)).classes
        assert abs((classes == digits.test.labels).mean() - right) <= 0.01
    assert right > 0.93
    assert errors["mse"] < min(errors["minmax"], errors["percentile"])
    assert noise["percentile"] < min(noise["minmax"], noise["mse"])  # what is rare is of no use here
    with pytest.raises(ValueError, match="ranges must be one of minmax, percentile, mse, not 'entropy'"):
        calibrate(model, images, ranges="entropy")
