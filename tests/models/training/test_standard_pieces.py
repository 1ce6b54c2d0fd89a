import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.networks.architectures import initial
from models.networks.residual_net import Architecture, to_torch
from models.training.pieces import Piece
from models.training.standard_pieces import (
    AdversarialExamples,
    CrossEntropy,
    FixedMask,
    Projection,
    Ramp,
    Validation,
)
from models.training.train import Schedule, accuracy, fit, predict
from tests.models.training.annealed import Annealed

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)
SHORT = Schedule(epochs=2, lr=0.01)


@pytest.fixture(scope="module")
def few(digits):
    return digits.train.take(200)


class Diary(Piece):
    """Writes down what is called."""

    def __init__(self):
        self.calls = []

    def begin(self, run):
        self.calls.append("begin")

    def before_epoch(self, run):
        self.calls.append(f"epoch {run.epoch}")
        assert run.done == run.epoch * run.steps

    def before_forward(self, run):
        self.calls.append("forward")

    def batch(self, run, images, labels):
        self.calls.append("batch")
        return images, labels

    def loss(self, run, images, labels, outputs):
        self.calls.append("loss")
        assert run.model.training

    def after_backward(self, run):
        self.calls.append("backward")
        assert run.model.head.linear.weight.grad is not None

    def after_step(self, run):
        self.calls.append("step")

    def after_epoch(self, run):
        self.calls.append("after")
        assert not torch.is_grad_enabled()

    def end(self, run):
        self.calls.append("end")


def test_order_of_the_hooks(few):
    diary = Diary()
    fit(initial(ARCHITECTURE, 0), few, Schedule(epochs=2, lr=0.01, batch=100), seed=0, pieces=[diary])
    batch = ["forward", "batch", "loss", "backward", "step"]
    assert diary.calls == ["begin", "epoch 0", *batch, *batch, "after", "epoch 1", *batch, *batch, "after", "end"]


class Constant(Piece):
    def __init__(self, value, criterion):
        self.value = value
        self.criterion = criterion

    def loss(self, run, images, labels, outputs):
        return None if self.value is None else 0 * outputs[-1].sum() + self.value


def test_losses_are_added_and_a_criterion_replaces_the_plain_one(few):
    def loss(*pieces):
        return fit(initial(ARCHITECTURE, 0), few, Schedule(epochs=1, lr=1e-6), seed=0, pieces=pieces)[0]["loss"]

    plain = loss()
    assert loss(CrossEntropy()) == plain
    assert loss(Constant(5.0, False)) == pytest.approx(plain + 5)
    assert loss(Constant(5.0, True)) == 5
    assert loss(Constant(5.0, True), Constant(0.5, False), Constant(None, False)) == 5.5
    with pytest.raises(ValueError, match="train: a piece that is a criterion must give a loss, not None"):
        loss(Constant(None, True))


def test_projected_weights_are_seen_and_remain(few):
    seen = []

    class Spy(Piece):
        def loss(self, run, images, labels, outputs):
            seen.append(run.model.stem.conv.weight.detach().clone())

        def after_step(self, run):
            assert len(run.model.stem.conv.weight.unique()) > 2  # the weights behind

    model = initial(ARCHITECTURE, 0)
    fit(model, few, SHORT, seed=0, pieces=[Projection({"stem.conv.weight": torch.sign}), Spy()])
    for weights in [*seen, model.stem.conv.weight]:
        assert set(weights.unique().tolist()) <= {-1.0, 1.0}
    assert any((first != second).any() for first, second in itertools.pairwise(seen))


@pytest.mark.parametrize("piece", [FixedMask({"nothing": torch.ones(1)}), Projection({"nothing": torch.sign})])
def test_unknown_parameters(few, piece):
    with pytest.raises(ValueError, match="'nothing' has no parameter of that name"):
        fit(initial(ARCHITECTURE, 0), few, SHORT, seed=0, pieces=[piece])


def test_ramps():
    ramp = Ramp(first=1.0, last=0.2, begin=0.25, end=0.75)
    assert [ramp.at(share) for share in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([1, 1, 0.6, 0.2, 0.2])
    assert Ramp(first=1, last=16, geometric=True).at(0.5) == pytest.approx(4)
    assert Ramp(first=1, last=3, end=0.0).at(0.0) == 3
    values = []
    fit(
        nn.Sequential(nn.Flatten(), nn.Linear(4, 2), Pair()), tiny(), Schedule(epochs=5, lr=0.1), seed=0,
        pieces=[Annealed(Ramp(first=0, last=1, end=0.5), values.append)],
    )  # fmt: skip
    assert values == [0, 0.5, 1, 1, 1]


class Pair(nn.Module):
    def forward(self, x):
        return (x,)


def tiny():
    from models.datasets.splits import Split

    return Split(images=np.ones((4, 2, 2, 1), dtype=np.float32), labels=np.array([0, 1, 0, 1]))


def test_adversarial_examples_are_near_and_worse(digits, trained):
    model = trained.model()
    images, labels = to_torch(digits.test.images), torch.from_numpy(digits.test.labels)
    before = F.cross_entropy(model(images)[-1], labels).item()
    found = []
    for steps in (1, 5):
        changed = AdversarialExamples(eps=0.1, steps=steps).attack(model, images, labels)
        assert model.training
        assert (changed - images).abs().max() <= 0.1 + 1e-6
        assert changed.min() >= 0
        assert changed.max() <= 1
        model.eval()
        found.append(F.cross_entropy(model(changed)[-1], labels).item())
    assert before + 0.5 < found[0] < found[1]


@pytest.mark.slow
def test_adversarial_training_makes_robust(digits):
    schedule, accuracies = Schedule(epochs=12, lr=0.01), []
    for pieces in ([], [AdversarialExamples(eps=0.1)]):
        model = initial(ARCHITECTURE, 0)
        fit(model, digits.train, schedule, seed=0, pieces=pieces)
        attack = AdversarialExamples(eps=0.1, steps=10)
        images, labels = to_torch(digits.test.images), torch.from_numpy(digits.test.labels)
        changed = attack.attack(model, images, labels).permute(0, 2, 3, 1).numpy()
        accuracies.append(accuracy(predict(model, changed)[-1], digits.test.labels))
    assert accuracies[1] > accuracies[0] + 0.15


def test_a_part_of_the_batch_is_replaced(few, trained):
    piece = AdversarialExamples(eps=0.1, share=0.25)
    images, labels = to_torch(few.images[:40]), torch.from_numpy(few.labels[:40])

    class Stub:
        model = trained.model()

    changed, same = piece.batch(Stub, images, labels)
    assert same is labels
    differs = (changed != images).flatten(1).any(dim=1)
    assert differs[:10].all()
    assert not differs[10:].any()


def test_validation_is_the_accuracy(digits, few):
    model = initial(ARCHITECTURE, 0)
    metrics = fit(model, few, SHORT, seed=0, pieces=[Validation(digits.validation, batch=100)])
    for number, logits in enumerate(predict(model, digits.validation.images)):
        assert metrics[-1][f"validation_{number}"] == accuracy(logits, digits.validation.labels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ramp(first=0, last=1, begin=0.5, end=0.2), "begin and end must be ordered and in 0..1, not 0.5"),
        (lambda: Ramp(first=0, last=1, geometric=True), "geometric ramp's values must be positive, not 0 and 1"),
        (lambda: AdversarialExamples(eps=2), "eps must be in 0..1, not 2"),
        (lambda: AdversarialExamples(eps=0.1, share=-1), "share must be in 0..1, not -1"),
        (lambda: AdversarialExamples(eps=0.1, steps=0), "steps must be at least 1, not 0"),
        (lambda: AdversarialExamples(eps=0.1, step=0.0), "step must be positive, not 0"),
    ],
)
def test_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
