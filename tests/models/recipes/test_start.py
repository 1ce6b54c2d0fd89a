from dataclasses import replace

import numpy as np
import pytest
import torch

from models.networks import architectures
from models.networks.residual_net import Architecture
from models.networks.resnet8 import WEIGHTS, ResNet8Architecture
from models.recipes import checkpoint
from models.recipes.checkpoint import Checkpoint
from models.recipes.start import Start, starting_network, trained_teacher

SMALL = ResNet8Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8, 8))


def test_without_a_start_weights_are_random():
    first, again, other = (starting_network(None, SMALL, seed) for seed in (0, 0, 1))
    assert torch.equal(first.stem.conv.weight, again.stem.conv.weight)
    assert not torch.equal(first.stem.conv.weight, other.stem.conv.weight)


def test_a_start_from_a_checkpoint_adds_exits_only(tmp_path):
    plain, path = architectures.initial(SMALL, 5), tmp_path / "trained.off"
    checkpoint.save(path, Checkpoint.of(plain, data="digits", seed=5, metrics={}))
    start, exiting = Start(checkpoint=str(path)), replace(SMALL, exits=(1,), exit_widths=(4,))
    model = starting_network(start, exiting, 0)
    for name, value in plain.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), value.numpy(), err_msg=name)
    with pytest.raises(ValueError, match=r"trained.off: block3.first.conv.weight must be \(9, 8, 3, 3\)"):
        starting_network(start, replace(exiting, widths=(4, 8, 9)), 0)


def test_official_weights_are_found(data_root):
    model = starting_network(
        Start(weights="official"), ResNet8Architecture(shape=(32, 32, 3), classes=10), 0, data_root
    )
    with np.load(data_root / WEIGHTS) as file:
        np.testing.assert_array_equal(model.head.linear.weight.detach().numpy(), file["fc.weight"])


def test_a_teacher_is_a_trained_file_of_the_same_data(tmp_path):
    path = tmp_path / "large.off"
    model = architectures.initial(Architecture(shape=(8, 8, 1), classes=10, widths=(2, 2), branch_width=0), 0)
    checkpoint.save(path, Checkpoint.of(model, data="digits", seed=0, metrics={}))
    found = trained_teacher(str(path), "digits")
    assert found is not None
    torch.testing.assert_close(found.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert trained_teacher("", "digits") is None
    with pytest.raises(ValueError, match=r"large.off: a teacher must have learnt from cifar10, not from digits"):
        trained_teacher(str(path), "cifar10")
