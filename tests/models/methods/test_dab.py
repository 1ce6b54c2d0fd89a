from dataclasses import replace

import numpy as np
import pytest
import torch

from hw.compiler.compile import compile_network
from hw.config import preset
from models.compression.quantize import encode, quantize, to_network
from models.frontends.pytorch.graph import lower
from models.integer import golden
from models.integer.exit_calibration import calibrate, with_exit_thresholds
from models.integer.surrogate import Surrogate
from models.methods.dab import OFF_THE_SHELF, Branch, add_branch, efficacy, exit_costs, features, graft
from models.training.train import Schedule
from sim import simulate

QUICK = Schedule(epochs=30, lr=0.01, batch=128, weight_decay=0.0, policy="steps", milestones=(0.6,))


@pytest.fixture(scope="module")
def shelf(compressed):
    """A quantized network without exits, as it might come from elsewhere."""
    return replace(compressed.dense, name="shelf")


@pytest.fixture(scope="module")
def branched(shelf, digits):
    return add_branch(shelf, "early.add", digits.train, width=4, training=QUICK)


def test_costs_are_shares_of_the_multiply_accumulates(compressed, trained):
    expected = (0.0, 0.0)
    macs = {
        "stem.conv": 64 * 8 * 9,
        "early": 2 * 64 * 8 * 8 * 9,
        "branch": 16 * 4 * 8 * 9 + 4 * 10,
        "late": 16 * (16 * 8 * 9 + 16 * 16 * 9 + 8 * 16) + 160,
    }
    before = macs["stem.conv"] + macs["early"] + macs["branch"]
    expected = (before / (before + macs["late"]), 1.0)
    assert exit_costs(compressed.network) == pytest.approx(expected)
    assert exit_costs(lower(trained.model(), (8, 8, 1))) == pytest.approx(expected)


def test_features_are_the_networks_own_codes(shelf, digits):
    few = digits.test.take(20)
    seen = features(shelf, "early.add", few)
    expected = golden.run(shelf, encode(few.images, shelf)).tensors["early.add"]
    assert seen.images.min() >= 0
    assert seen.images.max() <= 1
    np.testing.assert_array_equal(np.rint(seen.images * 255) - 128, expected)
    with pytest.raises(ValueError, match=r"second.conv: a branch must read a rectified map, of zero point -128, not"):
        features(shelf, "early.second.conv", few)


def test_a_branch_leaves_the_network_as_it_was(shelf, branched, digits):
    codes = encode(digits.test.images, shelf)
    before, after = golden.run(shelf, codes), golden.run(branched, codes)
    assert [layer for layer in branched.layers if not layer.name.startswith("branch.")] == list(shelf.layers)
    for name, values in before.tensors.items():
        np.testing.assert_array_equal(after.tensors[name], values)
    np.testing.assert_array_equal(after.logits[-1], before.logits[-1])
    assert after.exit_share()[0] == 0


def test_a_branch_off_the_shelf_answers_many_images_at_no_loss(shelf, branched, digits):
    validation = golden.run(branched, encode(digits.validation.images, branched), keep=False)
    threshold = calibrate(validation.logits[0], validation.logits[1], digits.validation.labels, loss=0.0)
    network = with_exit_thresholds(branched, threshold)
    codes = encode(digits.test.images, network)
    found, full = golden.run(network, codes, keep=False), golden.run(shelf, codes, keep=False)
    assert found.exit_share()[0] > 0.3
    assert found.accuracy(digits.test.labels) >= full.accuracy(digits.test.labels) - 0.015
    timed = simulate(compile_network(network, preset("tiny")), codes[:40])
    np.testing.assert_array_equal(timed.exit_index, found.exit_index[:40])
    early = timed.exit_index == 0
    assert timed.cycles[early].mean() < timed.cycles[~early].mean()


def test_logits_keep_the_units_that_the_loss_saw(shelf, digits):
    """A branch whose real logits are known: the mean of one channel, in images of 0..1, and its negative."""
    shape = shelf.layer("early.add").output.shape
    branch = Branch(shape, shelf.classes, width=0)
    with torch.no_grad():
        branch.linear.weight.zero_()
        branch.linear.bias.zero_()
        branch.linear.weight[0, 0], branch.linear.weight[1, 0] = 10.0, -10.0
    seen = features(shelf, "early.add", digits.test.take(30))
    twin = quantize(branch, seen, Schedule(epochs=1, lr=1e-12), seed=0)
    network = graft(shelf, "early.add", to_network(twin, "branch"))
    logits = golden.run(network, encode(digits.test.images[:30], network), keep=False).logits[0]
    found = logits * network.tensors()[network.exits[0].logits].scale
    expected = 10 * seen.images[..., 0].mean(axis=(1, 2))
    np.testing.assert_allclose(found[:, 0], expected, atol=0.05)
    np.testing.assert_allclose(found[:, 1], -expected, atol=0.05)


def test_attacks_see_the_grafted_branch_as_it_is(branched, digits):
    few = digits.test.images[:50]
    expected = golden.run(branched, encode(few, branched), keep=False).logits[0]
    with torch.no_grad():
        found = Surrogate(branched)(torch.from_numpy(few).permute(0, 3, 1, 2))[0].numpy()
    scale = branched.tensors()[branched.exits[0].logits].scale
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    assert np.abs(found / scale - expected).mean() < 127


def test_the_setting_for_frozen_networks():
    assert (OFF_THE_SHELF.epochs, OFF_THE_SHELF.lr) == (25, 1e-3)
    assert OFF_THE_SHELF.milestones[0] * OFF_THE_SHELF.epochs == 15


@pytest.mark.parametrize(("width", "grid"), [(0, 1), (0, 4), (6, 1), (6, 2)])
def test_branches_of_every_form(width, grid):
    branch = Branch((8, 8, 3), 5, width=width, grid=grid)
    assert branch(torch.rand(2, 3, 8, 8))[0].shape == (2, 5)
    graph = lower(branch.eval(), (8, 8, 3))
    assert graph.steps[-1].shape == (1, 1, 5)


def test_efficacy_is_the_area_under_the_curve_of_exits():
    exits = np.array([0, 0, 1, 1])
    assert efficacy((0.0, 1.0), np.zeros(4, int)) == 1.0
    assert efficacy((0.4, 1.0), np.ones(4, int)) == 0.0
    assert efficacy((0.4, 1.0), exits) == pytest.approx(0.5 * 0.4 * 0.5 + 0.6 * 0.5)
    with pytest.raises(ValueError, match="efficacy needs at least 1 image, not 0"):
        efficacy((0.4, 1.0), np.empty(0, int))


def test_wrong_requests(shelf, branched):
    with pytest.raises(ValueError, match="width of a branch must be at least 0, not -1"):
        Branch((8, 8, 3), 5, width=-1)
    with pytest.raises(ValueError, match="a branch's map of 4x4 must divide into a grid of 3x3"):
        Branch((8, 8, 3), 5, grid=3)
    other = replace(branched, layers=branched.layers)
    with pytest.raises(ValueError, match=r"the branch must take maps \(8, 8, 8\) to 10 classes, not \(8, 8, 1\) to 10"):
        graft(shelf, "early.add", other)
