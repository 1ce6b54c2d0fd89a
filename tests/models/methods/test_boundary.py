import numpy as np
import pytest
import torch
from torch import nn

from models.methods.boundary import DIRECTIONS, BoundaryDistances, Probe, class_means, directions, distances, probe
from models.networks.residual_net import to_torch


class Threshold(nn.Module):
    """Answers 1 where the mean of an image exceeds a bound."""

    def __init__(self, bound):
        super().__init__()
        self.bound = bound

    def forward(self, x):
        excess = x.flatten(1).mean(dim=1) - self.bound
        return (torch.stack([-excess, excess], dim=1),)


def test_distances_are_those_to_the_boundary():
    bounds = torch.tensor([0.3, 0.55, 0.9])
    images, labels, up = torch.zeros(1, 1, 4, 4), torch.tensor([0]), torch.ones(1, 1, 4, 4)
    for bound in bounds:
        found = distances(Threshold(float(bound)), images, labels, up, steps=12)
        assert float(found) == pytest.approx(float(bound), abs=1 / 2**12)
        assert float(found) >= float(bound)  # the answer is wrong there


def test_wrong_answers_have_no_distance_and_unreachable_boundaries_the_farthest_one():
    images, up = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    assert distances(Threshold(0.5), images, torch.tensor([1, 0]), up, farthest=0.4).tolist() == pytest.approx([0, 0.4])
    assert distances(Threshold(0.5), images, torch.tensor([0, 0]), -up).tolist() == [1.0, 1.0]  # pixels stay in 0..1


def test_images_do_not_influence_each_other(trained, digits):
    model = trained.model()
    images, labels = to_torch(digits.test.images[:40]), torch.from_numpy(digits.test.labels[:40])
    along = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    whole = distances(model, images, labels, along)
    part = distances(model, images[30:], labels[30:], along[30:])
    torch.testing.assert_close(whole[30:], part)


def test_directions_have_unit_size(trained, digits):
    model = trained.model()
    images, labels = to_torch(digits.test.images[:40]), torch.from_numpy(digits.test.labels[:40])
    means = class_means(images, labels, 10)
    found = {}
    for kind in DIRECTIONS:
        generator = torch.Generator().manual_seed(0)
        found[kind] = directions(model, images, labels, kind, means=means, generator=generator)
        assert found[kind].flatten(1).square().mean(dim=1).sqrt().numpy() == pytest.approx(np.ones(40), rel=1e-5)
    reached = {kind: distances(model, images, labels, along).mean() for kind, along in found.items()}
    assert reached["gradient"] < reached["random"]
    assert reached["gradient"] < reached["class"]
    with pytest.raises(ValueError, match="direction must be one of gradient, random, class, not 'up'"):
        directions(model, images, labels, "up", means=means, generator=torch.Generator())


def test_class_means():
    images = torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1, 1)
    assert class_means(images, torch.tensor([0, 0, 2]), 4).flatten().tolist() == [0.5, 0, 0.5, 0]


def test_inequality():
    boundary = BoundaryDistances(adversarial=np.array([0.1, 0.2, 0.3]), random=np.ones(3), least=np.zeros(3))
    assert boundary.score == pytest.approx(0.2)
    assert boundary.inequality == pytest.approx(1.0)
    equal = BoundaryDistances(adversarial=np.full(3, 0.1), random=np.ones(3), least=np.zeros(3))
    assert equal.inequality == 0
    assert BoundaryDistances(adversarial=np.zeros(3), random=np.ones(3), least=np.zeros(3)).inequality == 0


def test_probe_by_class(trained, digits):
    model = trained.model()
    images, labels = to_torch(digits.test.images), torch.from_numpy(digits.test.labels)
    found = probe(model, images, labels, classes=10, settings=Probe(draws=2, steps=6))
    again = probe(model, images, labels, classes=10, settings=Probe(draws=2, steps=6))
    for name in ("adversarial", "random", "least"):
        values = getattr(found, name)
        assert values.shape == (10,)
        np.testing.assert_array_equal(values, getattr(again, name))
    assert (found.least <= found.adversarial).all()
    assert (found.adversarial < found.random).all()
    assert found.inequality > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, y: distances(Threshold(0.5), x, y, x, farthest=0.0),
            "the farthest distance must be positive, not 0",
        ),
        (lambda x, y: distances(Threshold(0.5), x, y, x, steps=0), "steps of a bisection must be at least 1, not 0"),
        (lambda x, y: probe(Threshold(0.5), x, y, classes=2), "class 1 must have an image to measure distances of"),
    ],
)
def test_impossible(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64))
