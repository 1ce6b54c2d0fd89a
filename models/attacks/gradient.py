"""Attacks by steps along the sign of a gradient."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.attacks.ball import Ball, attacked, balls, check
from models.attacks.objectives import Objective, final_loss, margin_loss, slowness
from models.datasets.sources import Progress
from models.integer.surrogate import Surrogate
from models.networks.residual_net import to_torch

__all__ = ["Slope", "fgsm", "max_average", "pgd", "slope", "slowdown"]


class Slope(NamedTuple):
    """What is known of an objective at some images.

    Attributes
    ----------
    value : tensor (N,)
    gradient : tensor (N, channels, height, width)
    fools : bool tensor (N,)
        Whether the final head is wrong.
    """

    value: torch.Tensor
    gradient: torch.Tensor
    fools: torch.Tensor


def slope(model: nn.Module, x: torch.Tensor, y: torch.Tensor, objective: Objective, draws: int = 1) -> Slope:
    """The objective at some images and its gradient, both averaged over so many passes of the model.

    More than one draw is expectation over transformation (Athalye et al. 2018, arXiv 1707.07397): what a network that
    draws noise has to be attacked with.
    """
    x = x.detach().requires_grad_()
    passes = [model(x) for _ in range(draws)]
    value = torch.stack([objective(logits, y) for logits in passes]).mean(dim=0)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    final = torch.stack([logits[-1].detach() for logits in passes]).mean(dim=0)
    return Slope(value.detach(), gradient, margin_loss((final,), y) > 0)


def pgd(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    steps: int = 20,
    step: float | None = None,
    restarts: int = 1,
    seed: int = 0,
    random_start: bool = True,
    objective: Objective = final_loss,
    draws: int = 1,
    progress: Progress | None = None,
    text: str = "PGD",
) -> np.ndarray:
    """Projected gradient descent in the L-infinity ball (Madry et al. 2018, arXiv 1706.06083).

    Parameters
    ----------
    images : array of float, (N, height, width, channels)
        In 0..1.
    labels : array of int64, (N,)
    eps : float
        Largest change of a pixel, in 0..1.
    steps : int
    step : float or None
        Change of a pixel in one step; None takes ``2.5 * eps / steps``, which can reach and cross the ball.
    restarts : int
        Starts; of each image the best try counts.
    seed : int
        Of the random starts.
    random_start : bool
        Begin anywhere in the ball, not at the image.
    objective : function
        What is maximised.
    draws : int
        Passes that a gradient is averaged over; more than 1 only for models that draw noise.
    progress : function or None
        Called with steps done, steps in all and the text.

    Returns
    -------
    array of float32, (N, height, width, channels)
        For every image the one with the highest objective among all visited, in 0..1, at most eps away.

    Raises
    ------
    ValueError
        When a parameter is impossible.
    """
    check(images, labels, eps, steps=steps, restarts=restarts, draws=draws)
    size = 2.5 * eps / steps if step is None else step
    if not size >= 0:
        raise ValueError(f"step must not be negative, not {size}")

    def attack(ball: Ball, generator: torch.Generator, tick: Callable[[], None]) -> torch.Tensor:
        best = ball.clean.clone()
        best_value = torch.full((len(ball),), -torch.inf)
        for _ in range(restarts):
            x = ball.start(generator) if random_start else ball.clean
            for count in range(steps + 1):
                value, gradient, _ = slope(model, x, ball.labels, objective, draws)
                better = value > best_value
                best[better], best_value[better] = x[better], value[better]
                if count < steps:
                    x = ball.project(x + size * gradient.sign())
                tick()
        return best

    return attacked(
        model, images, labels, eps=eps, attack=attack, ticks=restarts * (steps + 1), seed=seed,
        progress=progress, text=text,
    )  # fmt: skip


def fgsm(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    objective: Objective = final_loss,
    progress: Progress | None = None,
    text: str = "FGSM",
) -> np.ndarray:
    """One step of size eps along the sign of the gradient (Goodfellow et al. 2015, arXiv 1412.6572).

    Parameters and errors are those of :func:`pgd`. Returns float32 images in 0..1, at most eps away.
    """
    check(images, labels, eps)

    def attack(ball: Ball, _: torch.Generator, tick: Callable[[], None]) -> torch.Tensor:
        gradient = slope(model, ball.clean, ball.labels, objective).gradient
        tick()
        return (ball.clean + eps * gradient.sign()).clamp(0.0, 1.0)

    return attacked(model, images, labels, eps=eps, attack=attack, progress=progress, text=text)


def slowdown(
    model: nn.Module,
    images: np.ndarray,
    *,
    eps: float,
    steps: int = 30,
    restarts: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    text: str = "slowdown",
) -> np.ndarray:
    """Make an image take as long as possible; right or wrong answers don't matter to this attacker.

    With early exits the branches become undecided, so that images pass them
    (:func:`models.attacks.objectives.slowness`). Without any, more activations become nonzero, for which the
    accelerator makes more products: a sponge (Shumailov et al. 2021, arXiv 2006.03463). :func:`pgd` with such an
    objective; its parameters, results and errors.

    Raises
    ------
    ValueError
        Also when the model has no early exit, and its products aren't known because it is no :class:`Surrogate`.
    """
    with torch.no_grad():
        exits = len(model(to_torch(images[:1].astype(np.float32)))) if len(images) else 2
    objective: Objective = slowness
    if exits < 2:
        if not isinstance(model, Surrogate):
            raise ValueError(
                "a slowdown attack needs a model with an early exit, or the Surrogate of an integer network, "
                "whose products it counts"
            )
        model, objective = _Busy(model), _busyness
    labels = np.zeros(len(images), dtype=np.int64)
    return pgd(
        model, images, labels, eps=eps, steps=steps, restarts=restarts, seed=seed,
        objective=objective, progress=progress, text=text,
    )  # fmt: skip


class _Busy(nn.Module):
    """An integer network's twin whose first output is the number of its products."""

    def __init__(self, twin: Surrogate) -> None:
        super().__init__()
        self.twin = twin

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        products, logits = self.twin.products(x)
        return products[:, None], *logits


def _busyness(outputs: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    return outputs[0][:, 0]


def max_average(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    steps: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
    text: str = "max-average",
) -> np.ndarray:
    """One PGD for each head; of each image's candidates the one with the largest loss summed over all heads
    (the "max-average" form of Hu et al. 2020, Triple Wins, arXiv 2002.10025).

    Parameters, results and errors of :func:`pgd`.
    """
    check(images, labels, eps, steps=steps)
    model.eval()
    with torch.no_grad():
        heads = len(model(to_torch(images[:1].astype(np.float32)))) if len(images) else 1
    best, best_value = images.astype(np.float32), np.full(len(images), -math.inf)
    for head in range(heads):
        tried = pgd(
            model, images, labels, eps=eps, steps=steps, seed=seed,
            objective=_loss_of(head), progress=progress, text=f"{text}: head {head + 1}/{heads}",
        )  # fmt: skip
        value = _summed(model, tried, labels)
        better = value > best_value
        best[better], best_value[better] = tried[better], value[better]
    return best


def _loss_of(head: int) -> Objective:
    def loss(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits[head], labels, reduction="none")

    return loss


def _summed(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy summed over all heads, (N,)."""
    found = []
    for ball in balls(images, labels, 0.0):
        with torch.no_grad():
            losses = [F.cross_entropy(head, ball.labels, reduction="none") for head in model(ball.clean)]
        found.append(torch.stack(losses).sum(dim=0).numpy())
    return np.concatenate(found) if found else np.empty(0)
