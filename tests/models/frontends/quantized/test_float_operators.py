"""Steps of a float network compute what it does; what its outputs may be."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.frontends.pytorch.calls import undisturbed
from models.frontends.pytorch.exported import export
from models.frontends.quantized.float_operators import computed, float_steps
from tests.models.frontends.quantized.quantized_programs import images, seeded

SHAPE = (6, 6, 2)


class Written(nn.Module):
    """A network that is a function, with a convolution and a linear layer to call."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.conv, self.linear = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(72, 5)

    def forward(self, x):
        return self.body(self, x)


def graph_of(body):
    """The steps of a network, which is returned, too."""
    net = seeded(lambda: Written(body)).eval()
    with undisturbed(net):
        return float_steps(export(net, SHAPE)), net


def run(graph, x):
    """What steps compute of images: the outputs."""
    maps = {"input": x}
    for step in graph.steps:
        maps[step.name] = computed(step, [maps[name] for name in step.inputs], step.weight, step.bias)
    return [maps[name] for name in graph.exits]


BODIES = {
    "a shared module": lambda n, x: n.linear((n.conv(F.relu(n.conv(x))) + x).flatten(1)),
    "norms anywhere": lambda n, x: n.linear(
        F.batch_norm(x, torch.ones(2), torch.tensor([2.0, 0.5])).clamp(-1, 1).flatten(1)
    ),
    "clamps beside 0": lambda n, x: n.linear((F.hardtanh(n.conv(x), 0.1, 0.4) + x.clamp(max=-0.05)).flatten(1)),
    "side by side": lambda n, x: torch.cat([n.conv(x), F.max_pool2d(x, 3, 1, 1), 0 - x], 1).mean((2, 3)),
    "rows": lambda n, x: torch.cat([x * 2, n.conv(x)], 2).amax((2, 3)),
    "padded": lambda n, x: n.conv(F.pad(x, (1, 2, 0, 1)))[:, :, :6, 1:7].flatten(1) @ n.linear.weight.t(),
    "in half precision and back": lambda n, x: n.linear(F.relu(n.conv(x.double().to(torch.float32))).flatten(1)),
    "other names": lambda n, x: n.linear(
        torch.concat([torch.multiply(n.conv(x), 0.5), torch.negative(torch.divide(x, 3.0))], 1)
        .unflatten(1, (2, 2))
        .swapdims(1, 2)
        .flatten(1, 2)[:, 1:3]
        .subtract(0.25)
        .clip(-1, 1)
        .moveaxis(1, -1)
        .flatten(1)
    ),
    "two outputs": lambda n, x: (n.linear(x.flatten(1)), n.linear(n.conv(x).flatten(1))),
}


@pytest.mark.parametrize("name", BODIES)
def test_steps_compute_what_the_network_does(name):
    graph, net = graph_of(BODIES[name])
    x = torch.from_numpy(images(*SHAPE, count=3).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        expected = net(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for found, wanted in zip(run(graph, x), expected, strict=True):
        torch.testing.assert_close(found.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-4)


def test_what_is_clamped_to_a_range_without_0_is_moved_to_one_with_it():
    graph, _ = graph_of(lambda n, x: n.conv(x).clamp(0.25, 1))
    assert [step.kind for step in graph.steps] == ["conv", "clip", "affine"]
    assert graph.steps[1].bounds == (0.0, 0.75)
    graph, _ = graph_of(lambda n, x: n.conv(x).clamp(0, 1))
    assert [step.kind for step in graph.steps] == ["conv", "clip"]


def test_what_keeps_the_order_at_the_end_is_left_out():
    graph, _ = graph_of(lambda n, x: torch.tanh(n.linear(x.flatten(1)).softmax(1)))
    assert [step.kind for step in graph.steps] == ["linear"]
    assert graph.exits == ("linear",)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda n, x: n.linear(torch.sigmoid(x).flatten(1)), "sigmoid must be at the end of a network: within"),
        (lambda n, x: x, "an output must be computed by a layer, not be the image itself"),
        (lambda n, x: x.flatten(1), "flatten: an output must be computed by a layer, not be the image itself"),
        (lambda n, x: n.conv(x).permute(0, 2, 3, 1), "an output must be computed from the image, with channels first"),
        (
            lambda n, x: F.pad(n.conv(x), (20, 20, 20, 20)) * 2,
            "a network's output must have at most 2048 values, not 4232",
        ),
        (lambda n, x: n.linear(x.long().flatten(1).float()), "a map must stay of floating point, not become"),
        (lambda n, x: n.conv(F.pad(x, (1, 1, 1, 1), value=1.0)).amax((2, 3)), "not (1, 1, 1, 1) of constant 1.0"),
    ],
)  # fmt: skip
def test_what_is_refused(body, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        graph_of(body)
