"""The methods of activations and exits: what must hold even on digits, and what their checks make of figures."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from hw.config import preset
from hw.network.selection import Select
from models.compression.quantize import quantize, to_network
from models.datasets.splits import Split
from models.networks.architectures import initial
from models.networks.resnet8 import ResNet8Architecture
from models.training.hyperparameters import Schedule
from models.training.train import fit
from offramp.replications import balance, dab, dasnet, jpnet
from offramp.replications.start import dense_products, integer_accuracy, on_accelerator
from offramp.replications.toy import half_width


@pytest.fixture(scope="module")
def untrained():
    return half_width(data="digits", images=1000, test=300, epochs=4)


@pytest.fixture(scope="module")
def trained(untrained):
    model = copy.deepcopy(untrained.model)
    fit(model, untrained.dataset.train, untrained.schedule(15), seed=0)
    return replace(untrained, model=model)


def judged(found, words):
    (holds,) = (check["holds"] for check in found if words in check["claim"])
    return holds


MEASURED = {"products": 10.0, "cycles": 10.0, "products_share": 0.2}


@pytest.mark.slow
def test_jpnet(trained):
    figures, networks = jpnet.train(trained)
    assert figures["pruned_density"] < 0.45
    assert figures["joint_accuracy"] > figures["before_tuning_accuracy"] - 0.01
    assert figures["joint_accuracy"] > 0.9
    assert figures["expected_share"] < figures["before_expected_share"]
    found = jpnet.checks(figures, {"jpnet": MEASURED})
    assert judged(found, "cost at most a point and leave at most 25 %") == (
        figures["dense_accuracy"] - figures["joint_accuracy"] <= 0.01 and figures["expected_share"] <= 0.25
    )
    selects = {layer.name: getattr(layer, "select", None) for layer in networks["jpnet"].layers}
    assert selects["block1.first.conv"] == Select(kind="elements", count=256)
    assert integer_accuracy(networks["jpnet"], trained.dataset.test) > 0.9


@pytest.mark.slow
def test_dasnet(trained):
    figures, networks = dasnet.train(trained)
    assert figures["winners_accuracy"]["0.5"] > 0.9
    assert figures["winners_accuracy"]["0.5"] >= figures["winners_accuracy"]["0.25"] - 0.02
    found = dasnet.checks(figures, dict.fromkeys(("dasnet", "dasnet-pruned", "dense"), MEASURED))
    assert judged(found, "winners of a class are more alike")
    assert networks["dasnet"].layer("block3.second.conv").select == Select(kind="channels", count=16)


@pytest.mark.slow
def test_dab(untrained, monkeypatch):
    monkeypatch.setattr(dab, "_ATTACKED", 20)
    setting = replace(untrained, epochs=8)
    figures, networks = dab.train(setting)
    measured = {
        name: on_accelerator(network, preset("base-85f"), setting.dataset.test.take(40))
        for name, network in networks.items()
    }
    found = dab.checks(figures, measured)
    assert len(found) == 6
    for name, row in figures["calibrated"].items():
        assert row["exit_share"] > 0.2, name
        assert row["accuracy"] > row["accuracy_without_exit"] - 0.03, name
    for rows in (figures["attacks"][str(eps)] for eps in dab.EPS):
        for row in (*dab.ADAPTIVE, "N1 final", "N2 branch"):
            assert rows[row]["unflagged"] <= rows[row]["success"]
            assert rows[row]["unflagged_constant"] <= rows[row]["unflagged_audit"] <= rows[row]["unflagged_default"]
    slow = figures["slowdown"]
    assert slow["0.1"]["exit_share"] < slow["0.0"]["exit_share"]
    assert judged(found, "a slowdown attack lowers the efficacy")


@pytest.mark.slow
def test_balance(trained):
    figures, networks = balance.train(trained)
    even, uneven = figures["balanced"], figures["unbalanced"]
    assert even["weights"] == uneven["weights"]
    assert even["accuracy_int8"] > 0.9
    for name, skew in even["skew"].items():
        assert skew <= uneven["skew"][name]
    for name, network in networks.items():
        weights = {layer.name: layer.weight for layer in network.layers if hasattr(layer, "weight")}
        counts = (weights["block3.first.conv"] != 0).reshape(32, -1).sum(axis=1)
        assert (np.ptp(counts) <= 2) == (name == "balanced")  # a small weight may round to 0


def test_claims_of_balance_fail_by_their_figures():
    figures = {"unbalanced": {"accuracy_int8": 0.85}, "balanced": {"accuracy_int8": 0.846}}
    measured = {
        "unbalanced": {"cycles": 110.0, "share_of_limit": 0.7},
        "balanced": {"cycles": 100.0, "share_of_limit": 0.75},
    }
    assert [check["holds"] for check in balance.checks(figures, measured)] == [True] * 3
    worse = {"accuracy_int8": 0.844}
    assert [check["holds"] for check in balance.checks(figures | {"balanced": worse}, measured)] == [False, True, True]
    for number, (key, value) in enumerate((("cycles", 110.0), ("share_of_limit", 0.7)), 1):
        changed = measured | {"balanced": measured["balanced"] | {key: value}}
        assert [check["holds"] for check in balance.checks(figures, changed)] == [n != number for n in range(3)]


def test_the_composed_score_counts_what_is_flagged_as_no_success(small):
    network, digits = small.network.network, small.source
    heads = dab.Heads(network, digits.validation)
    images, labels = digits.test.images, (digits.test.labels + 1) % 10  # nearly all answers are wrong now
    score, flagged = heads.score(images, labels), heads.scores(images) > heads.threshold
    assert flagged.any()
    assert (score[flagged] < 0).all()
    assert (score[~flagged] > 0).mean() > 0.9
    found = dab.success(heads, images, labels, heads.scores(digits.validation.images))
    assert found["success"] > 0.9
    assert found["unflagged"] == pytest.approx((score > 0).mean())
    assert 0.4 < found["auroc"] < 0.6


def test_dense_products_are_those_of_mlperf_tiny():
    model = initial(ResNet8Architecture(shape=(32, 32, 3), classes=10), 0)
    few = Split(images=np.random.default_rng(0).random((4, 32, 32, 3), np.float32), labels=np.zeros(4, np.int64))
    network = to_network(quantize(model, few, Schedule(epochs=1, lr=1e-9), seed=0), "dense")
    assert dense_products(network) == 12_501_632
    assert jpnet.stage_rates(model) == {
        name: rate
        for rate, names in {
            0.5: ("block1.first.conv", "block1.second.conv", "block2.shortcut"),
            0.4: ("block2.first.conv", "block2.second.conv", "block3.shortcut"),
            0.3: ("block3.first.conv", "block3.second.conv"),
        }.items()
        for name in names
    }


FIGURES = {
    "dense_accuracy": 0.87,
    "pruned_relu_density": 0.5,
    "dense_relu_density": 0.4,
    "joint_accuracy": 0.865,
    "predicted_accuracy": 0.864,
    "expected_share": 0.2,
    "dynamic_accuracy": 0.8,
    "static_accuracy": 0.7,
}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"joint_accuracy": 0.8, "predicted_accuracy": 0.8}, "cost at most a point"),
        ({"expected_share": 0.26}, "leave at most 25 %"),
        ({"static_accuracy": 0.795}, "beats a fixed one by a point"),
        ({"pruned_relu_density": 0.39}, "pruning only weights makes activations denser"),
        ({"predicted_accuracy": 0.85}, "predicted from a tenth"),
        ({}, "the accelerator skips"),
    ],
)
def test_claims_of_jpnet_fail_by_their_figures(changed, words):
    assert all(check["holds"] for check in jpnet.checks(FIGURES, {"jpnet": MEASURED}))
    measured = MEASURED if changed else MEASURED | {"products_share": 0.5}
    found = jpnet.checks(FIGURES | changed, {"jpnet": measured})
    assert not judged(found, words)
    assert sum(not check["holds"] for check in found) == 1


def test_claims_of_dasnet_fail_by_their_figures():
    figures = {
        "dense_accuracy": 0.87,
        "winners_accuracy": {"0.5": 0.865, "0.25": 0.84},
        "static_accuracy": {"0.5": 0.86, "0.25": 0.83},
        "normalised_accuracy": {"0.5": 0.866, "0.25": 0.85},
        "jaccard": {"a": (0.6, 0.5)},
        "int8_accuracy": 0.864,
        "pruned_accuracy": 0.86,
    }
    measured = {"dasnet": MEASURED, "dense": MEASURED | {"products": 20.0}}
    assert all(check["holds"] for check in dasnet.checks(figures, measured))
    for name, value in {
        "static_accuracy": {"0.5": 0.86, "0.25": 0.845},
        "jaccard": {"a": (0.5, 0.5)},
        "int8_accuracy": 0.85,
        "pruned_accuracy": 0.85,
        "dense_accuracy": 0.88,
    }.items():
        found = dasnet.checks(figures | {name: value}, measured)
        assert sum(not check["holds"] for check in found) == 1, name
