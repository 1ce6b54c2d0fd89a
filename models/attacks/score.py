"""How well an image attacks, asked of the integer network itself: no gradient, so none that could be masked."""

from collections.abc import Callable

import numpy as np

from hw.network.network import Network
from models.compression.quantize import encode
from models.integer import golden

__all__ = ["Score", "integer_score", "margins"]

#: Of float32 images (N, height, width, channels) and labels (N,), one number an image, to be maximised; an attack has
#: succeeded where it is positive.
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Largest wrong logit less the right one: float64 (N,). Of equal logits the first is the answer, so a wrong one
    that only ties counts as half a step ahead if it comes first, and half a step behind if it comes later.

    Parameters
    ----------
    logits : array of int, (N, classes)
    labels : array of int, (N,)
    """
    rows = np.arange(len(labels))
    others = logits.astype(np.float64)
    own = others[rows, labels].copy()
    others[rows, labels] = -np.inf
    best = others.argmax(axis=1)
    return others[rows, best] - own + np.where(best < labels, 0.5, -0.5)


def integer_score(network: Network, *, head: int | None = None) -> Score:
    """The margin of a wrong answer on the accelerator's integers (:mod:`models.integer.golden`), in steps of the
    logits.

    Parameters
    ----------
    network : Network
    head : int or None
        Of which exit; None means the one that answers: where its margin says so, an image leaves early, and another
        head decides than for its neighbour.

    Raises
    ------
    ValueError
        When there is no such exit.
    """
    if head is not None and not -len(network.exits) <= head < len(network.exits):
        raise ValueError(f"head must be one of {network.name}'s {len(network.exits)} exits, not {head}")

    def score(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        result = golden.run(network, encode(images, network), keep=False)
        logits = np.stack(result.logits, axis=1)
        chosen = result.exit_index if head is None else np.full(len(images), head)
        return margins(logits[np.arange(len(images)), chosen], labels)

    return score
