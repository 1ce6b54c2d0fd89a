"""Attacks on a network whose heads watch each other: wrong, and with heads that agree.

Both keep, of all images visited that fool the final head, the one with the lowest detector score: the distance of the
heads' softmaxes (:func:`confusion`). A detector's worth is how many of those stay unflagged.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.attacks.ball import Ball, attacked, check
from models.attacks.objectives import margin_loss
from models.datasets.sources import Progress

__all__ = ["confusion", "consistent", "orthogonal"]


def confusion(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """L1 distance of the first and the last head's softmaxes, 0..2, one number an image."""
    return (logits[0].softmax(dim=1) - logits[-1].softmax(dim=1)).abs().sum(dim=1)


class _Stealthiest:
    """Of each image the visited one that fools with the lowest score; before any fools, the one with the largest
    margin."""

    def __init__(self, ball: Ball) -> None:
        self.labels, self.best = ball.labels, ball.clean.clone()
        self.score = torch.full((len(ball),), torch.inf)
        self.margin = torch.full((len(ball),), -torch.inf)

    def visit(self, x: torch.Tensor, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """Take note of images; returns which of them fool."""
        margin, score = margin_loss(logits, self.labels).detach(), confusion(logits).detach()
        fools = margin > 0
        better = torch.where(fools, score < self.score, torch.isinf(self.score) & (margin > self.margin))
        self.best[better] = x.detach()[better]
        self.score = torch.where(better & fools, score, self.score)
        self.margin = torch.maximum(self.margin, margin)
        return fools


def consistent(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    steps: int = 100,
    step: float | None = None,
    restarts: int = 5,
    rounds: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
    text: str = "consistent",
) -> np.ndarray:
    """Adaptive targeted attack: both heads shall give the same wrong class.

    It minimises ``CE(final, t) + CE(branch, t) + w |p_final - p_branch|_1`` with t the likeliest wrong class of the
    clean image; w is searched per image: from 1, tenfold after a round that fooled, a tenth after one that didn't,
    by halves of the exponent once both have happened.

    Parameters
    ----------
    model : Module
        With two heads or more; the first and the last are looked at.
    images : array of float, (N, height, width, channels)
        In 0..1.
    labels : array of int64, (N,)
    eps : float
        Largest change of a pixel, in 0..1.
    steps : int
    step : float or None
        Change of a pixel in one step; None takes ``2.5 * eps / steps``.
    restarts : int
        Random starts, each with all rounds.
    rounds : int
        Values of w tried.
    seed : int
    progress : function or None
        Called with rounds done, rounds in all and the text.

    Returns
    -------
    array of float32, (N, height, width, channels)
        The image with the lowest detector score among all visited that fool, in 0..1, at most eps away.

    Raises
    ------
    ValueError
        When a parameter is impossible.
    """
    check(images, labels, eps, steps=steps, restarts=restarts, rounds=rounds)
    size = 2.5 * eps / steps if step is None else step

    def attack(ball: Ball, generator: torch.Generator, tick: Callable[[], None]) -> torch.Tensor:
        found = _Stealthiest(ball)
        with torch.no_grad():
            target = model(ball.clean)[-1].scatter(1, ball.labels[:, None], -torch.inf).argmax(dim=1)
        for _ in range(restarts):
            low, high = torch.full((len(ball),), -torch.inf), torch.full((len(ball),), torch.inf)
            exponent = torch.zeros(len(ball))  # of w, base 10
            for _ in range(rounds):
                fooled = _walk(model, ball, ball.start(generator), target, 10**exponent, steps, size, found)
                low = torch.where(fooled, torch.maximum(low, exponent), low)
                high = torch.where(fooled, high, torch.minimum(high, exponent))
                both = torch.isfinite(low) & torch.isfinite(high)
                exponent = torch.where(both, (low + high) / 2, torch.where(fooled, exponent + 1, exponent - 1))
                tick()
        return found.best

    return attacked(
        model, images, labels, eps=eps, attack=attack, ticks=restarts * rounds, seed=seed, progress=progress, text=text
    )


def _walk(
    model: nn.Module,
    ball: Ball,
    x: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    steps: int,
    size: float,
    found: _Stealthiest,
) -> torch.Tensor:
    """One round of the consistent attack; returns which images it fooled with."""
    fooled = torch.zeros(len(ball), dtype=torch.bool)
    for count in range(steps + 1):
        x = x.detach().requires_grad_()
        logits = model(x)
        fooled |= found.visit(x, logits)
        if count < steps:
            loss = sum(F.cross_entropy(head, target, reduction="none") for head in (logits[0], logits[-1]))
            (gradient,) = torch.autograd.grad((loss + weight * confusion(logits)).sum(), x)
            x = ball.project(x - size * gradient.sign())
    return fooled


def orthogonal(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    steps: int = 100,
    step: float = 1 / 255,
    seed: int = 0,
    progress: Progress | None = None,
    text: str = "orthogonal",
) -> np.ndarray:
    """Orthogonal PGD (Bryniarski et al. 2022, arXiv 2106.15023): an image that doesn't fool yet moves along the
    classifier's gradient made orthogonal to the detector's, one that does the other way round, so that neither step
    undoes the other's work.

    Parameters, results and errors of :func:`consistent`, without its rounds; the published step is 1/255, for 100 to
    1000 steps.
    """
    check(images, labels, eps, steps=steps)

    def attack(ball: Ball, generator: torch.Generator, tick: Callable[[], None]) -> torch.Tensor:
        found, x = _Stealthiest(ball), ball.start(generator)
        for count in range(steps + 1):
            x = x.detach().requires_grad_()
            logits = model(x)
            fools = found.visit(x, logits)
            tick()
            if count < steps:
                (wrong,) = torch.autograd.grad(margin_loss(logits, ball.labels).sum(), x, retain_graph=True)
                (quiet,) = torch.autograd.grad(-confusion(logits).sum(), x)
                move = torch.where(fools[:, None, None, None], _without(quiet, wrong), _without(wrong, quiet))
                x = ball.project(x + step * move.sign())
        return found.best

    return attacked(
        model, images, labels, eps=eps, attack=attack, ticks=steps + 1, seed=seed, progress=progress, text=text
    )


def _without(gradient: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The part of a gradient that is orthogonal to another one, image by image."""
    axes = (1, 2, 3)
    share = (gradient * other).sum(dim=axes, keepdim=True) / (other**2).sum(dim=axes, keepdim=True).clamp_min(1e-30)
    return gradient - share * other
