"""Square attack: random squares of the largest allowed change, kept where they help."""

import math

import numpy as np

from models.attacks.ball import check
from models.attacks.score import Score
from models.datasets.sources import Progress

__all__ = ["share_of_pixels", "square"]

#: Of 10,000 queries, those after which the squares' area is halved.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def share_of_pixels(initial: float, query: int, queries: int) -> float:
    """Share of an image's pixels that a square covers at a query of so many."""
    return initial / 2 ** sum(int(query / queries * 10_000) > halving for halving in _HALVINGS)


def square(
    score: Score,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    queries: int = 1000,
    initial: float = 0.8,
    seed: int = 0,
    progress: Progress | None = None,
    text: str = "Square",
) -> np.ndarray:
    """Square attack in the L-infinity ball (Andriushchenko et al. 2020, arXiv 1912.00049), without gradients.

    It begins with vertical stripes, each channel up or down by eps; then one square per query, at a random position, is
    moved up or down by eps in each channel and kept where the score rises. An image that has succeeded is left alone.

    Parameters
    ----------
    score : function
        See :data:`models.attacks.score.Score`: positive is a success.
    images : array of float, (N, height, width, channels)
        In 0..1.
    labels : array of int64, (N,)
    eps : float
        Largest change of a pixel, in 0..1.
    queries : int
        Scores asked for per image, the stripes' included; 5000 in the standard attack.
    initial : float
        Share of the pixels that the first squares cover, above 0, at most 1; 0.8 in the standard attack (0.05 in the
        paper's own tuning).
    seed : int
    progress : function or None
        Called with queries done, queries in all and the text.

    Returns
    -------
    array of float32, (N, height, width, channels)
        In 0..1, at most eps away.

    Raises
    ------
    ValueError
        When a parameter is impossible.
    """
    check(images, labels, eps, queries=queries)
    if not 0.0 < initial <= 1.0:
        raise ValueError(f"initial must be a share above 0 and at most 1, not {initial}")
    clean = images.astype(np.float32)
    if not len(clean):
        return clean
    rng = np.random.default_rng(seed)
    count, height, width, channels = clean.shape
    low, high = (clean - np.float32(eps)).clip(0.0, 1.0), (clean + np.float32(eps)).clip(0.0, 1.0)
    stripes = rng.choice(np.array([-eps, eps], np.float32), (count, 1, width, channels))
    best = (clean + stripes).clip(low, high)
    value = score(best, labels)
    for query in range(1, queries):
        left = np.flatnonzero(value <= 0)
        if progress:
            progress(query + 1, queries, text)
        if not left.size:
            break
        share = share_of_pixels(initial, query, queries)
        side = min(max(round(math.sqrt(share * height * width)), 1), height - 1, width - 1) or 1
        tried = best[left]
        rows = rng.integers(0, height - side + 1, left.size)
        columns = rng.integers(0, width - side + 1, left.size)
        change = rng.choice(np.array([-eps, eps], np.float32), (left.size, channels))
        for n in range(left.size):
            window = np.s_[n, rows[n] : rows[n] + side, columns[n] : columns[n] + side]
            # From the clean image, not from the last try: a square at the bound can change its sign.
            tried[window] = clean[left[n]][window[1:]] + change[n]
        tried = tried.clip(low[left], high[left])
        found = score(tried, labels[left])
        better = found > value[left]
        best[left[better]], value[left[better]] = tried[better], found[better]
    return best
