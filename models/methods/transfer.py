"""Attacks that are made on one network and tried on another, as GAP's are (arXiv 2206.07406, published code)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Transfer", "transfer"]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What an attack on a surrogate does, all in 0..1.

    Parameters
    ----------
    clean : float
        Accuracy of the target on images as they are.
    target, surrogate : float
        Accuracies on the images that the attack made on the surrogate.
    both : float
        Share of these that both networks answer right.
    """

    clean: float
    target: float
    surrogate: float
    both: float


def transfer(
    target: Callable[[np.ndarray], np.ndarray],
    surrogate: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    attacked: np.ndarray,
    labels: np.ndarray,
) -> Transfer:
    """Accuracy of a network under an attack that was made on another one.

    Parameters
    ----------
    target, surrogate : function
        Of images, their classes (N,): of a float network or of the integers of the golden model.
    images, attacked : array of float32, (N, height, width, channels)
        As they were, and as an attack on the surrogate left them.
    labels : array of int, (N,)

    Raises
    ------
    ValueError
        When the arrays don't belong together.
    """
    if images.shape != attacked.shape or labels.shape != images.shape[:1]:
        raise ValueError(
            f"images, attacked images and labels must belong together, "
            f"not {images.shape}, {attacked.shape} and {labels.shape}"
        )
    hit, answered = target(attacked) == labels, surrogate(attacked) == labels
    return Transfer(
        clean=float((target(images) == labels).mean()),
        target=float(hit.mean()),
        surrogate=float(answered.mean()),
        both=float((hit & answered).mean()),
    )
