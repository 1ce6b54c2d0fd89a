import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from hw.compiler.compile import compile_network
from hw.config import preset
from models.compression.fakequant import FakeQuantNet
from models.compression.quantize import to_network
from models.frontends.pytorch.graph import lower
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from tests.hw.equality import assert_equals_golden
from tests.models.frontends.nets import Body, Call, checked, evaluate
from tests.models.separable import SeparableNet


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
        ("depthwise", True),
        ("linear", True),
        ("linear", False),
    ]
    images = torch.rand(3, 2, 5, 4)
    with torch.no_grad():
        torch.testing.assert_close(evaluate(graph, images)[0], model(images), rtol=1e-4, atol=1e-4)


class Named(nn.Module):
    """Some modules, and a function of them and the image."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.way = forward

    def forward(self, x):
        return self.way(self, x)


def add_in_place(net, x):
    a = net.first(x)
    skip = a
    a += net.side(x)
    return net.out(torch.flatten(net.next(a) + skip, 1))


def add_method(net, x):
    a = net.first(x)
    skip = a
    a.add_(net.side(x))
    return net.out(torch.flatten(net.next(a) + skip, 1))


def add_and_drop_the_result(net, x):
    a, b = net.first(x), net.side(x)
    b.add_(a)
    return net.out(b.flatten(1))


def add_to_a_view(net, x):
    a = net.first(x)
    a.view(len(x), -1).add_(net.side(x).view(len(x), -1))
    return net.out(a.reshape(len(x), -1))


def add_into_another(net, x):
    a = net.first(x)
    torch.add(a, net.side(x), out=a)
    return net.out(a.flatten(start_dim=1))


def rectified_in_place(net, x):
    a = net.first(x)
    F.relu(a, inplace=True)
    return net.out(a.flatten(1))


@pytest.mark.parametrize(
    "forward", [add_in_place, add_method, add_and_drop_the_result, add_into_another, rectified_in_place]
)
def test_what_is_written_in_place_is_followed(forward):
    torch.manual_seed(2)
    net = Named(
        forward, first=nn.Conv2d(1, 8, 3, padding=1), side=nn.Conv2d(1, 8, 1), next=nn.Conv2d(8, 8, 3, padding=1),
        out=nn.Linear(512, 3),
    )  # fmt: skip
    checked(net, (8, 8, 1))


def test_what_is_written_through_a_view_is_followed_or_refused():
    net = Named(add_to_a_view, first=nn.Conv2d(1, 8, 3, padding=1), side=nn.Conv2d(1, 8, 1), out=nn.Linear(512, 3))
    with pytest.raises(ValueError, match="an addition must read a map"):
        lower(net, (8, 8, 1))

    def some_channels(x):
        x[:, :2] += 1
        return x

    with pytest.raises(ValueError, match=r"between: operators must be among .*, not slice"):
        lower(Body(Call(some_channels)), (6, 6, 1))


def convolution(inputs, outputs, kernel=3, padding=1):
    return nn.Conv2d(inputs, outputs, kernel, padding=padding)


def two_additions(net, x):
    y = net.a(x)
    return net.o((net.c(net.b(y)) + y + y).flatten(1))


def final_first(net, x):
    y = net.a(x).flatten(1)
    last = net.o(y)
    return net.p(y), last


def dead(net, x):
    net.b(x)
    return net.o(net.a(x).flatten(1))


def twice(net, x):
    y = net.a(x)
    return net.o((y + y).flatten(1))


def beside(net, x):
    y = net.a(x)
    return net.o((net.b(y) + y).flatten(1))


def edged(x):
    return nn.functional.max_pool2d(nn.functional.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)


def pooled_twice(net, x):
    return net.o(net.pool(net.relu(net.b(net.pool(net.relu(net.a(x)))))).flatten(1))


FIRST, SECOND, LAST = convolution(1, 2), convolution(2, 2), nn.Linear(128, 3)
ODD = {
    "a module called input": Named(lambda n, x: n.o(n.input(x).flatten(1)), input=FIRST, o=LAST),
    "final logits first": Named(final_first, a=FIRST, o=LAST, p=nn.Linear(128, 3)),
    "a layer nobody reads": Named(dead, a=FIRST, b=convolution(1, 2), o=LAST),
    "x + x": Named(twice, a=FIRST, o=LAST),
    "twice the image": Named(lambda n, x: n.o((x + x).flatten(1)), o=nn.Linear(64, 3)),
    "x + conv(x)": Named(beside, a=FIRST, b=SECOND, o=LAST),
    "two additions": Named(two_additions, a=FIRST, b=SECOND, c=convolution(2, 2), o=LAST),
    "global pool of a 1x1 map": nn.Sequential(
        convolution(1, 2, 8, 0), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)
    ),
    "pools of one position": nn.Sequential(FIRST, nn.MaxPool2d(1), nn.AvgPool2d(1), nn.Flatten(), LAST),
    "pool and ReLU used twice": Named(
        pooled_twice, a=FIRST, b=convolution(2, 4), pool=nn.MaxPool2d(2), relu=nn.ReLU(), o=nn.Linear(16, 3)
    ),
    "padded averages, largest values at the edge": nn.Sequential(
        FIRST,
        nn.AvgPool2d(3, 1, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 3),
    ),
    "averages that don't count padding, of as many positions in all windows": nn.Sequential(
        FIRST,
        nn.AvgPool2d(5, 5, 1, count_include_pad=False),
        nn.AvgPool2d(4, 4, 1, count_include_pad=False),
        nn.Flatten(),
        nn.Linear(2, 3),
    ),
    "padding of -infinity, rows and columns": Named(
        lambda n, x: n.o(edged(n.a(x)).amax(3, keepdim=True).mean(2).flatten(1)), a=FIRST, o=nn.Linear(2, 3)
    ),
    "a sum of windows": nn.Sequential(
        FIRST, nn.AvgPool2d(2, divisor_override=1), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Linear(4, 3)
    ),
    "adaptive averages whose windows overlap": nn.Sequential(
        FIRST, nn.AvgPool2d(2, 1), nn.AdaptiveAvgPool2d((3, 2)), nn.Flatten(), nn.Linear(12, 3)
    ),
    "dropout behind flatten": nn.Sequential(FIRST, nn.Flatten(), nn.Dropout(), LAST),
    "view": Named(lambda n, x: n.o(n.a(x).view(x.shape[0], -1)), a=FIRST, o=LAST),
    "reshape": Named(lambda n, x: n.o(n.a(x).reshape(-1, 128)), a=FIRST, o=LAST),
    "mean": Named(lambda n, x: n.o(n.a(x).mean((2, 3))), a=FIRST, o=nn.Linear(2, 3)),
    "mean of a view": Named(lambda n, x: n.o(n.a(x).flatten(2).mean(-1)), a=FIRST, o=nn.Linear(2, 3)),
    "padding 1 of a 1x1 kernel": nn.Sequential(convolution(1, 2, 1, 1), nn.Flatten(), nn.Linear(200, 3)),
    "padding 3 of a 3x3 kernel": nn.Sequential(convolution(1, 2, 3, 3), nn.Flatten(), nn.Linear(288, 3)),
    "padding 3 at stride 2": nn.Sequential(nn.Conv2d(1, 2, 2, 2, padding=3), nn.Flatten(), nn.Linear(98, 3)),
    "same padding": nn.Sequential(nn.Conv2d(1, 2, (1, 3), padding="same"), nn.Flatten(), LAST),
    "uneven same padding": nn.Sequential(nn.Conv2d(1, 2, (2, 4), padding="same"), nn.Flatten(), LAST),
    "batch norms in a row": nn.Sequential(FIRST, nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.Flatten(), LAST),
}


#: Those beside others of the same kind.
SLOW = {
    *("twice the image", "two additions", "reshape", "mean of a view", "padding 3 at stride 2", "uneven same padding"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in ODD])
def test_what_is_legal_runs(name):
    """Not only in float: the accelerator takes it, too."""
    graph = checked(ODD[name], (8, 8, 1))
    twin = FakeQuantNet(graph)
    with torch.no_grad():
        twin.train()(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    codes = np.random.default_rng(0).integers(-128, 128, (2, 8, 8, 1)).astype(np.int8)
    assert_equals_golden(compile_network(to_network(twin.eval(), "odd"), preset("base-85f")), codes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_become_float32(dtype):
    torch.manual_seed(1)
    single = Body(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    graph = lower(copy.deepcopy(single).to(dtype), (6, 6, 1))
    for step, expected in zip(graph.steps, lower(single, (6, 6, 1)).steps, strict=True):
        if step.weight is not None:
            assert step.weight.dtype == step.bias.dtype == torch.float32
            torch.testing.assert_close(step.weight, expected.weight, rtol=0.01, atol=0.01)


def parametrized(how):
    torch.manual_seed(1)
    net = nn.Sequential(convolution(1, 8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3))
    how(net[0])
    return net.eval()


@pytest.mark.parametrize(
    "how",
    [
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        weight_norm,
        spectral_norm,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_weights_that_are_computed_are_those_of_now(how):
    """Right behind a change of what they are computed from, before any call."""
    net = parametrized(how)
    with torch.no_grad():
        net(torch.rand(2, 1, 8, 8))
        state = {name: value + 0.1 if value.is_floating_point() else value for name, value in net.state_dict().items()}
    net.load_state_dict(state)
    graph = checked(net, (8, 8, 1))
    with torch.no_grad():
        net(torch.rand(2, 1, 8, 8))
        assert torch.equal(graph.steps[0].weight, net[0].weight)


def test_exits_are_linear():
    with pytest.raises(ValueError, match="0: an exit must be a Linear without ReLU"):
        lower(nn.Sequential(nn.Conv2d(1, 4, 3)), (6, 6, 1))
    with pytest.raises(ValueError, match="1: an exit must be a Linear without ReLU"):
        lower(nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.ReLU()), (6, 6, 1))


@pytest.mark.parametrize("place", ["conv.weight", "conv.bias", "linear.weight", "between.running_var"])
def test_values_that_are_no_numbers_are_named(place):
    model = Body(nn.BatchNorm2d(4)).eval()
    values = model.state_dict()[place]
    values.view(-1)[0] = np.nan
    with pytest.raises(ValueError, match=rf"{place.split('.')[0]}: .* must be finite, not NaN or infinite"):
        lower(model, (6, 6, 1))
