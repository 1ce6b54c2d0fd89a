import numpy as np
import pytest
import torch

from hw.network.network import Conv2D
from models.compression.quantize import encode, quantize, to_network
from models.integer import golden
from models.methods.binary_relax import BinaryRelax
from models.networks.architectures import describe, from_dict, initial
from models.networks.enresnet import BlockNoise, EnResNet, EnResNetArchitecture
from models.networks.ensemble import Ensemble, members_of
from models.training.train import Schedule, accuracy, fit, predict

ARCHITECTURE = EnResNetArchitecture(shape=(8, 8, 1), classes=10, widths=(4, 6, 8))


def test_members_begin_differently_and_repeatably():
    first, again = initial(ARCHITECTURE, 0), initial(ARCHITECTURE, 0)
    weights = [member.head.linear.weight for member in members_of(first)]
    assert isinstance(first, Ensemble)
    assert len(weights) == 2
    assert (weights[0] != weights[1]).any()
    assert torch.equal(weights[0], again.members[0].head.linear.weight)


def test_noise_is_a_tenth_of_the_deviation_of_the_batch():
    noise, y = BlockNoise(0.1).train(), torch.randn(64, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        added = noise(y) - y
    assert float(added.std()) == pytest.approx(0.1 * float(y.std()), rel=0.02)
    assert float(added.mean()) == pytest.approx(0, abs=0.01)
    assert noise.eval()(y) is y


def test_noise_stays_in_use_only_where_it_is_asked_for():
    model, images = initial(ARCHITECTURE, 0).eval(), torch.rand(4, 1, 8, 8)
    assert torch.equal(model(images)[0], model(images)[0])
    model.noisy(True)
    assert not torch.equal(model(images)[0], model(images)[0])
    model.noisy(False)
    assert torch.equal(model(images)[0], model(images)[0])
    assert sum(isinstance(module, BlockNoise) for module in model.modules()) == 6


def test_a_ternary_ensemble_becomes_integers(digits):
    model = initial(ARCHITECTURE, 0)
    fit(model, digits.train, Schedule(epochs=8, lr=0.01), seed=0, pieces=[BinaryRelax("ternary")])
    wanted = accuracy(predict(model, digits.test.images)[-1], digits.test.labels)
    assert wanted > 0.9
    twin = quantize(model, digits.train, Schedule(epochs=1, lr=0.001), seed=0, levels="ternary")
    network = to_network(twin, "ternary")
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    assert result.accuracy(digits.test.labels) > wanted - 0.02
    for layer in network.layers:
        if isinstance(layer, Conv2D):
            for row in layer.weight.astype(int):
                assert len(set(np.abs(row).ravel().tolist()) - {0}) <= 1


def test_descriptions_come_back():
    assert from_dict(describe(ARCHITECTURE)) == ARCHITECTURE
    assert isinstance(initial(from_dict(describe(ARCHITECTURE)), 0), EnResNet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": 0}, "members must be a whole number from 1 to 63, not 0"),
        ({"noise": -0.1}, r"noise must be finite and not negative, not -0\.1"),
        ({"widths": (1, 2)}, "widths must be a list of 3 values"),
        ({"exits": ()}, "architecture: 'exits' is unknown: settings are shape"),
    ],
)
def test_impossible(change, message):
    with pytest.raises(ValueError, match=message):
        EnResNetArchitecture.from_dict({"shape": [8, 8, 1], "classes": 10, **change})
