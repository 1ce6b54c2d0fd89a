import json

import numpy as np
import pytest
import torch

from models.networks.residual_net import Architecture, ResidualNet, to_torch

SMALL = {"shape": (8, 8, 1), "classes": 10, "widths": (4, 6), "branch_width": 3}


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (9, 13, 2)])
@pytest.mark.parametrize("branch_width", [0, 3])
def test_both_heads_give_logits(shape, branch_width):
    net = ResidualNet(Architecture(**{**SMALL, "shape": shape, "branch_width": branch_width}, stem_stride=2)).eval()
    branch, final = net(torch.zeros(5, shape[2], *shape[:2]))
    assert branch.shape == final.shape == (5, 10)
    assert (net.branch_head.linear.in_features, net.head.linear.in_features) == (branch_width or 4, 6)


def test_heads_share_only_what_lies_before_the_branch():
    net = ResidualNet(Architecture(**SMALL))
    branch, final = net(torch.rand(4, 1, 8, 8))
    branch.sum().backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in net.late.parameters())
    assert net.stem.conv.weight.grad is not None
    net.zero_grad()
    final.sum().backward()
    assert all(parameter.grad is None for parameter in net.branch.parameters())


def test_to_torch():
    images = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    turned = to_torch(images)
    assert turned.shape == (2, 5, 3, 4)
    assert turned[1, 4, 2, 3] == images[1, 2, 3, 4]


def test_architecture_survives_json():
    architecture = Architecture(**SMALL, stem_stride=2)
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (3, 8, 1)}, r"shape must be .* of 4 to 255 rows and columns .*, not \(3, 8, 1\)"),
        ({"shape": (8, 8)}, "shape must be"),
        ({"classes": 1}, "classes must be a whole number from 2 to 2048, not 1"),
        ({"widths": (4, 0)}, r"widths must be 2 whole numbers from 1 to 4088, not \(4, 0\)"),
        ({"branch_width": -1}, "branch_width must be a whole number from 0 to 4088, not -1"),
        ({"stem_stride": 3, "shape": (32, 32, 1)}, "stem_stride must be a whole number from 1 to 2, not 3"),
    ],
)
def test_architecture_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        Architecture(**{**SMALL, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, "architecture: 'depth' is unknown: settings are shape, classes, widths"),
        ({"widths": None}, "architecture: widths must be a list of 2 values, not None"),
    ],
)
def test_architecture_from_wrong_keys(change, message):
    with pytest.raises(ValueError, match=message):
        Architecture.from_dict({**SMALL, **change})
