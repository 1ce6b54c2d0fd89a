from collections.abc import Iterator
from itertools import count, cycle

import numpy as np
import pytest
import torch

from models.attacks import apgd, dlr_loss, final_loss, margin_loss, pgd
from models.attacks.apgd import checkpoints
from models.compression.quantize import encode
from models.integer import golden
from tests.models.attacks.plain import Plain


def test_checkpoints_are_the_published_ones():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_images_stay_in_the_ball_and_seeds_repeat(target, some):
    options = {"eps": 0.07, "steps": 8}
    images = apgd(target, some.images, some.labels, **options)
    assert images.dtype == np.float32
    assert images.shape == some.images.shape
    assert images.min() >= 0
    assert images.max() <= 1
    assert np.abs(images - some.images).max() == pytest.approx(0.07, abs=1e-6)
    np.testing.assert_array_equal(images, apgd(target, some.images, some.labels, **options))
    assert (images != apgd(target, some.images, some.labels, seed=1, **options)).any()
    assert apgd(target, some.images[:0], some.labels[:0], **options).shape == (0, 8, 8, 1)


def test_a_linear_model_is_attacked_exactly():
    images, labels = np.full((2, 2, 2, 1), 0.5, np.float32), np.array([0, 1])
    expected = images + np.array([-0.25, 0.25], np.float32)[:, None, None, None]
    np.testing.assert_allclose(apgd(Plain(), images, labels, eps=0.25, steps=10), expected)


def test_not_weaker_than_pgd_and_restarts_only_add(compressed, target, some):
    def wrong(images):
        logits = golden.run(compressed.network, encode(images, compressed.network), keep=False).logits[-1]
        return logits.argmax(axis=1) != some.labels

    plain = wrong(pgd(target, some.images, some.labels, eps=0.05, steps=40))
    automatic = wrong(apgd(target, some.images, some.labels, eps=0.05, steps=40))
    ratio = wrong(apgd(target, some.images, some.labels, eps=0.05, steps=40, objective=dlr_loss))
    assert automatic.mean() >= plain.mean() - 0.05
    assert ratio.mean() >= plain.mean() - 0.05

    def fooled(restarts):
        images = apgd(target, some.images, some.labels, eps=0.05, steps=10, restarts=restarts)
        with torch.no_grad():
            logits = target(torch.from_numpy(images).permute(0, 3, 1, 2))
        return (margin_loss(logits, torch.from_numpy(some.labels)) > 0).numpy()

    assert (fooled(3) >= fooled(1)).all()


def test_what_fools_is_kept_before_what_loses_most():
    """The cross-entropy of three classes can be higher where the answer still is right."""

    class Curved(torch.nn.Module):
        def forward(self, x):
            t = x[:, 0, 0, 0]
            # At t = 0.5 class 1 just wins; at t = 1 class 0 wins by a hair among many equal ones.
            wins = torch.where(t > 0.75, 0.01, -0.01)
            others = torch.where(t > 0.75, 0.0, -9.0)
            return (torch.stack([wins + 0 * t, 0 * t, others, others, others], dim=1) + 1e-6 * t[:, None],)

    images, labels = np.full((1, 1, 1, 1), 0.6, np.float32), np.array([0])
    found = apgd(Curved(), images, labels, eps=0.4, steps=30)
    with torch.no_grad():
        at = {t: final_loss(Curved()(torch.full((1, 1, 1, 1), t)), torch.tensor([0])).item() for t in (0.6, 0.9)}
    assert at[0.9] > at[0.6]
    assert found[0, 0, 0, 0] <= 0.75


class Told(torch.nn.Module):
    """Loses what it was told to, whatever the image, and its gradient turns round with every call."""

    def __init__(self, losses: Iterator[int]):
        super().__init__()
        self.losses, self.pixels = losses, []

    def forward(self, x):
        self.pixels.append(x[0, 0, 0, 0].item())
        slope = x.sum(dim=(1, 2, 3)) * (-1) ** len(self.pixels)
        loss = next(self.losses) + slope - slope.detach()
        return (torch.stack([-loss, 0 * loss], dim=1),)

    def movements(self, eps: float) -> np.ndarray:
        """How far each of 100 steps goes, in ``eps``."""
        apgd(self, np.full((1, 1, 1, 1), 0.5, np.float32), np.array([0]), eps=eps, steps=100)
        return np.abs(np.diff(self.pixels)) / eps


def test_steps_stay_as_long_as_they_are_while_all_of_them_pay():
    assert Told(count()).movements(0.25)[-10:].min() > 0.8


def test_steps_that_pay_are_halved_where_the_best_was_long_ago():
    """Nine of ten rise, but to the same height each time: halved at every second review from the second on, at 41."""
    movements = Told(cycle(range(10))).movements(0.25)
    assert movements[30:40].min() > 0.8
    assert movements[90:93].max() < 0.2


def test_progress_and_wrong_requests(target, some):
    reports = []
    apgd(target, some.images, some.labels, eps=0.1, steps=2, restarts=2, progress=lambda *args: reports.append(args))
    assert reports == [(1, 2, "APGD"), (2, 2, "APGD")]
    for name in ("steps", "restarts", "draws"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            apgd(target, some.images, some.labels, eps=0.1, **{name: 0})
    with pytest.raises(ValueError, match=r"eps must be in 0\.\.1, not -1"):
        apgd(target, some.images, some.labels, eps=-1)
