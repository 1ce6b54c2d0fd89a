"""Pools of every kind become steps that compute the same; what no windows of equal size give is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.frontends.pytorch.graph import lower
from tests.models.frontends.nets import Body, Call, checked, evaluate

SHAPE = (6, 8, 1)


@pytest.mark.parametrize(
    ("pool", "window", "stride", "shape"),
    [
        (nn.AvgPool2d(2), (2, 2), (2, 2), (3, 3, 4)),
        (nn.AvgPool2d((3, 2), stride=(1, 3)), (3, 2), (1, 3), (4, 2, 4)),
        (nn.AvgPool2d(6), (6, 6), (6, 6), (1, 1, 4)),
    ],
)
def test_average_pools_with_a_window(pool, window, stride, shape):
    model = Body(pool).eval()
    graph = lower(model, (6, 6, 1))
    step = graph.steps[1]
    assert (step.kind, step.window, step.stride, step.shape) == ("pool", window, stride, shape)
    images = torch.rand(3, 1, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(evaluate(graph, images)[0], model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("pool", "window", "stride", "padding", "shape"),
    [
        (nn.MaxPool2d(2), (2, 2), (2, 2), (0, 0), (3, 3, 4)),
        (nn.MaxPool2d((3, 2), stride=(1, 3), padding=(1, 0)), (3, 2), (1, 3), (1, 0), (6, 2, 4)),
        (nn.MaxPool2d(6), (6, 6), (6, 6), (0, 0), (1, 1, 4)),
    ],
)
def test_max_pools(pool, window, stride, padding, shape):
    model = Body(pool).eval()
    graph = lower(model, (6, 6, 1))
    step = graph.steps[1]
    assert (step.kind, step.window, step.stride, step.pads[::2]) == ("max_pool", window, stride, padding)
    assert step.pads[::2] == step.pads[1::2]
    assert step.shape == shape
    images = torch.rand(3, 1, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(evaluate(graph, images)[0], model(images))


def pooled(function):
    """The step that a function of a map of 6x8 positions is, found to compute the same; None where it is none."""
    graph = checked(Body(Call(function)), SHAPE)
    steps = [step for step in graph.steps if step.name.startswith("between")]
    return steps[0] if steps else None


@pytest.mark.parametrize(
    ("function", "kind", "window", "stride", "pads"),
    [
        (lambda x: F.adaptive_avg_pool2d(x, (3, 4)), "pool", (2, 2), (2, 2), (0, 0, 0, 0)),
        (lambda x: F.adaptive_avg_pool2d(x, (5, 7)), "pool", (2, 2), (1, 1), (0, 0, 0, 0)),  # which overlap
        (lambda x: F.adaptive_max_pool2d(x, (1, 2)), "max_pool", (6, 4), (6, 4), (0, 0, 0, 0)),
        (lambda x: x.mean(2, keepdim=True), "pool", (6, 1), (6, 1), (0, 0, 0, 0)),
        (lambda x: x.amax(-1, keepdim=True), "max_pool", (1, 8), (1, 8), (0, 0, 0, 0)),
        (lambda x: F.avg_pool2d(x, 3, 2, 1), "depthwise", None, (2, 2), (1, 0, 1, 0)),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), "depthwise", None, (2, 2), (0, 0, 0, 0)),
        (lambda x: F.avg_pool2d(x, 1, 2), "depthwise", None, (2, 2), (0, 0, 0, 0)),
        (lambda x: F.max_pool2d(x, 1, (1, 3), ceil_mode=True), "depthwise", None, (1, 3), (0, 0, 0, 0)),
        (lambda x: F.max_pool2d(x, 4, 4, ceil_mode=True), "max_pool", (4, 4), (4, 4), (0, 2, 0, 0)),
        (lambda x: F.max_pool2d(F.pad(x, (1, 0, 0, 1), value=-torch.inf), 3), "max_pool", (3, 3), (3, 3), (0, 1, 1, 0)),
    ],
)
def test_pools_are_steps(function, kind, window, stride, pads):
    step = pooled(function)
    assert (step.kind, step.window, step.stride) == (kind, window, stride)
    assert step.pads[::2] == pads[::2]
    assert all(one >= other for one, other in zip(step.pads, pads, strict=True))


@pytest.mark.parametrize("function", [lambda x: F.max_pool2d(x, 1), lambda x: F.adaptive_avg_pool2d(x, (6, 8))])
def test_pools_of_single_positions_are_nothing(function):
    assert pooled(function) is None


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: F.adaptive_avg_pool2d(x, (4, 4)),
            r"must give sizes of at most the map's \(6, 8\), .* equal, not \(4, 4\): the nearest are \(3, 4\)",
        ),
        (
            lambda x: F.adaptive_max_pool2d(x, (6, 9)),
            r"not \(6, 9\): the nearest are \(6, 8\)",
        ),
        (
            lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            "every window of an AvgPool2d must be divided",
        ),
        (lambda x: F.avg_pool2d(x, 4, 4, ceil_mode=True), "every window of an AvgPool2d must be divided by the same"),
        (lambda x: F.max_pool2d(x, 2, dilation=2), "MaxPool2d must have dilation 1"),
        (
            lambda x: F.max_pool2d(F.pad(x, (1, 0, 0, 0), value=-torch.inf), 1, 2),
            r"a pool of single positions must have no padding, not \(0, 0, 1, 0\)",
        ),
        (lambda x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1), "mean must be over positions of each channel, rows"),
    ],
)
def test_what_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        lower(Body(Call(function)).eval(), SHAPE)


def test_an_average_of_too_many_positions():
    with pytest.raises(ValueError, match=r"an average must be of at most \d+ positions, not 4900"):
        lower(Body(nn.AvgPool2d(70)).eval(), (140, 140, 1))
