"""Figures of a network on test images are those of the golden model and of the simulator."""

import numpy as np
import pytest

from hw.compiler.compile import compile_balanced
from hw.config import preset
from models.integer import golden
from models.integer.activity import activity
from offramp.intake import outcome as under_test
from offramp.intake.outcome import outcome, shares_of
from offramp.intake.samples import Samples
from sim import simulate, worst_case
from tests.random_networks import random_codes, random_network, two_blocks

_SEED, _SIMULATED = 6, 4


@pytest.fixture
def case(monkeypatch):
    """A network with an early exit, and images of two kinds; few are simulated."""
    monkeypatch.setattr(under_test, "_SIMULATED", _SIMULATED)
    network = random_network(_SEED)
    chosen, test = (random_codes(network, count, _SEED + count) for count in (6, 9))
    return network, Samples(images=chosen, labels=None, origin="chosen"), test


def test_accuracy_is_of_all_images_and_cycles_of_the_first(case):
    network, chosen, codes = case
    golden_run = golden.run(network, codes, keep=False)
    labels = golden_run.classes.copy()
    labels[-2:] = (labels[-2:] + 1) % network.classes  # wrong where nothing is simulated any more
    found = outcome(network, chosen, Samples(images=codes, labels=labels, origin="test"), "tiny")
    assert found["accuracy"] == pytest.approx(7 / 9)
    assert found["exit_share"] == [float((golden_run.exit_index == n).mean()) for n in range(len(network.exits))]
    program = compile_balanced(network, preset("tiny"), activity(network, chosen.images[:_SIMULATED]))
    cycles = simulate(program, codes[:_SIMULATED]).cycles
    assert found["cycles"]["mean"] == cycles.mean()
    assert found["cycles"]["worst"] == cycles.max() <= found["cycles"]["bound"] == worst_case(program)


def test_activity_is_of_the_first_images(case):
    network, chosen, _ = case
    found, expected = shares_of(network, chosen), activity(network, chosen.images[:_SIMULATED])
    whole = activity(network, chosen.images)
    assert found.keys() == expected.keys()
    assert any((found[name] != whole[name]).any() for name in found)
    for name, share in found.items():
        np.testing.assert_array_equal(share, expected[name])


def test_a_network_that_does_not_fit_is_refused_with_a_config_that_it_fits():
    network = two_blocks(4, 16)
    codes = random_codes(network, 2, _SEED)
    images = Samples(images=codes, labels=np.zeros(2, np.int64), origin="test")
    with pytest.raises(ValueError, match=r"^tiny,list_words=64: .*64 words.*; it fits --config "):
        outcome(network, images, images, "tiny,list_words=64")
