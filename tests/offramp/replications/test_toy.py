"""Every method that trains from scratch, on digits: what must hold even there."""

import copy
import json
from importlib import import_module

import numpy as np
import pytest

from models.compression.quantize import encode
from models.integer import golden
from models.training.train import fit
from offramp.replications.start import integers
from offramp.replications.toy import answers, half_width, robustness, under_attack


@pytest.fixture(scope="module")
def setting():
    return half_width(data="digits", images=2000, test=200, epochs=8)


@pytest.fixture(scope="module")
def model(setting):
    learnt = copy.deepcopy(setting.model)
    fit(learnt, setting.dataset.train, setting.schedule(12), seed=0)
    return learnt


def result(name, setting):
    module = import_module(f"offramp.replications.{name}")
    figures, networks = module.train(setting)
    found = module.checks(figures, {})
    print(json.dumps({"figures": figures, "checks": found}, default=float))  # what is committed, seen with -s
    assert networks
    for network in networks.values():
        classes = golden.run(network, encode(setting.dataset.test.images, network), keep=False).classes
        assert (classes == setting.dataset.test.labels).mean() > 0.15  # better than chance: it has learnt and survived
    return figures, {check["claim"]: check["holds"] for check in found}


def holds(checks, words):
    (found,) = (value for claim, value in checks.items() if words in claim)
    return found


@pytest.mark.slow
def test_attacks_only_do_harm(setting, model):
    network = integers(setting, model, "digits")
    found = robustness(network, setting.dataset.test.take(50), 0.1)
    assert found["attacked"] == 50
    assert found["worst"] <= min(found["clean"], found["pgd20"], found["apgd"], found["square"]) + 1e-9
    assert max(found["pgd20"], found["apgd"]) < found["clean"] - 0.2
    images = setting.dataset.test.images[:50]
    float_classes, classes = answers(model)(images), answers(network)(images)
    assert (float_classes == classes).mean() > 0.9
    some = setting.dataset.test.take(50)
    assert under_attack(model, some, 0.0) == np.mean(float_classes == some.labels)


@pytest.mark.slow
def test_feedback(setting):
    figures, checks = result("feedback", setting)
    assert holds(checks, "classes are unequal before feedback")
    assert figures["feedback"]["distance"] > 1.2 * figures["plain"]["distance"]
    assert [round_["generated"] > 0 for round_ in figures["feedback"]["rounds"]] == [True] * 3


@pytest.mark.slow
def test_binary_relax(setting):
    figures, checks = result("binary_relax", setting)
    assert holds(checks, "at least 35 % of ternary weights are zero")
    assert holds(checks, "in the integers every output channel has one magnitude, and zero")
    assert figures["four-bit"]["zero_weights"] > 0


@pytest.mark.slow
def test_gap(setting):
    figures, checks = result("gap", setting)
    assert holds(checks, "attacks made on the dense parent hit it less")
    assert holds(checks, "attacked itself it isn't robust")
    assert figures["gap-4"]["density"] < figures["gap-2"]["density"] < 0.6
    assert figures["gap-4"]["density"] == pytest.approx(figures["magnitude-4"]["density"], abs=0.01)
    assert figures["dense"]["target"] == figures["dense"]["surrogate"] == figures["dense"]["both"]


@pytest.mark.slow
def test_dnr(setting):
    figures, checks = result("dnr", setting)
    assert len(figures["densities"]) == 9
    # Robust, and not only to PGD: without training against it, next to nothing survives (test_gap).
    assert figures["int8"]["robustness"]["worst"] > 0.4
    assert holds(checks, "the number of nonzero weights is constant")
    assert holds(checks, "densities of layers become uneven")
