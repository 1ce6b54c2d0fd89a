"""Constants behind a layer become part of it, its weights the same integers; behind a rounded map they are a step."""

from functools import cache

import pytest
import torch
from torch.nn import functional as F

from tests.models.frontends.quantized.quantized_programs import conv, steps_of

GAINS = torch.tensor([1.5, -2.0, 0.25, 3.0])[:, None, None]


@cache
def alone():
    """The steps of a convolution."""
    return steps_of(lambda n, x: conv(n, n.round(x)))[0]


def folded(operator):
    """The steps of the same convolution with an operator behind it, and its own."""
    found, problems = steps_of(lambda n, x: operator(conv(n, n.round(x))))
    plain = alone()
    assert problems == []
    assert list(found.steps) == list(plain.steps)
    return found, plain


#: An operator with constants, and what it is to be: gain and offset of each channel.
OPERATORS = {
    "add": (lambda x: x + GAINS, 1, GAINS),
    "added to": (lambda x: 2.5 + x, 1, 2.5),
    "subtract": (lambda x: x - GAINS, 1, -GAINS),
    "subtract from": (lambda x: 3 - x, -1, 3),
    "rsub": (lambda x: torch.rsub(x, GAINS), -1, GAINS),
    "negative": (lambda x: -x, -1, 0),
    "multiply": (lambda x: GAINS * x, GAINS, 0),
    "divide": (lambda x: x / GAINS, 1 / GAINS, 0),
    "twice": (lambda x: x + x, 2, 0),
    "many": (lambda x: ((x * GAINS) - 1) / 2, GAINS / 2, -0.5),
    "norm": (
        lambda x: F.batch_norm(x, torch.arange(4.0), torch.full((4,), 3.0), GAINS.flatten(), torch.ones(4), eps=1.0),
        GAINS / 2, 1 - torch.arange(4.0)[:, None, None] * GAINS / 2,
    ),
    "plain norm": (lambda x: F.batch_norm(x, torch.ones(4), torch.full((4,), 3.0), eps=1.0), 0.5, -0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_constants_behind_a_layer_become_part_of_it(name):
    operator, gain, offset = OPERATORS[name]
    found, plain = folded(operator)
    step, before = found.steps["conv2d"], plain.steps["conv2d"]
    gains = torch.as_tensor(gain, dtype=torch.float32).expand(4, 1, 1).reshape(4)
    offsets = torch.as_tensor(offset, dtype=torch.float32).expand(4, 1, 1).reshape(4)
    torch.testing.assert_close(step.weight, before.weight * gains[:, None, None, None])
    torch.testing.assert_close(step.bias, before.bias * gains + offsets)
    scales, codes = found.scales["conv2d"], before.weight / plain.scales["conv2d"][:, None, None, None]
    assert (scales > 0).all()
    signed = step.weight / scales[:, None, None, None]
    torch.testing.assert_close(signed, codes * gains.sign()[:, None, None, None])


def test_a_gain_of_zero_leaves_a_scale_that_can_be_divided_by():
    found, plain = folded(lambda x: x * torch.tensor([0.0, 1, 2, -1])[:, None, None])
    assert not found.steps["conv2d"].weight[0].any()
    assert found.scales["conv2d"][0] == plain.scales["conv2d"][0]


@pytest.mark.parametrize(
    "body",
    [
        lambda n, x: (n.round(x) + 1) * 2 - torch.tensor([1.0, 3])[:, None, None],
        lambda n, x: (F.relu(conv(n, n.round(x), 2)) + 1) * 2 - torch.tensor([1.0, 3])[:, None, None],
    ],
)
def test_constants_behind_a_map_are_one_step(body):
    found, problems = steps_of(body)
    assert problems == []
    *_, step = found.steps.values()
    assert step.kind == "affine"
    assert [each.kind for each in found.steps.values()].count("affine") == 1
    assert step.gain.tolist() == [2.0, 2.0]
    assert step.offset.tolist() == [1.0, -1.0]


def test_a_layer_that_others_read_stays_as_it_is():
    def body(net, x):
        x = conv(net, net.round(x))
        return net.round(x * 2), net.round(x)

    found, problems = steps_of(body)
    assert problems == []
    assert found.steps["affine"].inputs == ("conv2d",)
    assert found.steps["affine"].gain.tolist() == [2.0] * 4


def test_constants_of_rows_of_values():
    found, problems = steps_of(lambda n, x: 4 - n.round(x.mean((2, 3))) * torch.tensor([3.0, 2]))
    assert problems == []
    step = found.steps["affine"]
    assert (step.gain.tolist(), step.offset.tolist()) == ([-3.0, -2.0], [4.0, 4.0])


def gated(x, gate):
    """A map times a function of it."""
    return x * gate(x)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (lambda n, x: n.round(x) + torch.ones(4, 1), "add: constants must be one for each channel, not (4, 1)"),
        (
            lambda n, x: F.max_pool2d(n.round(x), 2).flatten(1) * torch.ones(8),
            "mul: constants must be one for each channel, not (8,)",
        ),
        (
            lambda n, x: n.round(x) / torch.tensor([1.0, 0])[:, None, None],
            "div: div must divide a map by constants",
        ),
        (lambda n, x: 3 / n.round(x), "reciprocal: operators must be among"),
        (lambda n, x: torch.add(n.round(x), 1, alpha=2), "add: add must be of a map and constants"),
        (lambda n, x: n.round(x) / n.round(x, 0.1), "div: div must be of a map and constants, not of two maps: their"),
        (
            lambda n, x: torch.sub(n.round(x), n.round(x, 0.1), alpha=2),
            "sub: a difference's alpha must be 1, not 2: multiply the map by it before",
        ),
        (
            lambda n, x: n.round(x) - n.round(F.max_pool2d(x, (4, 1))),
            "sub: operands must have equal shapes, not (4, 4, 2) and (1, 4, 2)",
        ),
        (
            lambda n, x: gated(n.round(x), torch.sigmoid),
            "mul: SiLU isn't among the operators: ReLU and ReLU6 are the nearest",
        ),
        (
            lambda n, x: gated(n.round(x), lambda y: F.relu6(y + 3) / 6),
            "mul: mul must be of a map and constants, not of two maps as in squeeze-and-excitation and other gates",
        ),
        (
            lambda n, x: F.batch_norm(n.round(x), None, None, training=True),
            "batch_norm: a batch norm must keep running statistics",
        ),
    ],
)
def test_what_is_refused(body, problem):
    _, problems = steps_of(body)
    assert len(problems) == 1
    assert problems[0].startswith(problem)
