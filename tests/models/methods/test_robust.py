import pytest
import torch
from torch.nn import functional as F

from models.attacks import pgd
from models.methods.robust import AdversarialLoss
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.training.pieces import Piece
from models.training.standard_pieces import AdversarialExamples
from models.training.train import Schedule, accuracy, fit, predict

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)


def test_it_is_the_weighted_sum(digits):
    class Fixed(AdversarialExamples):
        def attack(self, model, images, labels):
            return images * 0.5

    class Check(Piece):
        def loss(self, run, images, labels, outputs):
            model = run.model
            weight = run.schedule.exit_weight * (run.done + 1) / run.total
            parts = [
                F.cross_entropy(heads[1], labels) + weight * F.cross_entropy(heads[0], labels)
                for heads in (outputs, model(images * 0.5))
            ]
            found = AdversarialLoss(Fixed(eps=0.1), clean=2.0, adversarial=3.0).loss(run, images, labels, outputs)
            torch.testing.assert_close(found, 2 * parts[0] + 3 * parts[1])
            checked.append(True)

    checked = []
    fit(initial(ARCHITECTURE, 0), digits.train.take(128), Schedule(epochs=1, lr=0.01), seed=0, pieces=[Check()])
    assert checked == [True, True]


@pytest.mark.slow
def test_it_makes_networks_robust(digits):
    schedule, found = Schedule(epochs=30, lr=0.01), []
    for pieces in ([], [AdversarialLoss(AdversarialExamples(eps=0.15, steps=2))]):
        model = initial(ARCHITECTURE, 0)
        fit(model, digits.train, schedule, seed=0, pieces=pieces)
        images = pgd(model, digits.test.images, digits.test.labels, eps=0.15)
        found.append(accuracy(predict(model, images)[-1], digits.test.labels))
    assert found[1] > found[0] + 0.2


@pytest.mark.parametrize("name", ["clean", "adversarial"])
def test_impossible(name):
    with pytest.raises(ValueError, match=f"weight of {name} images must be positive, not 0"):
        AdversarialLoss(AdversarialExamples(eps=0.1), **{name: 0.0})
