import operator

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.architectures import initial
from models.graph import lower
from models.nets import Architecture, SeparableNet


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
            result = F.max_pool2d(operands[0], step.window, step.stride, step.pads[::2])
        else:
            groups = len(step.weight) if step.kind == "depthwise" else 1
            top, bottom, left, right = step.pads
            padded = F.pad(operands[0], (left, right, top, bottom))
            result = F.conv2d(padded, step.weight, step.bias, step.stride, groups=groups)
        assert result.shape[1:] == (step.shape[2], *step.shape[:2])
        values[step.name] = result.relu() if step.relu else result
    return [values[name].flatten(1) for name in graph.exits]


def shaken(model):
    """Random batch norms, so that folding them wrongly shows."""
    generator = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, values in module.state_dict().items():
                if values.is_floating_point():
                    values.uniform_(1 if name == "running_var" else -1, 3, generator=generator)
    return model.eval()


@pytest.mark.parametrize(("shape", "stride"), [((8, 8, 1), 1), ((15, 9, 3), 2)])
def test_the_demo_network_keeps_its_meaning(shape, stride):
    architecture = Architecture(shape=shape, classes=10, widths=(4, 6), branch_width=3, stem_stride=stride)
    model = shaken(initial(architecture, 0))
    graph = lower(model, shape)
    images = torch.rand(7, shape[2], *shape[:2], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for expected, found in zip(model(images), evaluate(graph, images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_the_separable_network_keeps_its_meaning():
    model = shaken(SeparableNet((17, 10, 1), 12, width=6))
    graph = lower(model, (17, 10, 1))
    kinds = [step.kind for step in graph.steps]
    assert kinds == ["conv", "depthwise", "conv", "depthwise", "conv", "pool", "linear"]
    assert graph.steps[1].weight.shape == (6, 1, 3, 3)
    assert graph.steps[-2].window == graph.steps[-3].shape[:2]
    images = torch.rand(7, 1, 17, 10, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(evaluate(graph, images)[0], model(images)[0], rtol=1e-4, atol=1e-3)


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


def test_the_demo_networks_order():
    graph = lower(initial(Architecture(shape=(8, 8, 1), classes=10, widths=(4, 6), branch_width=3), 0), (8, 8, 1))
    names = [step.name for step in graph.steps]
    assert graph.exits == ("branch_head.linear", "head.linear")
    assert names.index("branch_head.linear") < names.index("late.shortcut.conv")
    readers = [name for step in graph.steps for name in step.inputs]
    for number, step in enumerate(graph.steps):
        if step.kind == "add":  # right behind the convolution whose result nothing else reads
            assert step.inputs[0] == names[number - 1]
            assert readers.count(step.inputs[0]) == 1
    final = graph.final_only()
    assert [step.name for step in final.steps] == [name for name in names if not name.startswith("branch")]
    assert final.exits == ("head.linear",)


class Whole(nn.Module):
    """Everything that is supported and the demo network doesn't use."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, (3, 1), stride=(2, 1), padding=(1, 0))
        self.norm = nn.BatchNorm2d(4, affine=False)
        self.drop = nn.Dropout()
        self.hidden = nn.Linear(4 * 3 * 4, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        y = F.relu(self.norm(self.first(x)))
        y = torch.add(y, y).relu()
        return self.last(torch.relu(self.hidden(torch.flatten(self.drop(y), 1))))


def test_other_spellings():
    model = shaken(Whole())
    graph = lower(model, (5, 4, 2))
    assert [(step.kind, step.relu) for step in graph.steps] == [
        ("conv", True),
        ("add", True),
        ("linear", True),
        ("linear", False),
    ]
    images = torch.rand(3, 2, 5, 4)
    with torch.no_grad():
        torch.testing.assert_close(evaluate(graph, images)[0], model(images), rtol=1e-4, atol=1e-4)


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
    """A function as a module that is traced through."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("between", "message"),
    [
        (nn.LPPool2d(2, 2), "between: modules must be among Conv2d, .* not LPPool2d"),
        (nn.Sequential(nn.ReLU(), nn.Sigmoid()), "between.1: modules must be among .* not Sigmoid"),
        (
            nn.Conv2d(4, 4, 1, groups=2),
            r"between: Conv2d must have .* not \(1, 1\) and 2 groups of 4 to 4 channels",
        ),
        (nn.Conv2d(4, 8, 1, groups=4), r"between: Conv2d must have .* not \(1, 1\) and 4 groups of 4 to 8 channels"),
        (nn.Conv2d(4, 4, 3, dilation=2), r"between: Conv2d must have .* not \(2, 2\) and 1 groups of 4 to 4"),
        (nn.AvgPool2d(2, padding=1), "between: AvgPool2d must have no padding, no ceil_mode and no divisor_override"),
        (nn.AvgPool2d(4, ceil_mode=True), "between: AvgPool2d must have no padding, no ceil_mode"),
        (nn.AvgPool2d(2, divisor_override=3), "between: AvgPool2d must have no padding, no ceil_mode"),
        (nn.AvgPool2d((2, 7)), r"between: AvgPool2d's window must be of 2 to 6x6 positions, not \(2, 7\)"),
        (nn.AvgPool2d(1), r"between: AvgPool2d's window must be of 2 to 6x6 positions, not \(1, 1\)"),
        (nn.Conv2d(4, 4, 3, padding="same"), "between: Conv2d must be padded by numbers with zeros, not same"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "with zeros, not .*circular"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), r"between.1: BatchNorm2d must be the only reader of one of conv"),
        (nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4)), r"between.1: BatchNorm2d must follow a Conv2d"),
        (nn.BatchNorm2d(4, track_running_stats=False), "between: BatchNorm2d must keep running statistics"),
        (nn.Sequential(nn.ReLU(), nn.ReLU()), r"between.1: ReLU must be the only reader"),
        (
            Call(lambda x: torch.relu(x) + x),
            "relu: ReLU must be the only reader of one of conv, depthwise, linear, add without ReLU",
        ),
        (Call(torch.sigmoid), "sigmoid: functions must be among add, relu and flatten"),
        (Call(lambda x: x + 1), "add: an addition must be of two maps"),
        (Call(lambda x: operator.mul(x, x)), "mul: functions must be among"),
        (Call(lambda x: x + torch.relu(x) if x.sum() > 0 else x), "Body: the forward pass can't be traced"),
        (nn.MaxPool2d(2, dilation=2), "between: MaxPool2d must have dilation 1, no ceil_mode and no return_indices"),
        (nn.MaxPool2d(4, ceil_mode=True), "between: MaxPool2d must have dilation 1, no ceil_mode"),
        (nn.MaxPool2d(2, return_indices=True), "between: MaxPool2d must have dilation 1, no ceil_mode"),
        (
            nn.MaxPool2d(3, padding=(1, 2)),
            r"between: MaxPool2d's padding must be at most half its window \(3, 3\), not \(1, 2\)",
        ),
        (nn.MaxPool2d((2, 7)), r"between: MaxPool2d's window must be of 2 to 6x6 positions, not \(2, 7\)"),
        (nn.MaxPool2d(1), r"between: MaxPool2d's window must be of 2 to 6x6 positions, not \(1, 1\)"),
        (nn.AdaptiveAvgPool2d(2), "between: AdaptiveAvgPool2d must give one position, not 2"),
        (nn.Flatten(2), "between: Flatten must cover all but the first dimension"),
        (nn.Flatten(), "between: Flatten must be followed by Linear"),
        (nn.Linear(4, 4), "between: Linear must read a flattened map or another Linear of 4 values"),
    ],
)
def test_unsupported_is_refused_by_name(between, message):
    with pytest.raises(ValueError, match=message):
        lower(Body(between), (6, 6, 1))


def test_maps_of_different_shapes():
    conv = nn.Conv2d(4, 6, 1)

    class Uneven(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv

        def forward(self, x):
            return self.conv(x) + x

    with pytest.raises(
        ValueError, match=r"between.add: operands must have equal shapes, not \(6, 6, 6\) and \(6, 6, 4\)"
    ):
        lower(Body(Uneven()), (6, 6, 1))


def test_a_module_called_twice():
    shared = nn.Conv2d(4, 4, 1)
    with pytest.raises(ValueError, match=r"between.0: a module must be called once, not several times"):
        lower(Body(nn.Sequential(shared, shared)), (6, 6, 1))


def test_exits_are_linear():
    with pytest.raises(ValueError, match="0: an exit must be a Linear without ReLU"):
        lower(nn.Sequential(nn.Conv2d(1, 4, 3)), (6, 6, 1))
    with pytest.raises(ValueError, match="1: an exit must be a Linear without ReLU"):
        lower(nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.ReLU()), (6, 6, 1))


def test_two_inputs():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(ValueError, match="y: a network must take one input, not several"):
        lower(Two(), (6, 6, 1))


@pytest.mark.parametrize("place", ["conv.weight", "conv.bias", "linear.weight", "between.running_var"])
def test_values_that_are_no_numbers_are_named(place):
    model = Body(nn.BatchNorm2d(4)).eval()
    values = model.state_dict()[place]
    values.view(-1)[0] = np.nan
    with pytest.raises(ValueError, match=rf"{place.split('.')[0]}: .* must be finite, not NaN or infinite"):
        lower(model, (6, 6, 1))
