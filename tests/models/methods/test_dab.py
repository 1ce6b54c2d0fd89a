import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hw.compile import compile_network
from hw.config import preset
from models import golden
from models.architectures import initial
from models.exits import calibrate, with_thresholds
from models.graph import lower
from models.methods.dab import (
    OFF_THE_SHELF,
    Branch,
    DynamicExitLoss,
    RampedExitLoss,
    add_branch,
    efficacy,
    exit_costs,
    features,
    graft,
    margin_for,
)
from models.nets import Architecture
from models.pieces import Piece
from models.quantize import encode, quantize, to_network
from models.surrogate import Surrogate
from models.train import Schedule, accuracy, fit, predict
from sim import simulate

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)
QUICK = Schedule(epochs=15, lr=0.01, batch=128, weight_decay=0.0, policy="steps", milestones=(0.6,))


@pytest.fixture(scope="module")
def shelf(digits, trained):
    """A quantized network without exits, as it might come from elsewhere."""
    twin = quantize(trained.model(), digits.train, Schedule(epochs=1, lr=1e-4), seed=0, exits=False)
    return to_network(twin, "shelf")


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


def test_weights_of_exits_are_ramped_as_in_shallow_deep_networks(digits):
    seen = []

    class Spy(Piece):
        def loss(self, run, images, labels, outputs):
            plain = [F.cross_entropy(head, labels).item() for head in outputs]
            seen.append((run.done / run.total, plain))

    model, piece = initial(ARCHITECTURE, 0), RampedExitLoss(costs=[0.5])
    metrics = fit(
        model, digits.train.take(200), Schedule(epochs=2, lr=1e-9, batch=50), seed=0, pieces=[piece, Spy()]
    )  # fmt: skip
    losses = [final + min(0.5, 0.01 + share * 0.5) * early for share, (early, final) in seen]
    assert [found["loss"] for found in metrics] == pytest.approx([np.mean(losses[:4]), np.mean(losses[4:])], rel=1e-5)
    relative = RampedExitLoss()
    fit(model, digits.train.take(50), Schedule(epochs=1, lr=1e-9), seed=0, pieces=[relative])
    assert relative.weights == exit_costs(lower(model, (8, 8, 1)))[:-1]
    again = RampedExitLoss()
    quantize(model, digits.train.take(50), Schedule(epochs=1, lr=1e-9), seed=0, pieces=lambda twin: [again])
    assert again.weights == relative.weights


@pytest.mark.parametrize(("target", "grows"), [(1.0, True), (0.0, False)])
def test_dynamic_weights_follow_the_branchs_accuracy(digits, target, grows):
    piece = DynamicExitLoss(target=target, rate=0.4, first=0.5)
    schedule = Schedule(epochs=3, lr=1e-9, batch=50)
    model = initial(ARCHITECTURE, 0)
    metrics = fit(model, digits.train.take(200), schedule, seed=0, pieces=[piece])
    weights = [found["exit_weight_0"] for found in metrics]
    assert all((later > earlier) == grows for earlier, later in itertools.pairwise([0.5, *weights]))
    # An untrained branch is right on a tenth of the images, more or less.
    assert 0.5 * math.exp(0.4 * (target - 0.3)) < weights[0] < 0.5 * math.exp(0.4 * target)
    fast = DynamicExitLoss(target=1.0, rate=50.0)
    metrics = fit(model, digits.train.take(50), Schedule(epochs=1, lr=1e-9), seed=0, pieces=[fast])
    assert metrics[0]["exit_weight_0"] == 2.0


def test_dynamic_weights_survive_a_resume(digits, tmp_path):
    few, path = digits.train.take(200), tmp_path / "run"

    class Killed(Piece):
        def before_epoch(self, run):
            if run.epoch == 2 and not path.with_suffix(".again").exists():
                raise KeyboardInterrupt

    def run(checkpoint, *pieces):
        model = initial(ARCHITECTURE, 0)
        schedule = Schedule(epochs=4, lr=0.01, batch=50)
        fit(model, few, schedule, seed=0, pieces=[DynamicExitLoss(target=0.9), *pieces], checkpoint=checkpoint)
        return model.state_dict()

    expected = run(None, Killed()) if path.with_suffix(".again").exists() else run(None)
    with pytest.raises(KeyboardInterrupt):
        run(path, Killed())
    path.with_suffix(".again").touch()
    for name, value in run(path, Killed()).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_a_margin_that_suffices_for_a_softmax():
    assert margin_for(0.9, 10) == pytest.approx(math.log(81))
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(2000, 10)) * 5)
    ordered = logits.sort(dim=1, descending=True).values
    sure = ordered[:, 0] - ordered[:, 1] >= margin_for(0.9, 10)
    assert sure.any()
    assert (logits.softmax(dim=1).amax(dim=1)[sure] >= 0.9).all()
    for wrong in (0.1, 1.0):
        with pytest.raises(ValueError, match="a largest softmax of 10 classes must be above 1/10 and below 1"):
            margin_for(wrong, 10)


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
    threshold = calibrate(validation.logits[0], validation.logits[1], digits.validation.labels)
    network = with_thresholds(branched, threshold)
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


def test_wrong_requests(shelf, digits, branched):
    with pytest.raises(ValueError, match="width of a branch must be at least 0, not -1"):
        Branch((8, 8, 3), 5, width=-1)
    with pytest.raises(ValueError, match="a branch's map of 4x4 must divide into a grid of 3x3"):
        Branch((8, 8, 3), 5, grid=3)
    with pytest.raises(ValueError, match=r"costs of exits must be positive, not \(0,\)"):
        RampedExitLoss([0])
    with pytest.raises(ValueError, match="costs must be one for each of 1 early exits, not 2"):
        fit(
            initial(ARCHITECTURE, 0), digits.train.take(50), Schedule(epochs=1, lr=0.01), seed=0,
            pieces=[RampedExitLoss([0.5, 0.5])],
        )  # fmt: skip
    for name, wrong in (("target", 2.0), ("rate", 0.0), ("first weight", 3.0)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            DynamicExitLoss(**{"target": 0.5, name.split()[0]: wrong})
    other = replace(branched, layers=branched.layers)
    with pytest.raises(ValueError, match=r"the branch must take maps \(8, 8, 8\) to 10 classes, not \(8, 8, 1\) to 10"):
        graft(shelf, "early.add", other)


def test_joint_training_teaches_both_heads(digits):
    model = initial(replace(ARCHITECTURE, widths=(8, 16), branch_width=4), 0)
    fit(model, digits.train, Schedule(epochs=12, lr=0.01, shift=1), seed=0, pieces=[RampedExitLoss()])
    branch, final = (accuracy(logits, digits.test.labels) for logits in predict(model, digits.test.images))
    assert branch > 0.75
    assert final > 0.9
