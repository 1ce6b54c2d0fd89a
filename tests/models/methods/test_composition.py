"""Methods in one list of pieces: what each promises still holds, down to the accelerator."""

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.network import Conv2D
from models.attacks import pgd
from models.compression.levels import codes
from models.compression.quantize import encode, quantize, to_network
from models.integer import golden
from models.integer.surrogate import Surrogate
from models.methods.binary_relax import BinaryRelax
from models.methods.boundary import Probe
from models.methods.dnr import DynamicL2, Rewiring
from models.methods.feedback import Feedback
from models.methods.gap import GreedyPruning, PGDSettings
from models.methods.robust import AdversarialLoss
from models.networks.architectures import initial
from models.networks.resnet8 import ResNet8Architecture
from models.training.standard_pieces import AdversarialExamples
from models.training.train import Schedule, accuracy, fit, predict
from sim import simulate

ARCHITECTURE = ResNet8Architecture(shape=(8, 8, 1), classes=10, widths=(8, 12, 16), exits=(1,), exit_widths=(4,))
EPS = 0.1


def nonzero(network):
    return sum(int(np.count_nonzero(layer.weight)) for layer in network.layers if isinstance(layer, Conv2D))


def run(network, images):
    """The classes that golden model and simulated accelerator agree on."""
    some = encode(images, network)
    wanted = golden.run(network, some, keep=False)
    found = simulate(compile_network(network, preset("tiny")), some)
    np.testing.assert_array_equal(found.classes, wanted.classes)
    np.testing.assert_array_equal(found.exit_index, wanted.exit_index)
    return wanted


@pytest.mark.slow
def test_sparse_from_scratch_of_few_levels_robust_and_with_an_exit(digits):
    model, rewiring = initial(ARCHITECTURE, 0), Rewiring(0.3)
    schedule = Schedule(epochs=14, lr=0.01)
    examples = AdversarialExamples(eps=EPS)
    loss = AdversarialLoss(examples, clean=0.5, adversarial=0.5)
    metrics = fit(model, digits.train, schedule, seed=0, pieces=[rewiring, DynamicL2(), BinaryRelax("4bit"), loss])
    assert len({epoch["nonzero"] for epoch in metrics}) == 1
    for name, mask in rewiring.masks.items():
        weight = model.get_parameter(name)
        assert not weight[mask == 0].any()
        assert codes(weight, "4bit")[0].abs().max() <= 7
    tuning = Schedule(epochs=3, lr=0.001)
    twin = quantize(model, digits.train, tuning, seed=0, levels="4bit", pieces=lambda twin: [AdversarialLoss(examples)])
    network = to_network(twin, "together")
    assert nonzero(network) <= metrics[0]["nonzero"]
    result = run(network, digits.test.images[:8])
    assert len(result.logits) == 2
    whole = golden.run(network, encode(digits.test.images, network), keep=False)
    assert whole.accuracy(digits.test.labels) > 0.85

    plain = initial(ARCHITECTURE, 0)
    fit(plain, digits.train, schedule, seed=0)
    attacked = [pgd(it, digits.test.images, digits.test.labels, eps=EPS) for it in (Surrogate(network), plain)]
    robust = golden.run(network, encode(attacked[0], network), keep=False).accuracy(digits.test.labels)
    assert robust > accuracy(predict(plain, attacked[1])[-1], digits.test.labels) + 0.1


@pytest.mark.slow
def test_feedback_on_a_pruned_network(digits):
    model = initial(ARCHITECTURE, 0)
    fit(model, digits.train, Schedule(epochs=10, lr=0.01), seed=0)
    pruning = GreedyPruning("gap", 3.0, attack=PGDSettings(eps=EPS, step=EPS / 2, steps=2))
    feedback = Feedback(target=0.2, probed=300, settings=Probe(draws=1, steps=4))
    fit(model, digits.train, Schedule(epochs=4, lr=0.005), seed=0, pieces=[pruning, feedback])
    for name, mask in pruning.masks.items():
        assert not model.get_parameter(name)[mask == 0].any()
    network = to_network(quantize(model, digits.train, Schedule(epochs=2, lr=0.001), seed=0), "pruned")
    assert nonzero(network) <= sum(int(mask.sum()) for mask in pruning.masks.values())
    assert run(network, digits.test.images[:4]).classes.shape == (4,)
    assert accuracy(predict(model, digits.test.images)[-1], digits.test.labels) > 0.85
