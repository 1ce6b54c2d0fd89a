import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.frontends.pytorch.calls import line_of, undisturbed
from models.frontends.pytorch.exported import export
from models.frontends.pytorch.graph import lower
from tests.models.frontends.nets import Body, Call, checked


def test_the_module_and_the_process_are_left_as_they_were():
    net = Body(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout()))
    net.train()
    net.between[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    torch.manual_seed(3)
    drawn = torch.rand(3)
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lower(net, (6, 6, 1))
    assert torch.equal(torch.rand(3), drawn)
    assert [module.training for module in net.modules()] == modes
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_nothing_is_compiled_that_is_to_be_compiled_when_it_is_called():
    compiled = torch.compile(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), backend=lambda *_: pytest.fail("compiled"))
    assert len(lower(nn.Sequential(compiled), (2, 2, 2)).exits) == 1


def test_a_process_in_inference_mode():
    net = Body(nn.ReLU())
    with torch.inference_mode():
        graph = lower(net, (6, 6, 1))
    assert [step.kind for step in graph.steps] == ["conv", "pool", "linear"]


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            Body(Call(lambda x: x if x.sum() > 0 else x + x)),
            r"^between \(test_exported.py:\d+\): the forward pass can't be exported: .*data-depend",
        ),
        (
            Body(nn.MaxPool2d(2, return_indices=True)),
            r"^pool \(nets.py:\d+\): can't compute images of shape .6, 6, 1.: 'tuple' object",
        ),
        (
            Body(nn.Conv2d(3, 4, 1)),
            r"^between \(nets.py:\d+\): can't compute images of shape .6, 6, 1.: Given groups=1, weight",
        ),
        (
            Body(nn.AvgPool2d((2, 7))),
            r"^between \(nets.py:\d+\): can't compute images of shape \(6, 6, 1\): Given input size",
        ),
        (
            Body(nn.MaxPool2d(3, padding=2)),
            r"^between \(nets.py:\d+\): can't compute images .* pad should be at most half",
        ),
        (Call(lambda x: {"y": None}), "^Call: a network must return logits, or several in .*, not dict of NoneType$"),
        (Call(lambda x: (x, 3)), "^Call: a network must return logits, or several in .*, not tuple of Tensor, int$"),
        (Call(lambda x: ()), "^Call: a network must return the logits of at least 1 exit, not of 0$"),
        (
            nn.Bilinear(2, 2, 2),
            "^Bilinear: can't compute images .*: .*missing 1 required positional argument: 'input2'",
        ),
    ],
)
def test_what_no_graph_can_be_made_of(net, message):
    with pytest.raises(ValueError, match=message):
        lower(net, (6, 6, 1))


def test_a_branch_on_what_is_computed_prints_nothing(capfd):
    with pytest.raises(ValueError, match="data-dependent"):
        lower(Body(Call(lambda x: x if x.sum() > 0 else x + x)), (6, 6, 1))
    assert capfd.readouterr() == ("", "")


class Counts(nn.Module):
    """Has numbers that a call may change."""

    def __init__(self, change):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.weight = nn.Parameter(torch.zeros(()))
        self.change = change

    def forward(self, x):
        self.change(self, x)
        return x


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda net, x: net.calls.add_(1), "between.calls"),
        (lambda net, x: net.weight.add_(1), "between.weight"),
    ],
)
def test_what_a_call_changes(change, what):
    net = Body(Counts(change))
    message = rf"^Body: a network must not change {what} \(test_exported.py:\d+\) when it is called$"
    with pytest.raises(ValueError, match=message):
        lower(net, (6, 6, 1))
    assert net.between.calls == net.between.weight == 0


def replaced(net, _):
    net.weight = nn.Parameter(net.weight + 1)


def resized(net, _):
    net.calls.resize_(2)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda net, x: net.weight.data.add_(1), "between.weight"),
        (replaced, "between.weight"),
        (resized, "between.calls"),
        (lambda net, x: F.batch_norm(x, net.mean, net.var, training=True), "between.mean, between.var"),
    ],
)
def test_what_a_call_changes_unseen_by_the_graph(change, what):
    counts = Counts(change)
    counts.register_buffer("mean", torch.zeros(4))
    counts.register_buffer("var", torch.ones(4))
    net = Body(counts)
    held = dict(net.named_parameters()) | dict(net.named_buffers())
    before = {name: value.clone() for name, value in held.items()}
    with pytest.raises(ValueError, match=rf"^Body: a network must not change {what} when it is called$"):
        lower(net, (6, 6, 1))
    for name, value in (dict(net.named_parameters()) | dict(net.named_buffers())).items():
        assert value is held[name], name
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.eye(4).to_sparse(), "float32, sparse_coo"),
        (torch.eye(4, dtype=torch.complex64), "complex64, strided"),
    ],
)
def test_parameters_of_another_kind(value, kind):
    net = Body(nn.Identity())
    net.between.register_buffer("matrix", value)
    with pytest.raises(
        ValueError, match=rf"^between\.matrix: parameters and buffers must be dense and real, not {kind}$"
    ):
        lower(net, (6, 6, 1))


def test_parameters_without_values():
    message = "parameters and buffers must have values, not be lazy or on device meta"
    with pytest.raises(ValueError, match=rf"^0.weight: {message}$"):
        lower(nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5)), (6, 6, 1))
    with pytest.raises(ValueError, match=rf"^\w+.weight: {message}$"):
        lower(Body(nn.ReLU()).to("meta"), (6, 6, 1))
    net = Body(nn.BatchNorm2d(4))
    net.between.to("meta")
    with pytest.raises(ValueError, match=rf"^between.weight: {message}$"):
        lower(net, (6, 6, 1))


@pytest.mark.parametrize("model", [nn.ReLU, "net", None, lambda images: images])
def test_what_is_no_module(model):
    with pytest.raises(ValueError, match=r"^model must be a torch.nn.Module, not "):
        lower(model, (6, 6, 1))


def test_an_image_that_a_call_changes():
    net = nn.Sequential(Call(lambda x: x.mul_(2)), Body(nn.ReLU()))
    message = r"^Sequential: a network must not change the image \(\w+.py:\d+\) when it is called$"
    with pytest.raises(ValueError, match=message):
        lower(net, (6, 6, 1))


@pytest.mark.parametrize("shape", [(10**9, 10**9, 1), (2**63, 8, 1), (8, 8, 2**31), (10**30, 1, 1)])
def test_shapes_of_too_many_values(shape):
    message = rf"^shape must be of an image of at most 16,777,216 values, not {re.escape(str(shape))}$"
    with pytest.raises(ValueError, match=message):
        lower(Body(nn.ReLU()), shape)


@pytest.mark.parametrize("shape", [(6.0, 6.0, 1.0), (6, 6), (6, 6, 0), (6, -6, 1), (True, 6, 1), "6x6", None])
def test_shapes_that_no_image_has(shape):
    with pytest.raises(ValueError, match=r"^shape must be a tuple of 3 positive integers .*, not "):
        lower(Body(nn.ReLU()), shape)


def test_passing_operators_and_dead_ones_are_gone():
    net = Body(Call(lambda x: (x.clone().detach().contiguous().float().sigmoid(), x)[1]))
    with undisturbed(net):
        found = export(net, (6, 6, 1))
    assert [node.name for node in found.nodes] == ["conv2d", "adaptive_avg_pool2d", "flatten", "linear"]
    checked(Body(Call(lambda x: torch.relu(x.clone()))), (6, 6, 1))


def test_other_names_of_operators_become_the_usual_ones_with_the_lines_they_stand_in():
    net = Body(Call(lambda x: torch.fliplr(torch.concat([torch.subtract(x, 1), torch.true_divide(x, 2)], 1))[:, :4]))
    with undisturbed(net):
        found = export(net, (6, 6, 1))
    assert [str(node.target).removeprefix("aten.") for node in found.nodes[1:6]] == [
        *("sub.Tensor", "div.Tensor", "cat.default", "flip.default", "slice.Tensor"),
    ]
    assert all(line_of(node).startswith("nets.py:") for node in found.nodes[1:6])
    assert {found.module(node)[0] for node in found.nodes[1:6]} == {"between"}
