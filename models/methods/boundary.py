"""How far images are from where a network changes its mind: distances in its decision space, and what they tell.

The probe of feedback learning (Song, Wang, Li 2019, arXiv 1909.05443). Only its abstract was at hand, which names the
decision space, criteria of distance and the inequality between classes: all formulas are a reconstruction.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["DIRECTIONS", "BoundaryDistances", "Probe", "class_means", "directions", "distances", "probe"]

#: Where to look for the boundary: along the sign of the loss's gradient, at random, towards another class's mean image.
DIRECTIONS = ("gradient", "random", "class")

_BATCH = 512


def _unit(values: torch.Tensor) -> torch.Tensor:
    """Directions (N, ...) with a root mean square of 1 each, or zero."""
    size = values.flatten(1).square().mean(dim=1).sqrt().clamp_min(1e-12)
    return values / size.reshape(-1, *(1,) * (values.dim() - 1))


def class_means(images: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Mean image of every class, (classes, channels, height, width); zero for a class without images."""
    sums = torch.zeros(classes, *images.shape[1:]).index_add_(0, labels, images)
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    return sums / counts[:, None, None, None]


def directions(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    kind: str,
    *,
    means: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """A direction for each image, of its shape, with a root mean square of 1: a step of t moves pixels by t on average.

    Parameters
    ----------
    model : Module
        In evaluation mode.
    images : tensor (N, channels, height, width)
        In 0..1.
    labels : tensor of int64 (N,)
    kind : str
        One of :data:`DIRECTIONS`.
    means : tensor (classes, channels, height, width)
        See :func:`class_means`.
    generator : torch.Generator

    Raises
    ------
    ValueError
        When there is no such kind.
    """
    if kind == "gradient":
        x = images.detach().requires_grad_()
        (found,) = torch.autograd.grad(F.cross_entropy(model(x)[-1], labels, reduction="sum"), x)
        return _unit(found.sign())
    if kind == "random":
        return _unit(torch.randn(images.shape, generator=generator))
    if kind == "class":
        other = (labels + torch.randint(1, len(means), labels.shape, generator=generator)) % len(means)
        return _unit(means[other] - images)
    raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, not {kind!r}")


def distances(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    along: torch.Tensor,
    *,
    farthest: float = 1.0,
    steps: int = 8,
) -> torch.Tensor:
    """How far each image can go along its direction until the final head answers something else than its label.

    The step doubles from ``farthest / 32`` until the answer changes, then bisection narrows it down. Pixels stay in
    0..1 on the way. A boundary that is crossed and crossed back within one doubling isn't seen.

    Parameters
    ----------
    model : Module
        In evaluation mode.
    images, along : tensors (N, channels, height, width)
    labels : tensor of int64 (N,)
    farthest : float
        Largest distance looked at; positive.
    steps : int
        Of the bisection: the result is off by at most ``farthest / 2**(steps + 1)``.

    Returns
    -------
    tensor (N,)
        0 where the answer is wrong from the start; ``farthest`` where nothing changes up to there.

    Raises
    ------
    ValueError
        When the farthest distance isn't positive or there is no step.
    """
    if not farthest > 0:
        raise ValueError(f"the farthest distance must be positive, not {farthest}")
    if steps < 1:
        raise ValueError(f"steps of a bisection must be at least 1, not {steps}")

    def wrong(reach: torch.Tensor) -> torch.Tensor:
        moved = (images + reach[:, None, None, None] * along).clamp(0.0, 1.0)
        with torch.no_grad():
            answers = [model(part)[-1].argmax(dim=1) for part in moved.split(_BATCH)]
        return torch.cat(answers) != labels

    low, high = torch.zeros(len(images)), torch.full((len(images),), float(farthest))
    found = wrong(low)
    at_once = found.clone()
    for doubling in range(5, -1, -1):
        reach = torch.full_like(low, farthest / 2**doubling)
        crossed = wrong(reach) & ~found
        high[crossed] = reach[crossed]
        found |= crossed
        low[~found] = reach[~found]
    for _ in range(steps):
        middle = (low + high) / 2
        beyond = wrong(middle)
        high = torch.where(beyond & found, middle, high)
        low = torch.where(~beyond & found, middle, low)
    result = torch.where(found, high, torch.full_like(high, float(farthest)))
    return torch.where(at_once, torch.zeros_like(result), result)


@dataclass(frozen=True, kw_only=True)
class BoundaryDistances:
    """How well one model knows its classes: arrays (classes,) of distances in pixel units, root mean square.

    Attributes
    ----------
    adversarial : array
        Mean distance along the gradient's sign.
    random : array
        Mean distance at random.
    least : array
        5-percentile of the distances along the gradient's sign.
    """

    adversarial: np.ndarray
    random: np.ndarray
    least: np.ndarray

    @property
    def score(self) -> float:
        """Mean over the classes of the adversarial distance."""
        return float(self.adversarial.mean())

    @property
    def inequality(self) -> float:
        """(largest - smallest) / mean of the adversarial distances of the classes; 0 when all are equal."""
        return float(np.ptp(self.adversarial) / self.adversarial.mean()) if self.adversarial.any() else 0.0


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How distances are measured: random directions an image, the largest distance looked at, bisection steps."""

    draws: int = 4
    farthest: float = 1.0
    steps: int = 8


def probe(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    classes: int,
    settings: Probe | None = None,
    seed: int = 0,
) -> BoundaryDistances:
    """Distances of a network's classes.

    Parameters
    ----------
    model : Module
        Put into evaluation mode.
    images : tensor (N, channels, height, width)
        In 0..1, at least one of every class.
    labels : tensor of int64 (N,)
    classes : int
    settings : Probe or None
    seed : int
        Of random directions.

    Raises
    ------
    ValueError
        When a class has no image.
    """
    counts = torch.bincount(labels, minlength=classes)
    if (counts == 0).any():
        raise ValueError(f"class {int((counts == 0).nonzero()[0])} must have an image to measure distances of")
    chosen = settings or Probe()
    model.eval()
    generator, means = torch.Generator().manual_seed(seed), class_means(images, labels, classes)

    def measured(kind: str) -> torch.Tensor:
        along = directions(model, images, labels, kind, means=means, generator=generator)
        return distances(model, images, labels, along, farthest=chosen.farthest, steps=chosen.steps)

    adversarial = measured("gradient").numpy()
    at_random = torch.stack([measured("random") for _ in range(chosen.draws)]).mean(dim=0).numpy()
    members = [labels.numpy() == label for label in range(classes)]
    return BoundaryDistances(
        adversarial=np.array([adversarial[rows].mean() for rows in members]),
        random=np.array([at_random[rows].mean() for rows in members]),
        least=np.array([np.quantile(adversarial[rows], 0.05) for rows in members]),
    )
