import re

import pytest
import torch

from models.frontends.pytorch.arrange import arranged, exit_problems
from models.frontends.pytorch.steps import GraphStep


def conv(name, source="input", channels=4, kind="conv"):
    weight = torch.ones(channels, 1 if kind == "depthwise" else 4, 1, 1)
    return GraphStep(kind=kind, name=name, inputs=(source,), shape=(5, 5, channels), weight=weight)


def add(name, *sources, relu=False):
    return GraphStep(kind="add", name=name, inputs=sources, shape=(5, 5, 4), relu=relu)


def head(name, source, classes=3):
    return GraphStep(
        kind="linear", name=name, inputs=(source,), shape=(1, 1, classes), weight=torch.ones(classes, 4, 5, 5)
    )


def order(*steps, exits=("last",)):
    graph = arranged((5, 5, 4), steps, exits)
    return [(step.name, *step.inputs) for step in graph.steps]


def test_a_convolution_comes_right_before_its_sum():
    steps = conv("a"), conv("b", "a"), conv("c", "a"), add("sum", "b", "c"), head("last", "sum")
    assert order(*steps) == [(step.name, *step.inputs) for step in steps]  # nothing to change
    later = conv("a"), conv("b", "a"), conv("c", "a"), conv("d", "c"), add("sum", "b", "c"), add("all", "sum", "d")
    assert [name for name, *_ in order(*later, head("last", "all"))] == ["a", "c", "b", "sum", "d", "all", "last"]


def test_a_map_is_copied_where_no_convolution_can_take_the_sum():
    steps = arranged(
        (5, 5, 4), [conv("a"), conv("b", "a"), add("sum", "b", "a", relu=True), head("last", "sum")], ["last"]
    ).steps
    assert [(step.name, step.kind, step.inputs, step.relu) for step in steps] == [
        ("a", "conv", ("input",), False),
        ("b", "conv", ("a",), False),
        ("sum.copy", "depthwise", ("b",), False),
        ("sum", "add", ("sum.copy", "a"), True),
        ("last", "linear", ("sum",), False),
    ]
    assert torch.equal(steps[2].weight, torch.ones(4, 1, 1, 1))


def test_twice_a_map():
    steps = arranged((5, 5, 4), [conv("a"), add("sum", "a", "a", relu=True), head("last", "sum")], ["last"]).steps
    assert (steps[1].kind, steps[1].inputs, steps[1].relu, steps[1].weight.unique().item()) == (
        "depthwise",
        ("a",),
        True,
        2,
    )


def test_exits_come_as_early_as_they_can_and_what_is_dead_not_at_all():
    steps = conv("a"), conv("dead", "a"), conv("b", "a"), head("last", "b"), conv("c", "a"), head("early", "c")
    assert [name for name, *_ in order(*steps, exits=("early", "last"))] == ["a", "c", "early", "b", "last"]


@pytest.mark.parametrize(
    ("steps", "exits", "message"),
    [
        ([head("o", "input")], ("o", "o"), "^o: an exit must have logits of its own, not those of another exit$"),
        ([head("o", "input", 1)], ("o",), "^o: classes must be from 2 to 2048, not 1$"),
        ([head("o", "input", 2049)], ("o",), "^o: classes must be from 2 to 2048, not 2049$"),
        (
            [head("o", "input"), head("p", "input", 2049)],
            ("o", "p"),
            r"^p: classes .* not 2049; o, p: exits must have equal numbers of classes, not \[3, 2049\]$",
        ),
        ([head("o", "input"), head("p", "o")], ("o", "p"), "^p: the logits of o must be read by nothing"),
    ],
)
def test_exits_that_cannot_be(steps, exits, message):
    assert re.search(message, "; ".join(exit_problems(steps, exits)))
