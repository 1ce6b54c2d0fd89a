import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.compression.quantize import quantize
from models.frontends.pytorch.graph import lower
from models.methods.dab import exit_costs
from models.methods.exit_losses import DynamicExitLoss, RampedExitLoss
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.training.pieces import Piece
from models.training.train import Schedule, accuracy, fit, predict

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)


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


@pytest.mark.slow
def test_joint_training_teaches_both_heads(digits):
    model = initial(replace(ARCHITECTURE, widths=(8, 16), branch_width=4), 0)
    fit(model, digits.train, Schedule(epochs=12, lr=0.01, shift=1), seed=0, pieces=[RampedExitLoss()])
    branch, final = (accuracy(logits, digits.test.labels) for logits in predict(model, digits.test.images))
    assert branch > 0.75
    assert final > 0.9


def test_wrong_weights_are_refused(digits):
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
