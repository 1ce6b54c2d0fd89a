"""All that doesn't fit in a forward pass is told, each with its module."""

import pytest
import torch
from torch import nn

from models.frontends.pytorch.graph import lower
from models.frontends.pytorch.misfits import misfits


def test_every_misfit_is_told_and_each_is_true():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(100, 4), nn.Linear(5, 3)
    )
    with pytest.raises(ValueError, match="can't compute images") as refused:
        lower(net, (8, 8, 1))
    first, second, third, fourth = str(refused.value).split("; ")
    assert first.startswith("0: can't compute images of shape (8, 8, 1): Given groups=1, weight of size [8, 3, 3, 3]")
    assert second.startswith("2: Given groups=2, weight of size [8, 2, 3, 3]")
    assert third.startswith("4: mat1 and mat2 shapes cannot be multiplied (")
    assert third.endswith("x128 and 100x4)")
    assert fourth.startswith("5: mat1 and mat2 shapes cannot be multiplied (")
    assert fourth.endswith("x4 and 5x3)")


def test_where_no_shape_is_known_nothing_is_guessed():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 7), nn.Flatten(), nn.Linear(1, 3))
    said = [str(error).splitlines()[0] for _, error in misfits(net, torch.zeros(1, 1, 8, 8))]
    assert [text.split()[0] for text in said] == ["Given", "Calculated"]
    assert misfits(nn.Conv2d(1, 8, 10), torch.zeros(1, 1, 8, 8))[0][1].args[0].startswith("Calculated padded input")


def test_a_module_that_computes_has_none():
    assert misfits(nn.Conv2d(1, 8, 3), torch.zeros(1, 1, 8, 8)) == []
