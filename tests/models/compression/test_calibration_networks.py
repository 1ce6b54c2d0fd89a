"""Networks of many kinds, calibrated: each is near its module in float, and compiles."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.compression.calibration import calibrate
from models.compression.quantize import encode
from models.integer import golden
from tests.models.compression.calibrated import check, images, made, settled
from tests.models.frontends.quantized.quantized_programs import core


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
