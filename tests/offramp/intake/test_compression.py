from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from hw.rules import MisfitError
from offramp.intake import compression
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
    made = sparse(Net(), "net", samples, "tiny", keep=0.4, epochs=6, seed=0)
    assert made.accuracy_float < 0.3  # it came untrained
    assert made.after["accuracy"] > 0.6
    assert 0 < made.after["weights"] <= 0.41 * made.before["weights"]
    assert made.after["cycles"]["mean"] < made.before["cycles"]["mean"]
    assert len(made.epochs) == 6
    assert (made.network.input.zero_point == -128) == (mean == 0.0)


def test_equal_seeds_make_equal_networks():
    samples = tuple(each.take(60) for each in parts("digits", (8, 8, 1), seed=0))
    first, second = (sparse(Net(), "net", samples, "tiny", keep=0.5, epochs=1, seed=7) for _ in range(2))
    for (name, array), (_, other) in zip(first.network.arrays(), second.network.arrays(), strict=True):
        np.testing.assert_array_equal(array, other, err_msg=name)


class Row(nn.Module):
    """Takes rows of values; a convolution with two readers, ReLU6, and the order of the classes at the end."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.head = nn.Conv1d(8, 8, 3, padding=1), nn.Linear(64, 10)

    def forward(self, x):
        x = self.conv(x)
        return torch.log_softmax(self.head((F.relu6(x) + x).flatten(1)), 1)


def few(shape):
    """Few digits, in another shape."""
    samples = [each.take(60) for each in parts("digits", (8, 8, 1), seed=0)]
    return tuple(replace(each, images=each.images.reshape(-1, *shape)) for each in samples)


def test_what_cannot_be_trained_as_int8_is_calibrated():
    made = sparse(Row(), "row", few((1, 8, 8)), "tiny", keep=0.5, epochs=1, seed=0)
    (note,) = made.notes
    assert note.startswith("calibrated once it was fine-tuned, not trained on as int8, which needs other operators: ")
    assert 0 < made.after["weights"] <= 0.51 * made.before["weights"]


@pytest.mark.parametrize("make", [lambda net: net.half(), lambda net: net.double()])
def test_modules_of_other_precision_are_trained_as_float32(make):
    made = sparse(make(Net()), "net", few((8, 8, 1)), "tiny", keep=0.5, epochs=1, seed=0)
    assert not made.notes
    assert 0 < made.after["weights"] <= 0.51 * made.before["weights"]


@pytest.mark.parametrize(
    "change", [parametrizations.weight_norm, lambda layer: prune.l1_unstructured(layer, "weight", amount=0.3)]
)
def test_weights_that_pytorch_computes_are_pruned(change):
    net = Net()
    change(net.conv)
    made = sparse(net, "net", few((8, 8, 1)), "tiny", keep=0.5, epochs=1, seed=0)
    assert 0 < made.after["weights"] <= (net.conv.weight.numel() + net.head.weight.numel()) / 2


def test_a_network_that_does_not_fit_is_refused_before_it_is_trained(monkeypatch):
    monkeypatch.setattr(compression, "fit", lambda *_, **__: pytest.fail("trained"))
    wide = Net()
    wide.conv, wide.head = nn.Conv2d(1, 24, 3, stride=2, padding=1), nn.Linear(24 * 4 * 4, 10)
    with pytest.raises(MisfitError, match=r"^tiny,activation_words=32: .*activation.*; it fits --config single$"):
        sparse(wide, "net", few((8, 8, 1)), "tiny,activation_words=32", keep=0.5, epochs=1, seed=0)


def test_one_value_is_refused_before_it_is_trained():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    with pytest.raises(ValueError, match=r"^net: a module that is fine-tuned must return a logit for each class"):
        sparse(net, "net", few((8, 8, 1)), "tiny", keep=0.5, epochs=1, seed=0)


def test_codes_are_refused():
    codes = Samples(images=np.zeros((60, 8, 8, 1), np.int8), labels=np.zeros(60, np.int64), origin="codes")
    with pytest.raises(ValueError, match="images to train on must be floats or pixels, with labels, not int8 codes"):
        sparse(Net(), "net", (codes, codes, codes), "tiny", keep=0.5, epochs=1, seed=0)
