import numpy as np
import pytest

from models.attacks import integer_score, pgd, square
from models.attacks.square import share_of_pixels


def summed(images, labels):
    """Success is a pixel sum below the middle, or above it, by label."""
    total = images.sum(axis=(1, 2, 3)) - images[0].size / 2
    return np.where(labels == 0, -total, total)


def test_the_squares_shrink_as_published():
    shares = [share_of_pixels(0.8, query, 10_000) for query in (0, 10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)]
    assert shares == [0.8, 0.8, *(0.8 / 2**n for n in range(1, 10))]
    assert share_of_pixels(0.8, 51, 5000) == 0.8 / 4


def test_images_stay_in_the_ball_and_seeds_repeat(compressed, some):
    score, options = integer_score(compressed.network), {"eps": 0.07, "queries": 20}
    images = square(score, some.images, some.labels, **options)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert np.abs(images - some.images).max() == pytest.approx(0.07, abs=1e-6)
    np.testing.assert_array_equal(images, square(score, some.images, some.labels, **options))
    assert (images != square(score, some.images, some.labels, seed=1, **options)).any()
    assert square(score, some.images[:0], some.labels[:0], **options).shape == (0, 8, 8, 1)


def test_queries_only_help_and_do_less_than_gradients(compressed, target, some):
    score = integer_score(compressed.network)
    few, more = (
        score(square(score, some.images, some.labels, eps=0.1, queries=queries), some.labels) for queries in (1, 150)
    )
    assert (more > 0).mean() > (few > 0).mean() + 0.05
    white = score(pgd(target, some.images, some.labels, eps=0.1, steps=20), some.labels)
    assert (more > 0).mean() < (white > 0).mean()


def test_a_linear_score_is_climbed_to_the_bound():
    # Clean sums lie just inside the ball of what can be reached: nearly every pixel must move the right way.
    images = np.full((6, 6, 6, 3), 0.5, np.float32) + np.array([0.09, -0.09] * 3, np.float32)[:, None, None, None]
    labels = np.array([0, 1] * 3)
    found = square(summed, images, labels, eps=0.1, queries=2000)
    assert (summed(found, labels) > 0).all()


def test_what_succeeded_is_left_alone():
    asked = []

    def score(images, labels):
        asked.append(len(images))
        return np.where(labels == 0, 1.0, -1.0)

    reports = []
    images, labels = np.full((4, 6, 6, 1), 0.5, np.float32), np.array([0, 1, 0, 0])
    square(score, images, labels, eps=0.1, queries=3, progress=lambda *args: reports.append(args))
    assert asked == [4, 1, 1]
    assert reports == [(2, 3, "Square"), (3, 3, "Square")]
    square(score, images, np.zeros(4, np.int64), eps=0.1, queries=3)
    assert asked == [4, 1, 1, 4]


def test_wrong_requests(some):
    with pytest.raises(ValueError, match="queries must be at least 1, not 0"):
        square(summed, some.images, some.labels, eps=0.1, queries=0)
    with pytest.raises(ValueError, match="initial must be a share above 0 and at most 1, not 0"):
        square(summed, some.images, some.labels, eps=0.1, initial=0)
