import numpy as np
import pytest
import torch

from models.methods.boundary import BoundaryDistances, Probe
from models.methods.feedback import Feedback, generate_examples, proportions
from models.networks.architectures import initial
from models.networks.residual_net import Architecture, to_torch
from models.training.pieces import Piece
from models.training.train import Schedule, fit

ARCHITECTURE = Architecture(shape=(8, 8, 1), classes=10, widths=(4, 8), branch_width=2)
QUICK = Probe(draws=1, steps=5)


def boundary(*adversarial):
    values = np.array(adversarial)
    return BoundaryDistances(adversarial=values, random=values, least=values)


def test_near_classes_get_more():
    assert proportions(boundary(0.1, 0.2, 0.5), 0.3).tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert proportions(boundary(0.1, 0.2, 0.5), 0.3, gamma=2).tolist() == pytest.approx([0.8, 0.2, 0])
    assert proportions(boundary(0.1, 0.2, 0.5), 0.3, gamma=0).tolist() == pytest.approx([0.5, 0.5, 0])
    assert proportions(boundary(0.4, 0.5), 0.3).tolist() == [0.5, 0.5]


def test_examples_lie_just_behind_the_boundary(trained, digits):
    model, train = trained.model(), digits.train
    counts = [20 + label for label in range(10)]
    images, labels = generate_examples(
        model, to_torch(train.images), torch.from_numpy(train.labels), counts,
        target=0.5, beyond=0.01, settings=QUICK, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert images.min() >= 0
    assert images.max() <= 1
    found = torch.bincount(labels, minlength=10)
    assert (found <= torch.tensor(counts)).all()
    assert (found >= 0.8 * torch.tensor(counts)).all()
    with torch.no_grad():
        assert (model(images)[-1].argmax(dim=1) != labels).float().mean() > 0.9


def test_nothing_is_generated_where_nothing_is_near(trained, digits):
    images, labels = generate_examples(
        trained.model(), to_torch(digits.train.images[:100]), torch.from_numpy(digits.train.labels[:100]), [2] * 10,
        target=1e-9, beyond=0.01, settings=QUICK, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    # Only what is answered wrong from the start has no distance.
    assert len(images) == len(labels) <= 20


def test_rounds(digits):
    class Watch(Piece):
        def batch(self, run, images, labels):
            sizes.append((len(images), len(labels)))
            return images, labels

    sizes = []
    few = digits.train.take(300)
    feedback = Feedback(target=0.3, round_epochs=2, probed=200, settings=QUICK)
    schedule = Schedule(epochs=4, lr=0.01, batch=100)
    shown: list[tuple[int, int, str]] = []
    metrics = fit(
        initial(ARCHITECTURE, 0), few, schedule, seed=0, pieces=[feedback, Watch()],
        progress=lambda *report: shown.append(report),
    )  # fmt: skip
    assert (0, 12, "train: epoch 1/4, distances of 200 images") in shown
    assert all(
        any(f"epoch {epoch}/4" in text and "examples of class" in text for _, _, text in shown) for epoch in (1, 3)
    )
    assert ["distance" in epoch for epoch in metrics] == [True, False, True, False]
    assert all(0 < epoch["generated"] <= 300 for epoch in metrics)
    for epoch, recorded in enumerate(metrics):
        seen = sizes[3 * epoch : 3 * epoch + 3]
        assert sum(images for images, _ in seen) == 300 + recorded["generated"]
        assert all(images == labels for images, labels in seen)


@pytest.mark.slow
def test_distances_grow(trained, digits):
    feedback = Feedback(target=0.3, round_epochs=2, probed=400, settings=QUICK)
    metrics = fit(trained.model(), digits.train, Schedule(epochs=8, lr=0.002), seed=0, pieces=[feedback])
    found = [epoch["distance"] for epoch in metrics if "distance" in epoch]
    assert found[-1] > 1.2 * found[0]


@pytest.mark.slow
def test_it_resumes_exactly(digits, tmp_path):
    few, path = digits.train.take(200), tmp_path / "run"
    schedule = Schedule(epochs=4, lr=0.01)

    def pieces():
        return [Feedback(target=0.3, round_epochs=4, probed=150, settings=QUICK)]

    def stop(done, total, text):
        if done > total // 2:
            raise KeyboardInterrupt

    whole, part, again = (initial(ARCHITECTURE, 0) for _ in range(3))
    fit(whole, few, schedule, seed=0, pieces=pieces())
    with pytest.raises(KeyboardInterrupt):
        fit(part, few, schedule, seed=0, pieces=pieces(), checkpoint=path, progress=stop)
    fit(again, few, schedule, seed=0, pieces=pieces(), checkpoint=path)
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, again.state_dict()[name], err_msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 0.0}, "target of feedback must be positive, not 0"),
        ({"round_epochs": 0}, "round_epochs of feedback must be positive, not 0"),
        ({"probed": 0}, "probed of feedback must be positive, not 0"),
        ({"beyond": -0.1}, r"beyond of feedback must not be negative, not -0\.1"),
        ({"gamma": -1.0}, "gamma of feedback must not be negative, not -1"),
    ],
)
def test_impossible(change, message):
    with pytest.raises(ValueError, match=message):
        Feedback(**{"target": 0.3, **change})
