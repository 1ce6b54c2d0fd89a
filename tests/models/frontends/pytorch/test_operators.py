import operator
import re

import pytest
import torch
from torch import nn

from models.frontends.pytorch.graph import lower
from tests.models.frontends.nets import Body, Call, InPlace, checked


def refusal(net):
    """Why a network is refused, without the lines of its code; how many lines there were."""
    with pytest.raises(ValueError, match="must") as caught:
        lower(net, (6, 6, 1))
    return re.subn(r" \(\w+\.py:\d+\)", "", str(caught.value))


REFUSED = [
    (nn.LPPool2d(2, 2), "^between: operators must be among adaptive_avg_pool1d, .* add, .*, not pow of LPPool2d$"),
    (nn.Sequential(nn.ReLU(), nn.Sigmoid()), r"^between.1: operators must be among .* not sigmoid of Sigmoid$"),
    (
        Call(lambda x: nn.functional.conv2d(x.view(len(x), 8, 3, 6), torch.ones(4, 8, 1, 1))),
        "Conv2d must read a map",
    ),
    (
        nn.AvgPool2d(2, padding=1, count_include_pad=False),
        r"^between: every window of an AvgPool2d must be divided by the same number: the zeros",
    ),
    (nn.AvgPool2d(4, ceil_mode=True), "^between: every window of an AvgPool2d must be divided by the same number"),
    (
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        r"^between: padding must add .*, not .* of circular 0$",
    ),
    (nn.Sequential(nn.ConstantPad2d(1, 0.5), nn.Conv2d(4, 4, 3)), "^between.0: padding must add .*constant 0.5$"),
    (nn.Sequential(nn.ZeroPad2d(-1), nn.Conv2d(4, 4, 3)), "^between.0: padding must add rows and columns"),
    (nn.ZeroPad2d(1), "^between: padding must add rows and columns of zeros before a convolution"),
    (
        nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)),
        r"^between.1: BatchNorm2d must be the only reader of one of conv",
    ),
    (nn.BatchNorm2d(4, track_running_stats=False), "^between: BatchNorm2d must keep running statistics"),
    (nn.Sequential(nn.ReLU(), nn.ReLU()), r"^between.1: ReLU must be the only reader"),
    (
        Call(lambda x: torch.relu(x) + x),
        "^between: ReLU must be the only reader of one of conv, depthwise, linear, add without ReLU",
    ),
    (Call(torch.sigmoid), "^between: operators must be among .* not sigmoid"),
    (Call(lambda x: x + 1), "^between.add: an addition must be of two maps"),
    (Call(lambda x: torch.add(x, x, alpha=2)), "^between.add: an addition's alpha must be 1, not 2: multiply"),
    (Call(lambda x: operator.mul(x, x)), "^between: a product must be of a map and its own winners"),
    (Call(lambda x: torch.dropout(x, 0.5, True)), "^between: operators must be among"),
    (Call(lambda x: x + torch.rand_like(x)), "^between: operators must be among .* not rand_like"),
    (nn.MaxPool2d(2, dilation=2), "^between: MaxPool2d must have dilation 1$"),
    (
        nn.AdaptiveAvgPool2d(4),
        r"^between: AdaptiveAvgPool2d must give sizes of at most the map's \(6, 6\), for which all windows are equal, "
        r"not \(4, 4\): the nearest are \(3",
    ),
    (
        nn.Sequential(nn.AvgPool2d((6, 1)), nn.AdaptiveAvgPool2d((2, 3)), nn.AdaptiveAvgPool2d(1)),
        r"^between.1: AdaptiveAvgPool2d must give sizes of .* \(1, 6\), .*, not \(2, 3\): the nearest are \(1, 3\)$",
    ),
    (
        nn.Sequential(nn.AvgPool2d((6, 1)), nn.AdaptiveMaxPool2d((3, 6)), nn.AdaptiveAvgPool2d(1)),
        r"^between.1: AdaptiveMaxPool2d must give sizes of .* \(1, 6\), .*, not \(3, 6\): the nearest are \(1, 6\)$",
    ),
    (
        Call(lambda x: x.flatten(0, 1)[None].expand(3, 12, 6, 6)[:, :4]),
        "^between: a view must be of each image's map",
    ),
    (
        Call(lambda x: nn.functional.max_pool2d(x, 3).flatten(2).mean(1)[:, :, None, None]),
        "^between: mean must be over positions of each channel, rows, columns or all",
    ),
    (Call(lambda x: x.view(len(x), 4, 36, 1)), "^pool: AdaptiveAvgPool2d must read a map"),
    (nn.Linear(6, 6), "^between: Linear must read a flattened map or another Linear of 6 values"),
]
#: In the form that a graph with in-place operators gets; every fifth is quick.
FUNCTIONALIZED = [
    pytest.param(*each, True, marks=[pytest.mark.slow] if number % 5 else []) for number, each in enumerate(REFUSED)
]


@pytest.mark.parametrize(
    ("between", "message", "functionalized"), [*((*each, False) for each in REFUSED), *FUNCTIONALIZED]
)
def test_unsupported_is_refused_by_name(between, message, functionalized):
    """Also in the form that a graph with in-place operators gets."""
    net = Body(between)
    if functionalized:
        net = InPlace(net)
    reasons, lines = refusal(net)
    assert re.search(message, reasons)
    assert lines == reasons.count(";") + 1


def test_all_reasons_are_given_and_none_that_follows():
    net = Body(nn.Sequential(nn.Sigmoid(), nn.AdaptiveAvgPool2d(4), nn.Conv2d(4, 4, 1)))
    net.conv = nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")
    net.linear = nn.Sequential(nn.Linear(4, 4), nn.Softplus(), nn.Linear(4, 3))
    reasons, _ = refusal(net)
    assert re.search(
        r"^conv: padding must add [^;]*; between.0: operators must be among [^;]*, not sigmoid of Sigmoid; "
        r"between.1: AdaptiveAvgPool2d must give sizes [^;]*, not \(4, 4\): the nearest are \(3, 3\); "
        r"linear.1: softplus of Softplus is not among these operators either$",
        reasons,
    )

    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = Body(nn.Sigmoid()), Body(nn.AdaptiveAvgPool2d(4))

        def forward(self, x):
            return self.one(x), self.other(x)

    reasons, _ = refusal(Fork())
    assert re.search(r"^one.between: [^;]* of Sigmoid; other.between: AdaptiveAvgPool2d [^;]*$", reasons)


def test_what_reads_a_refused_map_is_looked_at_and_what_is_computed_of_it_alone_not():
    """Behind a GELU: a batch norm may be fused to it or not, an average pool is seen not to count its padding."""
    body = nn.Sequential(
        nn.GELU(), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Conv2d(4, 4, 1),
        nn.BatchNorm2d(4), nn.ReLU(), nn.ReLU(),
    )  # fmt: skip
    reasons, _ = refusal(Body(body))
    assert re.search(
        r"^between.0: [^;]*, not gelu of GELU; between.3: every window of an AvgPool2d[^;]*; "
        r"between.7: ReLU must be the only reader [^;]*$",
        reasons,
    )


def test_operators_of_a_users_own_are_each_listed_with_their_lines():
    def gated(x):
        gate = torch.sigmoid(x.mean((2, 3), keepdim=True))
        return torch.tanh(x) * gate

    reasons, lines = refusal(Body(Call(gated)))
    assert re.search(
        r"^between: operators must be [^;]*, not sigmoid; between: tanh is not among these operators either; "
        r"between: a product must be of a map and its own winners$",
        reasons,
    )
    assert lines == 3
    with pytest.raises(ValueError, match=r"not mean.default \(nets.py:\d+\)$"):
        lower(Body(Call(lambda x: x + x.mean())), (6, 6, 1))


def test_exits_are_looked_at_beside_refused_operators():
    net = Body(nn.Sigmoid())
    net.linear = nn.Linear(4, 2049)
    reasons, _ = refusal(net)
    classes = "linear: classes must be from 2 to 2048, not 2049"
    assert re.search(rf"^between: [^;]* not sigmoid of Sigmoid; {classes}$", reasons)


def test_chance_is_refused_by_its_operator():
    chance = torch.Generator().manual_seed(0)
    for between in (
        lambda x: x + torch.rand(x.shape, generator=chance),
        lambda x: nn.functional.conv2d(x, torch.rand(4, 4, 1, 1)),
    ):
        reasons, _ = refusal(Body(Call(between)))
        assert re.search(r"^between: operators must be among [^;]*, not rand$", reasons)


def test_a_module_with_weights_called_twice():
    shared = nn.Conv2d(4, 4, 1)
    with pytest.raises(ValueError, match=r"between.1: a module with weights must be called once, not several times"):
        lower(Body(nn.Sequential(shared, shared)), (6, 6, 1))
    with pytest.raises(ValueError, match=r"between.inner: a module with weights must be called once"):
        lower(Body(Call(lambda x: shared(shared(x)), inner=shared)), (6, 6, 1))


def test_functions_have_the_names_of_their_modules():
    weight = nn.Parameter(torch.ones(4, 4, 1, 1))

    def twice(x):
        y = nn.functional.conv2d(x, weight)
        return nn.functional.max_pool2d(nn.functional.conv2d(y, weight).relu() + x, 2)

    names = [step.name for step in checked(Body(Call(twice, weight=weight)), (6, 6, 1)).steps]
    assert names == ["conv", "between.conv2d", "between.conv2d_1", "between.add", "between.max_pool", "pool", "linear"]


def test_weights_that_depend_on_the_image():
    net = Body(Call(lambda x: nn.functional.conv2d(x, nn.functional.adaptive_avg_pool2d(x, 1))))
    net.linear = nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"between: weights must not depend on the image"):
        lower(net, (6, 6, 1))


@pytest.mark.parametrize(
    "between",
    [
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 4, 1)),
        nn.Conv2d(4, 4, (3, 2), dilation=(1, 3)),
        nn.Conv2d(4, 4, 3, dilation=2, padding="same", groups=2),
        nn.Conv2d(4, 4, 3, dilation=2, padding=2, groups=4, stride=2),
    ],
)
def test_groups_and_dilation_are_weights_of_zero(between):
    net = Body(between).eval()
    steps = {step.name: step for step in checked(net, (6, 6, 1)).steps}
    first = between[0] if isinstance(between, nn.Sequential) else between
    step = steps["between.0" if first is not between else "between"]
    assert (step.kind == "depthwise") == (first.groups == 4 and first.out_channels == 4)
    assert step.weight.count_nonzero() == first.weight.numel()


@pytest.mark.parametrize(
    ("pool", "kind"),
    [
        (nn.MaxPool1d(3, stride=2, padding=1), "max_pool"),
        (nn.AvgPool1d(2), "pool"),
        (nn.AdaptiveAvgPool1d(1), "pool"),
    ],
)
def test_maps_of_one_row_have_one_dimension(pool, kind):
    """Convolutions and pools of one dimension on images of one row."""

    class Row(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv1d(2, 4, 3, stride=2, padding=1), nn.Conv1d(4, 4, 1, padding="same")
            self.pool, self.linear = pool, nn.LazyLinear(3)

        def forward(self, x):
            return self.linear(self.pool(self.last(self.conv(x.squeeze(2)).relu())).flatten(1))

    net = Row()
    net(torch.zeros(1, 2, 1, 12))
    graph = checked(net, (1, 12, 2))
    assert [step.kind for step in graph.steps] == ["conv", "conv", kind, "linear"]
    assert graph.steps[0].shape == (1, 6, 4)


class Rows(nn.Module):
    """A body of one dimension between two layers."""

    def __init__(self, body):
        super().__init__()
        self.first, self.body, self.last = nn.Conv1d(1, 4, 1), body, nn.LazyLinear(3)

    def forward(self, x):
        return self.last(self.body(self.first(x.squeeze(2))).flatten(1))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (Call(lambda x: nn.functional.conv1d(x.view(len(x), 8, 6), torch.ones(4, 8, 1))), "Conv1d must read a map"),
        (nn.BatchNorm1d(4, track_running_stats=False), "BatchNorm1d must keep running statistics"),
        (nn.AvgPool1d(2, padding=1, count_include_pad=False), "every window of an AvgPool1d must be divided"),
        (nn.MaxPool1d(2, dilation=2), "MaxPool1d must have dilation 1"),
        (nn.AdaptiveAvgPool1d(5), r"AdaptiveAvgPool1d must give sizes .*, not \(1, 5\)"),
    ],
)
def test_layers_of_one_dimension_are_named_as_such(body, said):
    net = Rows(body).eval()
    net(torch.zeros(2, 1, 1, 12))
    with pytest.raises(ValueError, match=f"^body: {said}"):
        lower(net, (1, 12, 1))
