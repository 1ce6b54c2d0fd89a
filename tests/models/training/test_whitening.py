import numpy as np
import pytest
import torch

from models.datasets.splits import Split
from models.networks.architectures import initial
from models.networks.residual_net import Architecture, to_torch
from models.networks.whitened import WhitenedArchitecture, whitening
from models.training.hyperparameters import Schedule
from models.training.train import fit
from models.training.whitening import Whitening

SCHEDULE = Schedule(epochs=2, lr=0.1, batch=32, optimizer="sgd", weight_decay=0.1)


def test_filters_are_made_of_the_images_and_held_while_biases_learn(tmp_path):
    rng = np.random.default_rng(0)
    split = Split(images=rng.random((64, 9, 9, 1), dtype=np.float32), labels=np.arange(64) % 3)
    filters, biases = whitening(to_torch(split.images))
    model = initial(WhitenedArchitecture(shape=(9, 9, 1), classes=3, widths=(4, 4, 4)), 0)
    linear = model.linear.weight.detach().clone()
    fit(model, split, SCHEDULE, seed=0, pieces=[Whitening()], checkpoint=tmp_path / "progress.off")
    assert torch.equal(model.whiten.weight, filters)
    assert not torch.equal(model.whiten.bias, biases)
    assert not torch.equal(model.linear.weight, linear)


def test_it_is_of_one_kind_of_network(digits):
    model = initial(Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2), 0)
    with pytest.raises(ValueError, match="whitening is of a network of kind whitened, not of a ResidualNet"):
        fit(model, digits.train.take(64), SCHEDULE, seed=0, pieces=[Whitening()])
