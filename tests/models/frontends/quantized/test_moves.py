"""What moves values: maps whose channels come last, crops, views."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.compression.calibration import calibrate
from models.frontends.pytorch.calls import undisturbed
from models.frontends.pytorch.exported import export
from models.frontends.quantized.float_operators import float_steps
from models.frontends.quantized.reader import import_quantized
from models.integer import golden
from tests.models.frontends.quantized.quantized_programs import Quantized, difference, images, seeded

SHAPE = (4, 5, 2)


class Moved(nn.Module):
    """A convolution, and what a body makes of its map (3, 4, 5)."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.stem, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.inner, self.head, self.whole = nn.Linear(3, 3), nn.Linear(3, 4), nn.Linear(60, 4)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.body(self, F.relu(self.stem(x)))


def steps(body, shape=SHAPE):
    """Of a network; lowering has compared each with the module."""
    model = seeded(lambda: Moved(body)).eval()
    with undisturbed(model):
        return float_steps(export(model, shape)).steps


def last(x):
    return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (lambda n, x: n.whole(last(x).flatten(1)), ["linear"]),
        (lambda n, x: n.whole(last(x).contiguous().view(len(x), -1)), ["linear"]),
        (lambda n, x: n.whole(x.transpose(2, 3).flatten(1)), ["linear"]),
        (lambda n, x: n.head(last(x)).mean((1, 2)), ["conv", "pool"]),
        (lambda n, x: n.head(F.relu(n.inner(last(x))).mean((1, 2))), ["conv", "clip", "pool", "linear"]),
        (lambda n, x: n.second(n.inner(last(x)).movedim(3, 1)).mean((2, 3)), ["conv", "conv", "pool"]),
        (lambda n, x: n.head(x.flatten(2).transpose(1, 2)).mean(1), ["conv", "pool"]),
        (lambda n, x: n.head(n.inner(last(x)).amax(1)).mean(1), ["conv", "max_pool", "conv", "pool"]),
        (lambda n, x: n.whole((last(x) * torch.arange(1.0, 4) + last(n.second(x))).flatten(1)),
         ["affine", "conv", "add", "linear"]),
        (lambda n, x: n.head(F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]), ["pool", "linear"]),
        (lambda n, x: n.head(last(F.adaptive_avg_pool2d(x, 1))).flatten(1), ["pool", "linear"]),
        (lambda n, x: n.head(x[:, :, 1:-1, 2:].mean((2, 3))), ["depthwise", "depthwise", "pool", "linear"]),
        (lambda n, x: n.head(x[:, :, ::2, 1:-2:2].mean((2, 3))), ["depthwise", "depthwise", "pool", "linear"]),
    ],
)  # fmt: skip
def test_maps_with_channels_last_and_crops(body, kinds):
    assert [step.kind for step in steps(body)][2:] == kinds


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda n, x: n.head(n.norm(last(x)).mean((1, 2))), "^norm: batch_norm must read a map with channels first"),
        (lambda n, x: F.max_pool2d(last(x), 2).flatten(1), "^max_pool2d: MaxPool2d must read a map"),
        (lambda n, x: last(x), "^permute: an output must be computed from the image, with channels first"),
        (lambda n, x: F.linear(last(x).flatten(2), torch.ones(4, 12)).flatten(1), "^linear: Linear must read a flat"),
        (lambda n, x: last(x).roll(1, 2).flatten(1), "^roll: roll must move whole channels"),
    ],
)  # fmt: skip
def test_what_depends_on_the_order_is_refused(body, reason):
    with pytest.raises(ValueError, match=reason):
        steps(body, (4, 4, 2))


def test_a_crop_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^slice_1: slice_1 must leave values of a map, not none"):
        steps(lambda n, x: n.whole(torch.cat([x, x[:, :, 4:]], 2).flatten(1)))


def test_the_network_is_that_of_a_module_with_channels_first():
    """A linear layer of each position is a 1x1 convolution, one of all values has its weights turned."""

    class First(Moved):
        def forward(self, x):
            x = F.relu(self.stem(x))
            x = F.conv2d(x, self.inner.weight[:, :, None, None], self.inner.bias).relu()
            return F.linear(x.flatten(1), self.whole.weight.reshape(4, 4, 5, 3).permute(0, 3, 1, 2).reshape(4, 60))

    class Last(Moved):
        def forward(self, x):
            x = F.relu(self.inner(last(F.relu(self.stem(x)))))
            return F.linear(x.flatten(1), self.whole.weight)

    one, other = (calibrate(seeded(lambda kind=kind: kind(None)), images(*SHAPE)).network for kind in (First, Last))
    assert [layer.kind for layer in other.layers] == ["conv2d", "conv2d", "linear"]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(one.arrays(), other.arrays(), strict=True))
    codes = np.random.default_rng(1).integers(-128, 128, (3, *SHAPE)).astype(np.int8)
    np.testing.assert_array_equal(golden.run(one, codes).logits[0], golden.run(other, codes).logits[0])


@pytest.mark.parametrize(
    "body",
    [
        lambda n, x: F.linear(last(n.round(x)).flatten(1), n.weight(3, 40)),
        lambda n, x: F.linear(
            n.round(n.round(F.linear(last(n.round(x)), n.weight(3, 2))).mean((1, 2))), n.weight(3, 3)
        ),
        lambda n, x: F.linear(
            n.round(n.dq(last(n.q(F.relu(n.round(x))))).flatten(1) @ n.weight(40, 4)), n.weight(3, 4)
        ),
    ],
)
def test_quantized_maps_with_channels_last(body):
    net = Quantized(body)
    network = import_quantized(net, SHAPE).network
    found = difference(net, network, images(*SHAPE))
    assert all(each.largest <= 1 for name, each in found.items() if name != network.exits[0].logits)


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (lambda n, x: n.round(n.round(x)[:, :, 1:, ::2]), ["depthwise_conv2d"] * 2),
        (lambda n, x: n.round(F.conv2d(n.round(x)[:, 1:], n.weight(3, 1, 3, 3))), ["conv2d", "conv2d"]),
        (lambda n, x: n.round(torch.add(*n.round(x).chunk(2, 1))), ["conv2d", "conv2d", "add"]),
        (lambda n, x: n.round(n.round(x).flip(1) * 0.5 + 1), ["conv2d"]),
        (
            lambda n, x: n.round(n.round(x, 0.07).index_select(1, torch.tensor([1, 0, 1])).amax(3)),
            ["conv2d", "max_pool2d", "depthwise_conv2d"],
        ),
    ],
)
def test_quantized_maps_are_picked_and_cropped(body, kinds):
    """Codes stay what they are, where they aren't on another scale; what reads them next may read them as they are."""

    def whole(net, x):
        x = body(net, x).flatten(1)
        return F.linear(x, net.weight(3, x.shape[1]))

    net = Quantized(whole)
    network = import_quantized(net, SHAPE).network
    assert [layer.kind for layer in network.layers[:-1]] == kinds
    found = difference(net, network, images(*SHAPE))
    assert all(each.largest <= 1 for name, each in found.items() if name != network.exits[0].logits)


def test_a_turned_output_of_a_quantized_program_is_refused():
    with pytest.raises(ValueError, match=r"^permute: an output must have its channels first, or be flat"):
        import_quantized(Quantized(lambda n, x: last(n.round(F.relu(n.round(x))))), SHAPE)
