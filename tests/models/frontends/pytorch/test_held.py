"""What a call changes of a module beside its tensors is seen, and put back."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from models.frontends.pytorch.calls import undisturbed
from models.frontends.pytorch.exported import program_of
from models.frontends.pytorch.graph import lower
from models.frontends.pytorch.held import attributes, differing
from tests.models.frontends.nets import Body, checked

CALLS = [0]


class Remembers(nn.Module):
    """Has attributes that a call may change, which no graph sees."""

    shared = 0

    def __init__(self, change):
        super().__init__()
        self.change, self.calls, self.seen, self.plain = change, 0, [], torch.zeros(2)
        self.holder = SimpleNamespace(calls=0)
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        return x if self.change(self, x) else torch.relu(x)


def counted(net, x):
    net.calls += 1
    return net.calls > 3


def counted_by_the_class(net, x):
    type(net).shared += 1


def counted_within(net, x):
    net.holder.calls += 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (counted, "between.calls"),
        (counted_by_the_class, "Remembers.shared"),
        (counted_within, "between.holder"),
        (lambda net, x: net.seen.append(x.shape), "between.seen"),
        (lambda net, x: net.plain.add_(1).sum() < 0, "between.plain"),
        (lambda net, x: random.random() < 0.01, "the state of random"),
        (lambda net, x: np.random.rand() < 0.01, "the state of numpy.random"),
    ],
)
def test_attributes_that_every_call_changes(change, what):
    net = Body(Remembers(change))
    with pytest.raises(ValueError, match=rf"^Body: a network must not change .*\b{what}\b.* when it is called$"):
        lower(net, (6, 6, 1))
    with undisturbed(net), pytest.raises(ValueError, match=rf"^Body: a network must not change .*\b{what}\b"):
        program_of(net, (6, 6, 1))
    assert (net.between.calls, net.between.seen) == (0, [])


def once(net, x):
    first, net.calls = net.calls == 0, 1
    return first


def test_what_only_a_first_call_does():
    with pytest.raises(ValueError, match=r"^Body: a network must return the same for the same images, every time$"):
        lower(Body(Remembers(once)), (6, 6, 1))
    CALLS[:] = [0]

    def unseen(net, x):
        CALLS[0] += 1
        return CALLS[0] % 2

    with pytest.raises(ValueError, match=r"^Body: a network must return the same for the same images, every time$"):
        lower(Body(Remembers(unseen)), (6, 6, 1))


def noted(net, x):
    net.size, net.holder.size = x.shape[2:], x.shape[3]
    if not net.seen:
        net.seen.append(torch.arange(x.shape[2]))


def test_what_is_noted_once_is_no_change():
    net = Body(Remembers(noted))
    checked(net, (6, 6, 1))
    assert not hasattr(net.between, "size")
    assert net.between.seen == []


def test_attributes_are_compared_by_what_is_in_them():
    net = Body(Remembers(once))
    net.between.nan, net.between.own = float("nan"), net.between.__dict__
    net.between.many = list(range(200_000))
    before = attributes(net)
    assert differing(before, attributes(net)) == []
    net.between.plain[1] = 1
    net.between.holder.deep = {"a": [1, {2}]}
    assert differing(before, attributes(net)) == ["between.plain", "between.holder"]
    again = attributes(net)
    net.between.holder.deep["a"][1].add(3)
    assert differing(again, attributes(net)) == ["between.holder"]
