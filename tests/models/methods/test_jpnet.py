import math

import numpy as np
import pytest
import torch
from torch import nn

from models.compression import prune
from models.compression.quantize import encode
from models.integer import golden
from models.methods.jpnet import (
    IterativePruning,
    PredictedWinners,
    SweptWinners,
    expected_share,
    hidden_layers,
    predicted_accuracy,
    relu_density,
    winner_rates,
)
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.networks.winners import Winners, attach, attached
from models.training.pieces import Piece
from models.training.train import Schedule, accuracy, fit, predict
from tests.hw.networks import network as mixed_network

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)
SHARES = {"stem.conv.weight": 0.5, "late.second.conv.weight": 0.064}


class Watch(Piece):
    """Which weights of a layer are zero, after every epoch."""

    def __init__(self):
        self.zero = []

    def after_epoch(self, run):
        self.zero.append(run.model.late.second.conv.weight.detach() == 0)


def test_weights_are_pruned_in_rounds_and_stay_pruned(digits):
    watch, model = Watch(), initial(ARCHITECTURE, 0)
    schedule = Schedule(epochs=6, lr=0.01, batch=100)
    fit(model, digits.train.take(200), schedule, seed=0, pieces=[IterativePruning(SHARES, rounds=3), watch])
    size = model.late.second.conv.weight.numel()
    densities = [1 - int(zero.sum()) / size for zero in watch.zero]
    assert densities == pytest.approx([0.4, 0.4, 0.16, 0.16, 0.064, 0.064], abs=1 / size)
    for earlier, later in zip(watch.zero, watch.zero[1:], strict=False):
        assert (later[earlier]).all()
    assert int(model.stem.conv.weight.count_nonzero()) == 18
    assert int(model.early.first.conv.weight.count_nonzero()) == model.early.first.conv.weight.numel()


def test_the_first_layer_and_classifiers_see_everything():
    assert hidden_layers(initial(ARCHITECTURE, 0)) == [
        "early.first.conv",
        "early.second.conv",
        "branch.conv",
        "late.shortcut.conv",
        "late.first.conv",
        "late.second.conv",
    ]


def test_the_sweep_finds_the_smallest_rate_of_each_layer(digits, trained):
    model, split = trained.model(), digits.validation
    before = predict(model, split.images)[-1]
    layers, rates = ["early.second.conv", "late.second.conv"], (0.05, 0.1, 0.3, 0.6, 1.0)
    reports = []
    found = winner_rates(
        model, split, layers, drop=0.02, rates=rates, progress=lambda *report: reports.append(report)
    )  # fmt: skip
    assert list(found) == layers
    assert len(reports) <= 10
    np.testing.assert_array_equal(predict(model, split.images)[-1], before)
    base = accuracy(before, split.labels)
    for name, rate in found.items():
        for tried in rates[: rates.index(rate) + 1]:
            other = trained.model()
            attach(other, {name: Winners("elements", tried)})
            drop = base - accuracy(predict(other, split.images)[-1], split.labels)
            assert (drop < 0.02) == (tried == rate)
    assert min(found.values()) < 1


def test_the_sweep_keeps_other_layers_winners(digits, trained):
    model = trained.model()
    attach(model, {"early.first.conv": Winners("channels", 0.5)})
    winner_rates(model, digits.validation.take(50), ["late.second.conv"], rates=(0.5, 1.0))
    assert {name: (found.kind, found.rate) for name, found in attached(model).items()} == {
        "early.first.conv": ("channels", 0.5),
        "late.second.conv": ("elements", 1.0),
    }
    with pytest.raises(ValueError, match=r"rates must ascend, at least one, not \(1.0, 0.5\)"):
        winner_rates(model, digits.validation, ["late.second.conv"], rates=(1.0, 0.5))


def test_rates_are_swept_when_training_begins(digits, trained):
    model = trained.model()
    expected = winner_rates(trained.model(), digits.validation.take(100), hidden_layers(model), drop=0.05)
    piece = SweptWinners(digits.validation.take(100), drop=0.05)
    metrics = fit(model, digits.train.take(100), Schedule(epochs=1, lr=1e-9), seed=0, pieces=[piece])
    assert {name: found.rate for name, found in attached(model).items()} == expected
    assert {name.removeprefix("winner_rate_"): rate for name, rate in metrics[0].items() if name != "loss"} == expected
    assert min(expected.values()) < 1
    with pytest.raises(ValueError, match="drop must be positive, not 0"):
        SweptWinners(None, drop=0.0)


def test_a_threshold_from_all_elements_is_the_exact_one():
    x = torch.randn(5, 4, 6, 6)
    exact, whole = Winners("elements", 0.3)(x), PredictedWinners(0.3, alpha=1.0)(x)
    torch.testing.assert_close(whole, exact, rtol=0, atol=0)


def test_a_threshold_from_a_tenth_keeps_about_as_many():
    x = torch.randn(20, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    predicted = PredictedWinners(0.3, alpha=0.1)
    kept = (predicted(x) != 0).float().mean(dim=(1, 2, 3))
    # A tenth of 4096 elements: the share of those above the threshold varies by about 1/sqrt(410 * 0.3 * 0.7).
    assert ((kept - 0.3).abs() < 4 * math.sqrt(0.3 * 0.7 / 410)).all()
    assert kept.std() > 0
    torch.testing.assert_close(predicted(x), PredictedWinners(0.3, alpha=0.1)(x), rtol=0, atol=0)
    assert (PredictedWinners(0.3, alpha=0.1, seed=1)(x) != predicted(x)).any()


def test_the_cost_of_prediction_is_measured(digits, trained):
    model = trained.model()
    layers = dict.fromkeys(["early.second.conv", "late.second.conv"], 0.3)
    attach(model, {name: Winners("elements", rate) for name, rate in layers.items()})
    exact = accuracy(predict(model, digits.test.images)[-1], digits.test.labels)
    before = attached(model)
    assert predicted_accuracy(model, digits.test, alpha=1.0) == pytest.approx(exact, abs=0.01)
    assert predicted_accuracy(model, digits.test, alpha=0.01) < exact
    assert attached(model) == before


def test_density_of_relus():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([1.0, -1.0])[:, None, None, None]
        model[0].bias.zero_()

    class Tuple(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, x):
            return (self.body(x).flatten(1),)

    images = np.array([0.0, 0.0, 0.5, 0.5], np.float32).reshape(1, 2, 2, 1)
    assert relu_density(Tuple(), images) == 2 / 8
    with pytest.raises(ValueError, match="Linear: must have a ReLU"):
        relu_density(nn.Linear(2, 2), images)


@pytest.mark.slow
def test_pruning_weights_makes_activations_denser(digits, trained):
    """The paper's side observation: denser than after the same training without pruning."""
    schedule = Schedule(epochs=9, lr=0.003)
    shares = prune.densities(trained.model(), 0.3, {"stem.conv.weight": 0.7})
    densities = []
    for pieces in ([IterativePruning(shares)], []):
        model = trained.model()
        fit(model, digits.train, schedule, seed=0, pieces=pieces)
        assert accuracy(predict(model, digits.test.images)[-1], digits.test.labels) > 0.9
        assert (prune.density(model) <= 0.31) == bool(pieces)
        densities.append(relu_density(model, digits.test.images))
    assert densities[0] > densities[1]


def test_the_expected_share_weighs_layers_by_their_work():
    net = mixed_network()
    codes = np.random.default_rng(0).integers(-128, 128, (4, *net.input.shape)).astype(np.int8)
    tensors, maps = net.tensors(), golden.run(net, codes).tensors
    left = dense = 0.0
    for layer in net.layers:
        if hasattr(layer, "weight"):
            source = layer.inputs[0]
            magnitudes = np.abs(maps[source].astype(int) - tensors[source].zero_point)
            work = layer.output.shape[0] * layer.output.shape[1] * layer.weight.size
            dense += work
            left += work * (magnitudes >= layer.threshold).mean() * (layer.weight != 0).mean()
    assert expected_share(net, codes) == pytest.approx(left / dense)


def test_the_expected_share_is_near_what_is_multiplied(compressed, digits):
    """Zeros are neither independent nor uniform, but nearly."""
    from hw.compiler.compile import compile_network
    from hw.config import preset
    from sim import simulate

    net = compressed.network
    codes = encode(digits.test.images[:50], net)
    found = simulate(compile_network(net, preset("tiny")), codes)
    left = found.exit_index == len(net.exits) - 1  # the others don't run to the end
    dense = sum(
        layer.output.shape[0] * layer.output.shape[1] * layer.weight.size
        for layer in net.layers
        if hasattr(layer, "weight")
    )
    counted = found.products.sum(axis=1)[left].mean() / dense
    assert expected_share(net, codes) == pytest.approx(counted, rel=0.3)


def test_wrong_requests(digits):
    with pytest.raises(ValueError, match="rounds of pruning must be at least 1, not 0"):
        IterativePruning(SHARES, rounds=0)
    with pytest.raises(ValueError, match=r"density of stem.conv.weight must be above 0 and at most 1, not 0"):
        IterativePruning({"stem.conv.weight": 0.0})
    with pytest.raises(ValueError, match="4 rounds of pruning need as many epochs, not 3"):
        fit(
            initial(ARCHITECTURE, 0), digits.train.take(100), Schedule(epochs=3, lr=0.01), seed=0,
            pieces=[IterativePruning(SHARES, rounds=4)],
        )  # fmt: skip
    with pytest.raises(ValueError, match="alpha must be above 0 and at most 1, not 0"):
        PredictedWinners(0.5, alpha=0.0)
