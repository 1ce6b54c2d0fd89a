"""Auto-PGD: steps that halve when they stop paying, so that no step size has to be chosen."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from models.attacks.ball import Ball, attacked, check
from models.attacks.gradient import slope
from models.attacks.objectives import Objective, final_loss
from models.datasets.sources import Progress

__all__ = ["apgd", "checkpoints"]

_MOMENTUM = 0.75  # of the step, against 0.25 of the last movement
_RISES = 0.75  # share of steps since the last checkpoint that must have raised the objective
_FOOLS = 1e6  # lifts images that fool above all that don't


def checkpoints(steps: int) -> list[int]:
    """Steps after which the step size is reviewed, as Croce and Hein 2020 place them: shares 0, 0.22, then apart by
    0.03 less each time, 0.06 at least."""
    shares = [0.0, 0.22]
    while shares[-1] < 1.0:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return [math.ceil(share * steps - 1e-9) for share in shares[1:] if share < 1.0]


def apgd(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    seed: int = 0,
    objective: Objective = final_loss,
    draws: int = 1,
    progress: Progress | None = None,
    text: str = "APGD",
) -> np.ndarray:
    """Auto-PGD in the L-infinity ball (Croce and Hein 2020, arXiv 2003.01690): with the cross-entropy of the final
    head APGD-CE, with :func:`models.attacks.objectives.dlr_loss` APGD-DLR.

    The step begins at ``2 * eps`` with momentum; at the :func:`checkpoints` it is halved, and the walk goes back to the
    best image so far, where fewer than three quarters of the steps raised the objective, or neither step nor best value
    changed since the checkpoint before.

    Parameters
    ----------
    images : array of float, (N, height, width, channels)
        In 0..1.
    labels : array of int64, (N,)
    eps : float
        Largest change of a pixel, in 0..1.
    steps : int
        100 in the standard attack.
    restarts : int
        Starts; of each image the best try counts.
    seed : int
        Of the random starts.
    objective : function
        What is maximised.
    draws : int
        Passes that a gradient is averaged over; more than 1 only for models that draw noise.
    progress : function or None
        Called with starts done, starts in all and the text.

    Returns
    -------
    array of float32, (N, height, width, channels)
        For every image the one with the highest objective among all visited, those that fool the final head first;
        in 0..1, at most eps away.

    Raises
    ------
    ValueError
        When a parameter is impossible.
    """
    check(images, labels, eps, steps=steps, restarts=restarts, draws=draws)
    reviews = set(checkpoints(steps))

    def attack(ball: Ball, generator: torch.Generator, tick: Callable[[], None]) -> torch.Tensor:
        best, best_rank = ball.clean.clone(), torch.full((len(ball),), -torch.inf)
        for _ in range(restarts):
            found, rank = _climb(model, ball, ball.start(generator), objective, draws, steps, reviews)
            better = rank > best_rank
            best[better], best_rank[better] = found[better], rank[better]
            tick()
        return best

    return attacked(
        model, images, labels, eps=eps, attack=attack, ticks=restarts, seed=seed, progress=progress, text=text
    )


def _climb(
    model: nn.Module, ball: Ball, x: torch.Tensor, objective: Objective, draws: int, steps: int, reviews: set[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best image of one start, and how it compares with those of other starts (N,)."""
    size = torch.full((len(ball), 1, 1, 1), 2.0 * ball.eps)
    value, gradient, fools = slope(model, x, ball.labels, objective, draws)
    # The walk goes back to where the objective was best; what counts in the end is whether an image fools.
    peak, peak_value, peak_gradient = x.clone(), value.clone(), gradient.clone()
    winner, rank = x.clone(), value + _FOOLS * fools
    before, rises = x.clone(), torch.zeros(len(ball))
    review, last_best, halved = 0, value.clone(), torch.ones(len(ball), dtype=torch.bool)
    for count in range(1, steps + 1):
        ahead = ball.project(x + size * gradient.sign())
        ahead_share = _MOMENTUM if count > 1 else 1.0
        moved = ball.project(x + ahead_share * (ahead - x) + (1 - ahead_share) * (x - before))
        before, x, earlier = x, moved, value
        value, gradient, fools = slope(model, x, ball.labels, objective, draws)
        rises += value > earlier
        better = value > peak_value
        peak[better], peak_value[better], peak_gradient[better] = x[better], value[better], gradient[better]
        now = value + _FOOLS * fools
        improved = now > rank
        winner[improved], rank[improved] = x[improved], now[improved]
        if count in reviews:
            stuck = ~halved & (peak_value <= last_best)
            halved = (rises < _RISES * (count - review)) | stuck
            where = halved[:, None, None, None]
            size = torch.where(where, size / 2, size)
            x, gradient = torch.where(where, peak, x), torch.where(where, peak_gradient, gradient)
            value = torch.where(halved, peak_value, value)
            review, last_best, rises = count, peak_value.clone(), torch.zeros(len(ball))
    return winner, rank
