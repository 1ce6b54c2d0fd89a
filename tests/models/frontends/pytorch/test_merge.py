"""Members of an ensemble side by side compute, in one network, the mean of what each computes alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from hw.network.selection import Select
from models.frontends.pytorch.graph import lower
from models.frontends.pytorch.merge import lowered, merged
from models.frontends.pytorch.steps import Graph, GraphStep
from models.networks.architectures import initial
from models.networks.ensemble import Ensemble
from models.networks.residual_net import Architecture
from tests.models.frontends.nets import evaluate
from tests.models.separable import SeparableNet

SHAPE = (8, 8, 1)
ARCHITECTURE = Architecture(shape=SHAPE, classes=10, widths=(4, 8), branch_width=2)
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def members(count: int) -> list[nn.Module]:
    return [initial(ARCHITECTURE, seed).eval() for seed in range(count)]


@pytest.fixture(scope="module")
def graphs() -> list[Graph]:
    return [lower(member, SHAPE) for member in members(3)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_logits_of_every_exit_are_the_mean(graphs, count):
    found = evaluate(merged(graphs[:count]), IMAGES)
    each = [evaluate(graph, IMAGES) for graph in graphs[:count]]
    assert len(found) == 2
    for head, logits in enumerate(found):
        expected = torch.stack([one[head] for one in each]).mean(0)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_channels_of_members_stand_one_behind_the_other(graphs):
    values = [evaluate(replace(graph, exits=(graph.steps[4].name,)), IMAGES)[0] for graph in graphs]
    whole = merged(graphs)
    found = evaluate(replace(whole, exits=(whole.steps[4].name,)), IMAGES)[0]
    torch.testing.assert_close(found, torch.cat(values, 1), rtol=1e-4, atol=1e-5)


def test_depthwise_layers_stay_depthwise():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        nets = [SeparableNet((10, 6, 2), 3, width=4).eval() for _ in range(2)]
    graphs = [lower(net, (10, 6, 2)) for net in nets]
    found = merged(graphs)
    assert [step.kind for step in found.steps] == [step.kind for step in graphs[0].steps]
    depthwise = next(step for step in found.steps if step.kind == "depthwise")
    assert depthwise.weight.shape == (8, 1, 3, 3)
    images = torch.rand(3, 2, 10, 6, generator=torch.Generator().manual_seed(0))
    expected = (evaluate(graphs[0], images)[0] + evaluate(graphs[1], images)[0]) / 2
    torch.testing.assert_close(evaluate(found, images)[0], expected, rtol=1e-4, atol=1e-5)


def test_an_ensemble_is_lowered_and_a_network_alone_is_itself():
    nets = members(2)
    found = lowered(Ensemble(nets).eval(), SHAPE)
    alone = lowered(nets[0], SHAPE)
    assert found.steps[0].shape[2] == 2 * alone.steps[0].shape[2]
    for step, wanted in zip(alone.steps, lower(nets[0], SHAPE).steps, strict=True):
        assert (step.name, step.kind, step.shape) == (wanted.name, wanted.kind, wanted.shape)
        assert step.weight is wanted.weight is None or torch.equal(step.weight, wanted.weight)


def step(**values) -> GraphStep:
    known = {"kind": "pool", "name": "s", "inputs": ("input",), "shape": (4, 4, 1), "window": (2, 2)}
    return GraphStep(**known | values)


def graph_of(*steps: GraphStep) -> Graph:
    return Graph(shape=SHAPE, steps=steps, exits=(steps[-1].name,))


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        ([], "an ensemble must have at least 1 member, not 0"),
        ([graph_of(step())] * 2, "s: in an ensemble, only convolutions and linear layers may read the image"),
        (
            [graph_of(step(inputs=("a",))), graph_of(step(inputs=("a",), window=(2, 1)))],
            "s: members of an ensemble must have equal steps, not pool, pool",
        ),
        (
            [graph_of(step(inputs=("a",))), graph_of(step(inputs=("a",), kind="max_pool"))],
            "s: members of an ensemble must have equal steps, not pool, max_pool",
        ),
        ([graph_of(step()), graph_of(step(name="t"))], "must have equal images, exits and numbers of steps"),
        ([graph_of(step()), graph_of(step(name="t"), step())], "must have equal images, exits and numbers of steps"),
        (
            [graph_of(step(inputs=("a",), select=Select(kind="elements", count=5)))] * 2,
            "s: members of an ensemble must not select winners: they would compete",
        ),
    ],
)
def test_what_is_refused(graphs, message):
    with pytest.raises(ValueError, match=message):
        merged(graphs)


def test_a_member_alone_may_do_what_several_may_not():
    for alone in (graph_of(step()), graph_of(step(inputs=("a",), select=Select(kind="elements", count=5)))):
        assert merged([alone]) == alone
