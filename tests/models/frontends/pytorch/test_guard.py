from dataclasses import replace

import pytest
import torch
from torch import nn

from models.frontends.pytorch.calls import undisturbed
from models.frontends.pytorch.exported import export
from models.frontends.pytorch.graph import lower
from models.frontends.pytorch.guard import compare
from models.frontends.pytorch.operators import lowered
from models.networks.architectures import initial
from models.networks.resnet8 import ResNet8Architecture
from models.networks.winners import Winners, attach
from tests.models.frontends.nets import Body


def network():
    torch.manual_seed(0)
    return Body(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.ReLU()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("conv", lambda step: replace(step, weight=step.weight * 1.01)),
        ("between.2", lambda step: replace(step, bias=step.bias + 0.01)),
        ("between.2", lambda step: replace(step, relu=False)),
        ("pool", lambda step: replace(step, kind="max_pool")),
        ("linear", lambda step: replace(step, weight=step.weight.flip(1))),
    ],
)
def test_a_step_that_computes_something_else_is_named(name, change):
    net = network()
    with undisturbed(net):
        graph, found = lower(net, (6, 6, 1)), lowered(export(net, (6, 6, 1)))
        compare(graph, found)
    steps = tuple(change(step) if step.name == name else step for step in graph.steps)
    with pytest.raises(ValueError, match=f"^{name}: the lowered network must compute what the module does"):
        with undisturbed(net):
            compare(replace(graph, steps=steps), found)


def test_other_answers_are_named():
    net = network()
    with undisturbed(net):
        exported = export(net, (6, 6, 1))
    graph, found = lower(net, (6, 6, 1)), lowered(replace(exported, answers=(exported.answers[0] + 0.01,)))
    with pytest.raises(ValueError, match=r"^linear: a network must return what .* but the difference is 0.01$"):
        with undisturbed(net):
            compare(graph, found)


@pytest.mark.parametrize("kind", ["elements", "channels"])
def test_activations_that_nearly_win_do_not_disturb(kind):
    """Deep networks, many winners: float noise would flip some of them."""
    net = initial(ResNet8Architecture(shape=(32, 32, 3), classes=10), 0)
    attach(net, {name: Winners(kind, 0.3) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)})
    graph = lower(net, (32, 32, 3))
    assert sum(step.select is not None for step in graph.steps) == 9


class Wide(nn.Module):
    """A convolution whose first channel is 30,000 times larger than the others."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4 * 16, 5)
        with torch.no_grad():
            self.conv.weight[0] *= 3e4

    def forward(self, images):
        return self.linear(self.conv(images).flatten(1))


def test_a_large_channel_hides_no_other():
    net = Wide()
    with undisturbed(net):
        graph, found = lower(net, (6, 6, 3)), lowered(export(net, (6, 6, 3)))
        weight = graph.steps[0].weight.clone()
        weight[2] = 0
        steps = (replace(graph.steps[0], weight=weight), *graph.steps[1:])
        with pytest.raises(ValueError, match=r"^conv: the lowered network must compute what the module does"):
            compare(replace(graph, steps=steps), found)


class Batched(nn.Module):
    """Computes something else of one image than of several."""

    def __init__(self, change):
        super().__init__()
        self.linear, self.change = nn.Linear(12, 4), change

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        return self.change(logits) if images.shape[0] == 1 else logits


def test_networks_that_compute_an_image_alone_differently_are_refused():
    assert lower(Batched(torch.squeeze), (2, 2, 3)).exits == ("linear",)
    with pytest.raises(ValueError, match=r"^linear: an image's logits must be the same .*, but the difference is"):
        lower(Batched(lambda logits: 1.01 * logits), (2, 2, 3))
    with pytest.raises(ValueError, match=r"^linear: an image's logits must .* among others, 4 of them, not 2$"):
        lower(Batched(lambda logits: logits[:, :2]), (2, 2, 3))
    with pytest.raises(ValueError, match=r"^linear: an image's logits must .* among others, 4 of them, not 4, 4$"):
        lower(Batched(lambda logits: (logits, logits)), (2, 2, 3))


def test_numbers_beyond_a_float16():
    net = network()
    with torch.no_grad():
        net.conv.weight.fill_(60000.0)
    with pytest.raises(ValueError, match=r"^linear: logits of images from 0 to 1 must be finite, not NaN or infinite$"):
        lower(net.half(), (6, 6, 1))


def test_a_network_that_computes_something_else_when_it_is_exported():
    net = Batched(lambda logits: logits)
    net.linear.register_forward_hook(lambda _, __, logits: logits if torch.compiler.is_compiling() else logits + logits)
    with pytest.raises(ValueError, match=r"^linear: a network must return what its exported graph computes, whenever"):
        lower(net, (2, 2, 3))
