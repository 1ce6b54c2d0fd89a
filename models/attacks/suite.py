"""All attacks on one integer network, and the worst of them image by image: what may be called its robustness."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from hw.network.network import Network
from models.attacks.apgd import apgd
from models.attacks.evolution import evolution
from models.attacks.gradient import pgd
from models.attacks.objectives import dlr_loss, joint_loss, margin_loss
from models.attacks.score import integer_score
from models.attacks.square import square
from models.compression.quantize import encode
from models.datasets.sources import Progress
from models.datasets.splits import Split
from models.integer import golden
from models.integer.surrogate import Surrogate

__all__ = ["Strength", "robustness"]


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much the attacks may try.

    Parameters
    ----------
    steps : int
        Of PGD and APGD.
    restarts : int
        Of PGD.
    queries : int
        Of Square.
    samples : tuple of int
        Of the evolution strategies, by step; none leaves them out.

    Raises
    ------
    ValueError
        When a number isn't positive.
    """

    steps: int = 20
    restarts: int = 1
    queries: int = 500
    samples: tuple[int, ...] = (100,) * 10

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


def robustness(
    network: Network,
    split: Split,
    *,
    eps: float,
    parent: Network | None = None,
    strength: Strength | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Accuracies of the integers' answers (exits included), clean and under every attack.

    White-box attacks run on the float twin, through each gradient there is past activations that aren't multiplied
    (:data:`models.integer.surrogate.GRADIENTS`); gradient-free ones ask the integers; ``transfer`` comes from
    ``parent``.

    Parameters
    ----------
    network : Network
    split : Split
        At least one image.
    eps : float
        Largest change of a pixel, in 0..1.
    parent : Network or None
        The same without what masks gradients, say without winners.
    strength : Strength or None
        None takes the defaults.
    seed : int
    progress : function or None
        Called with attacks done, attacks in all and a text.

    Returns
    -------
    dict of str to float
        In 0..1: ``clean``, one for each attack, and ``worst``: the share of images that withstand all of them.

    Raises
    ------
    ValueError
        When there is no image or eps is impossible.
    """
    if not len(split):
        raise ValueError("robustness needs at least 1 image, not 0")
    chosen = strength or Strength()
    images, labels = split.images, split.labels
    score = integer_score(network)
    plain = Surrogate(network)
    masked = any(getattr(layer, "threshold", 1) > 1 or getattr(layer, "select", None) for layer in network.layers)
    tried: dict[str, Callable[[], np.ndarray]] = {
        "pgd": lambda: pgd(
            plain, images, labels, eps=eps, steps=chosen.steps, restarts=chosen.restarts, seed=seed
        ),
        "apgd": lambda: apgd(plain, images, labels, eps=eps, steps=chosen.steps, seed=seed),
        "apgd_dlr": lambda: apgd(
            plain, images, labels, eps=eps, steps=chosen.steps, seed=seed,
            objective=dlr_loss if network.classes > 2 else margin_loss,
        ),
        "square": lambda: square(score, images, labels, eps=eps, queries=chosen.queries, seed=seed),
    }  # fmt: skip
    if len(network.exits) > 1:
        tried["pgd_joint"] = lambda: pgd(
            plain, images, labels, eps=eps, steps=chosen.steps, seed=seed, objective=joint_loss
        )
    for gradient in ("winners", "soft") if masked else ():
        tried[f"pgd_{gradient}"] = partial(
            pgd, Surrogate(network, gradient), images, labels, eps=eps, steps=chosen.steps, seed=seed
        )
    if chosen.samples:
        tried["evolution"] = lambda: evolution(score, images, labels, eps=eps, samples=chosen.samples, seed=seed)
    if parent is not None:
        tried["transfer"] = lambda: pgd(Surrogate(parent), images, labels, eps=eps, steps=chosen.steps, seed=seed)
    withstood = _right(network, images, labels)
    found = {"clean": float(withstood.mean())}
    for done, (name, run) in enumerate(tried.items(), 1):
        right = _right(network, run(), labels)
        found[name] = float(right.mean())
        withstood &= right
        if progress:
            progress(done, len(tried), name)
    return found | {"worst": float(withstood.mean())}


def _right(network: Network, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which images the network answers rightly, bool (N,)."""
    result: np.ndarray = golden.run(network, encode(images, network), keep=False).classes == labels
    return result
