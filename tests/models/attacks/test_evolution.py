import numpy as np
import pytest

from models.attacks import evolution, integer_score, pgd
from tests.models.attacks.test_square import summed


def staircase(images, labels):
    """Constant almost everywhere: no gradient leads anywhere, noise sees the slope."""
    return np.floor(summed(images, labels) * 4) / 4 + 0.001 - 0.25


def test_a_staircase_is_climbed():
    images, labels = np.full((4, 4, 4, 1), 0.5, np.float32), np.array([0, 1, 0, 1])
    found = evolution(staircase, images, labels, eps=0.1, samples=(40,) * 12)
    assert (staircase(images, labels) < 0).all()
    assert (staircase(found, labels) > 0).all()
    assert np.abs(found - images).max() <= 0.1 + 1e-6


def test_images_stay_in_the_ball_and_seeds_repeat(compressed, some):
    score, few, options = integer_score(compressed.network), some.take(8), {"eps": 0.2, "step": 0.05}
    images = evolution(score, few.images, few.labels, samples=(40,) * 6, **options)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert np.abs(images - few.images).max() <= 0.2 + 1e-6
    np.testing.assert_array_equal(images, evolution(score, few.images, few.labels, samples=(40,) * 6, **options))
    assert (images != evolution(score, few.images, few.labels, samples=(40,) * 6, seed=1, **options)).any()
    assert (score(images, few.labels) >= score(few.images, few.labels)).all()
    assert evolution(score, few.images[:0], few.labels[:0], **options, samples=(2,)).shape == (0, 8, 8, 1)


def test_weaker_than_gradients(compressed, target, some):
    score, few = integer_score(compressed.network), some.take(20)
    blind = score(evolution(score, few.images, few.labels, eps=0.1, samples=(30,) * 8), few.labels)
    white = score(pgd(target, few.images, few.labels, eps=0.1), few.labels)
    assert score(few.images, few.labels).mean() < blind.mean() < white.mean()


def test_progress_and_wrong_requests(some):
    reports = []
    few = some.take(2)
    evolution(summed, few.images, few.labels, eps=0.1, samples=(2, 2), progress=lambda *args: reports.append(args))
    assert reports == [(1, 2, "evolution"), (2, 2, "evolution")]
    with pytest.raises(ValueError, match=r"samples must be even numbers of at least 2, not \(3,\)"):
        evolution(summed, few.images, few.labels, eps=0.1, samples=(3,))
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        evolution(summed, few.images, few.labels, eps=0.1, samples=())
    with pytest.raises(ValueError, match="step must be positive, not 0"):
        evolution(summed, few.images, few.labels, eps=0.1, step=0)
    with pytest.raises(ValueError, match="sigma must be positive, not 0"):
        evolution(summed, few.images, few.labels, eps=0.1, sigma=0)
