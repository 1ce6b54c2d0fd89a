"""Networks of a few layers, and what steps compute, written down a second time."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from models.frontends.pytorch.graph import lower


def evaluate(graph, images):
    """A graph in float, step by step."""
    values = {"input": images}
    for step in graph.steps:
        operands = [values[name] for name in step.inputs]
        if step.kind == "add":
            result = operands[0] + operands[1]
        elif step.kind == "pool":
            result = F.avg_pool2d(operands[0], step.window, step.stride)
        elif step.kind == "max_pool":
            top, bottom, left, right = step.pads
            padded = F.pad(operands[0], (left, right, top, bottom), value=-torch.inf)
            result = F.max_pool2d(padded, step.window, step.stride)
        else:
            groups = len(step.weight) if step.kind == "depthwise" else 1
            top, bottom, left, right = step.pads
            padded = F.pad(operands[0], (left, right, top, bottom))
            result = F.conv2d(padded, step.weight, step.bias, step.stride, groups=groups)
        assert result.shape[1:] == (step.shape[2], *step.shape[:2])
        values[step.name] = result.relu() if step.relu else result
    return [values[name].flatten(1) for name in graph.exits]


def checked(model, shape):
    """The graph of a network, found to compute what the network does on images of its own."""
    graph = lower(model, shape)
    images = torch.rand(5, shape[2], *shape[:2], generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(images)
        found = evaluate(graph, images)
    for one, other in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    return graph


class Body(nn.Module):
    """A function of a map between a convolution and a head."""

    def __init__(self, between):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.between = between
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(self.flatten(self.pool(self.between(self.conv(x)))))


class Call(nn.Module):
    """A function as a module, with what it needs."""

    def __init__(self, function, **needed):
        super().__init__()
        self.function = function
        for name, value in needed.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.function(x)


class InPlace(nn.Module):
    """A module beside something written in place, which has no influence."""

    def __init__(self, module):
        super().__init__()
        for name, child in module.named_children():
            setattr(self, name, child)
        self.way = type(module).forward

    def forward(self, x):
        torch.zeros(3).add_(1)
        return self.way(self, x)
