"""PGD whose gradient is estimated from scores at noisy copies of an image: for networks whose own gradient misleads."""

from collections.abc import Sequence

import numpy as np

from models.attacks.ball import check
from models.attacks.score import Score
from models.datasets.sources import Progress

__all__ = ["evolution"]

_BATCH = 4096  # noisy images at once


def evolution(
    score: Score,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    samples: Sequence[int] = (100,) * 20 + (1000,) * 20,
    step: float = 0.01,
    sigma: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    text: str = "evolution",
) -> np.ndarray:
    """Sign steps along a gradient estimated by evolution strategies, as broke k-winners-take-all.

    Tramer et al. 2020 (arXiv 2002.08347) use antithetic Gaussian noise of 8/255, a logit margin, steps of 0.01 and 100
    samples for 20 steps, 1000 for 20 and 20,000 for 60; the default leaves out the last.

    Parameters
    ----------
    score : function
        See :data:`models.attacks.score.Score`: positive is a success; images that succeeded are left alone.
    images : array of float, (N, height, width, channels)
        In 0..1.
    labels : array of int64, (N,)
    eps : float
        Largest change of a pixel, in 0..1.
    samples : sequence of int
        Scores asked for in each step, even numbers: half of them with noise, half with its negative.
    step : float
        Change of a pixel in one step.
    sigma : float or None
        Standard deviation of the noise; None takes eps.
    seed : int
    progress : function or None
        Called with steps done, steps in all and the text.

    Returns
    -------
    array of float32, (N, height, width, channels)
        For every image the one with the highest score among all steps, in 0..1, at most eps away.

    Raises
    ------
    ValueError
        When a parameter is impossible.
    """
    check(images, labels, eps, steps=len(samples))
    spread = eps if sigma is None else sigma
    if any(count < 2 or count % 2 for count in samples):
        raise ValueError(f"samples must be even numbers of at least 2, not {tuple(samples)}")
    for name, size in (("step", step), ("sigma", spread)):
        if not size > 0:
            raise ValueError(f"{name} must be positive, not {size}")
    clean = images.astype(np.float32)
    low, high = (clean - np.float32(eps)).clip(0.0, 1.0), (clean + np.float32(eps)).clip(0.0, 1.0)
    rng = np.random.default_rng(seed)
    x, best = clean.copy(), clean.copy()
    value = score(clean, labels) if len(clean) else np.empty(0)
    for done, count in enumerate(samples, 1):
        for n in np.flatnonzero(value <= 0):
            direction = np.sign(_estimate(score, x[n], labels[n], count, spread, rng))
            x[n] = (x[n] + np.float32(step) * direction).clip(low[n], high[n])
        left = np.flatnonzero(value <= 0)
        if left.size:
            found = score(x[left], labels[left])
            better = found > value[left]
            best[left[better]], value[left[better]] = x[left[better]], found[better]
        if progress:
            progress(done, len(samples), text)
    return best


def _estimate(
    score: Score, image: np.ndarray, label: np.int64, count: int, spread: float, rng: np.random.Generator
) -> np.ndarray:
    """The gradient at one image, up to a factor."""
    total = np.zeros(image.shape, np.float64)
    for first in range(0, count // 2, _BATCH // 2):
        noise = rng.standard_normal((min(_BATCH // 2, count // 2 - first), *image.shape), np.float32)
        copies = np.concatenate([image + spread * noise, image - spread * noise]).clip(0.0, 1.0).astype(np.float32)
        found = score(copies, np.full(len(copies), label))
        total += np.tensordot(found[: len(noise)] - found[len(noise) :], noise, 1)
    return total
