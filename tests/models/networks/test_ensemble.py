import numpy as np
import pytest
import torch

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.network import Conv2D
from models.compression.fakequant import FakeQuantNet
from models.compression.levels import LEVELS, codes, convolutions, project
from models.compression.quantize import encode, quantize, to_network
from models.frontends.pytorch.graph import lower
from models.frontends.pytorch.merge import merged
from models.integer import golden
from models.networks.architectures import initial
from models.networks.ensemble import Ensemble, members_of
from models.networks.residual_net import Architecture, to_torch
from models.training.train import Schedule, accuracy, fit, predict
from sim.simulate import simulate
from tests.models.separable import SeparableNet

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)
ONE = Schedule(epochs=1, lr=0.001)


@pytest.fixture(scope="module")
def pair(digits):
    """A trained ensemble of two."""
    model = Ensemble([initial(ARCHITECTURE, seed) for seed in (0, 1)])
    fit(model, digits.train, Schedule(epochs=20, lr=0.01), seed=0)
    return model


@pytest.fixture(scope="module")
def network(digits, pair):
    return to_network(quantize(pair, digits.train, ONE, seed=0), "pair")


def test_logits_are_the_mean(pair, digits):
    images = digits.test.images[:50]
    answers = [predict(member, images) for member in pair.members]
    for head, mean in enumerate(predict(pair, images)):
        np.testing.assert_allclose(mean, (answers[0][head] + answers[1][head]) / 2, atol=1e-5)


def test_members(pair):
    assert members_of(pair) == list(pair.members)
    assert members_of(pair.members[0]) == [pair.members[0]]


@pytest.mark.parametrize("shape", [(8, 8, 1), (10, 6, 2)])
def test_side_by_side_they_answer_the_same(shape, pair):
    members = list(pair.members)
    if shape != (8, 8, 1):
        members = [SeparableNet(shape, 3, width=4).eval() for _ in range(3)]
    twin = FakeQuantNet(merged([lower(member, shape) for member in members]))
    images = torch.rand(20, shape[2], *shape[:2], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        twin.train()(images)
        for found, wanted in zip(twin(images), Ensemble(members).eval()(images), strict=True):
            torch.testing.assert_close(found, wanted, atol=0.15 * float(wanted.abs().max()), rtol=0)
            assert torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1] > 0.99


def test_members_do_not_see_each_other(network):
    for layer in network.layers:
        if isinstance(layer, Conv2D) and layer.inputs[0] != "input":
            half, other = (size // 2 for size in (layer.weight.shape[0], layer.weight.shape[3]))
            if other:
                assert not layer.weight[:half, :, :, other:].any()
                assert not layer.weight[half:, :, :, :other].any()
                assert layer.weight[:half, :, :, :other].any()


def test_the_integers_are_as_good_as_the_ensemble(digits, pair, network):
    result = golden.run(network, encode(digits.test.images, network), keep=False)
    wanted = predict(pair, digits.test.images)
    for head, (found, floats) in enumerate(zip(result.logits, wanted, strict=True)):
        assert (found.argmax(axis=1) == floats.argmax(axis=1)).mean() > 0.95, head
    final, labels = (result.logits[-1], wanted[-1]), digits.test.labels
    assert accuracy(final[0], labels) >= accuracy(final[1], labels) - 0.01


def test_it_runs_on_the_accelerator(digits, network):
    codes = encode(digits.test.images[:4], network)
    found, wanted = simulate(compile_network(network, preset("tiny")), codes), golden.run(network, codes, keep=False)
    np.testing.assert_array_equal(found.classes, wanted.classes)
    np.testing.assert_array_equal(found.exit_index, wanted.exit_index)


def test_twice_the_same_is_twice_the_work_and_the_same_answer(digits, pair):
    """Between the members nothing is multiplied."""
    graph, found = lower(pair.members[0], (8, 8, 1)), []
    for number in (1, 2):
        twin = FakeQuantNet(merged([graph] * number))
        with torch.no_grad():
            twin.train()(to_torch(digits.train.images[:200]))
        network = to_network(twin.eval(), f"members-{number}")
        codes = encode(digits.test.images[:3], network)
        found.append((simulate(compile_network(network, preset("tiny")), codes), golden.run(network, codes).logits))
    (single, logits), (double, twice) = found
    np.testing.assert_array_equal(double.products.sum(axis=1), 2 * single.products.sum(axis=1))
    for one, two in zip(logits, twice, strict=True):
        assert np.abs(two - 2 * one).max() <= 1  # in steps of half the size, to which the bias is rounded as well


@pytest.mark.parametrize("kind", sorted(LEVELS))
def test_levels_are_exact_in_the_integers(digits, pair, kind):
    model = Ensemble([initial(ARCHITECTURE, seed) for seed in (0, 1)])
    model.load_state_dict(pair.state_dict())
    with torch.no_grad():
        for module in convolutions(model).values():
            module.weight.copy_(project(module.weight, kind))
    found = to_network(quantize(model, digits.train, ONE, seed=0, levels=kind), kind)
    for layer in found.layers:
        if not isinstance(layer, Conv2D):
            continue
        small = torch.cat([codes(member.get_submodule(layer.name).weight, kind)[0].abs() for member in model.members])
        rows = small.permute(0, 2, 3, 1).numpy()
        for channel, row in enumerate(layer.weight.astype(int)):
            values = np.abs(row)
            unit = np.gcd.reduce(values[values > 0]) if values.any() else 1
            assert set(np.unique(values // unit)) <= set(range(LEVELS[kind] + 1))
            parts = np.split(values, 2, axis=2) if layer.inputs[0] != "input" else [values]
            own = parts[0 if len(parts) == 1 or channel < len(layer.weight) // 2 else 1]
            ratio = own.max() / max(rows[channel].max(), 1)
            np.testing.assert_array_equal(own, rows[channel] * ratio)
            assert ratio >= 9 or not own.any()


def test_levels_that_the_weights_do_not_have(digits, pair):
    with pytest.raises(ValueError, match=r"stem.conv: weights must be whole multiples of one value"):
        quantize(pair, digits.train, ONE, seed=0, levels="ternary")


def test_nobody():
    with pytest.raises(ValueError, match="an ensemble must have at least 1 member, not 0"):
        Ensemble([])
