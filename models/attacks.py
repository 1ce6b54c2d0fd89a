"""Attacks on a network with exits: images changed by at most eps per pixel to be wrong, or to be slow.

An attack is white-box, on a differentiable model such as :class:`models.surrogate.Surrogate`; its images count on the
integer network afterwards. All of them maximise a sum over images, so that a batch's images don't influence each other.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.nets import to_torch
from models.sources import Progress

__all__ = ["Objective", "fgsm", "final_loss", "joint_loss", "pgd", "slowdown", "slowness"]

#: Of logits of every exit and labels, how well the attack does: one number an image, to be maximised.
Objective = Callable[[Sequence[torch.Tensor], torch.Tensor], torch.Tensor]

_BATCH = 256


def final_loss(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the final head: an attacker who doesn't know of the exits."""
    return F.cross_entropy(logits[-1], labels, reduction="none")


def joint_loss(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of all heads: an attacker who knows the exits and wants all of them wrong
    (the "average" form of Hu et al. 2020, Triple Wins)."""
    return torch.stack([F.cross_entropy(head, labels, reduction="none") for head in logits]).mean(dim=0)


def slowness(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Negative cross-entropy of the early heads to the uniform distribution: nothing is sure enough to leave
    (DeepSloth, Hong et al. 2021, arXiv 2010.02432)."""
    return torch.stack([head.log_softmax(dim=1).mean(dim=1) for head in logits[:-1]]).mean(dim=0)


def _check(images: np.ndarray, labels: np.ndarray, eps: float, **counts: int) -> None:
    if images.ndim != 4 or not np.issubdtype(images.dtype, np.floating) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"images must be a floating-point array (N, height, width, channels) with one label each, "
            f"not {images.dtype} {images.shape} with {labels.shape}"
        )
    if not 0.0 <= eps <= 1.0:
        raise ValueError(f"eps must be in 0..1, not {eps}")
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")


def _ascend(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, objective: Objective
) -> tuple[torch.Tensor, torch.Tensor]:
    """The objective at some images, and the sign of its gradient."""
    x = x.detach().requires_grad_()
    value = objective(model(x), y)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient.sign()


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
    _check(images, labels, eps, steps=steps, restarts=restarts)
    size = 2.5 * eps / steps if step is None else step
    if not size >= 0:
        raise ValueError(f"step must not be negative, not {size}")
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    parts = range(0, len(images), _BATCH)
    total, done = len(parts) * restarts * (steps + 1), 0
    results = []
    for start in parts:
        clean = to_torch(images[start : start + _BATCH].astype(np.float32))
        y = torch.from_numpy(np.ascontiguousarray(labels[start : start + _BATCH], dtype=np.int64))
        low, high = (clean - eps).clamp_min(0.0), (clean + eps).clamp_max(1.0)
        best = clean.clone()
        best_value = torch.full((len(clean),), -torch.inf)
        for _ in range(restarts):
            x = clean
            if random_start:
                noise = torch.rand(clean.shape, generator=generator)
                x = torch.minimum(torch.maximum(clean + (2 * noise - 1) * eps, low), high)
            for count in range(steps + 1):
                value, direction = _ascend(model, x, y, objective)
                better = value > best_value
                best[better], best_value[better] = x[better], value[better]
                if count < steps:
                    x = torch.minimum(torch.maximum(x + size * direction, low), high)
                done += 1
                if progress:
                    progress(done, total, text)
        results.append(best)
    return _images(results, images)


def _images(results: list[torch.Tensor], images: np.ndarray) -> np.ndarray:
    if not results:
        return images.astype(np.float32)
    return np.ascontiguousarray(torch.cat(results).permute(0, 2, 3, 1).numpy())


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
    _check(images, labels, eps)
    model.eval()
    results = []
    for start in range(0, len(images), _BATCH):
        clean = to_torch(images[start : start + _BATCH].astype(np.float32))
        y = torch.from_numpy(np.ascontiguousarray(labels[start : start + _BATCH], dtype=np.int64))
        _, direction = _ascend(model, clean, y, objective)
        results.append((clean + eps * direction).clamp(0.0, 1.0))
        if progress:
            progress(min(start + _BATCH, len(images)), len(images), text)
    return _images(results, images)


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
    """Make the branches undecided, so that images pass them; right or wrong answers don't matter to this attacker.

    :func:`pgd` with the objective :func:`slowness`; its parameters, results and errors.

    Raises
    ------
    ValueError
        Also when the model has no early exit.
    """
    with torch.no_grad():
        if len(images) and len(model(to_torch(images[:1].astype(np.float32)))) < 2:
            raise ValueError("a slowdown attack needs a model with an early exit")
    labels = np.zeros(len(images), dtype=np.int64)
    return pgd(
        model, images, labels, eps=eps, steps=steps, restarts=restarts, seed=seed,
        objective=slowness, progress=progress, text=text,
    )  # fmt: skip
