import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hw.config import preset
from offramp.intake.compression import sparse
from offramp.intake.preprocessing import Preprocessing
from offramp.intake.samples import Samples, parts


class Net(nn.Module):
    """Learns digits in a few epochs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x):
        return self.head(F.relu(self.conv(x)).flatten(1))


@pytest.mark.parametrize("mean", [0.0, 0.3])
def test_a_module_is_pruned_and_learns(mean):
    """Also of images that are normalised."""
    samples = parts("digits", (8, 8, 1), seed=0, preprocessing=Preprocessing(mean=(mean,)))
    made = sparse(Net(), "net", samples, preset("tiny"), keep=0.4, epochs=6, seed=0)
    assert made.accuracy_float < 0.3  # it came untrained
    assert made.after["accuracy"] > 0.6
    assert 0 < made.after["weights"] <= 0.41 * made.before["weights"]
    assert made.after["cycles"]["mean"] < made.before["cycles"]["mean"]
    assert len(made.epochs) == 6
    assert (made.network.input.zero_point == -128) == (mean == 0.0)


def test_equal_seeds_make_equal_networks():
    samples = tuple(each.take(60) for each in parts("digits", (8, 8, 1), seed=0))
    first, second = (sparse(Net(), "net", samples, preset("tiny"), keep=0.5, epochs=1, seed=7) for _ in range(2))
    for (name, array), (_, other) in zip(first.network.arrays(), second.network.arrays(), strict=True):
        np.testing.assert_array_equal(array, other, err_msg=name)


def test_codes_are_refused():
    codes = Samples(images=np.zeros((60, 8, 8, 1), np.int8), labels=np.zeros(60, np.int64), origin="codes")
    with pytest.raises(ValueError, match="images to train on must be floats or pixels, with labels, not int8 codes"):
        sparse(Net(), "net", (codes, codes, codes), preset("tiny"), keep=0.5, epochs=1, seed=0)
