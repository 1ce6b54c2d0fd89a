"""The images an attack may choose from: at most eps away in every pixel, in 0..1."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from models.datasets.sources import Progress
from models.networks.residual_net import to_torch

__all__ = ["Ball", "attacked", "balls", "check"]

_BATCH = 256


def check(images: np.ndarray, labels: np.ndarray, eps: float, **counts: int) -> None:
    """Refuse images, labels, a radius or counts that are none.

    Raises
    ------
    ValueError
        When images aren't floating-point maps with a label each, eps is outside 0..1 or a count is below 1.
    """
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


class Ball:
    """A batch of images and what surrounds them.

    Parameters
    ----------
    images : array of float, (N, height, width, channels)
        In 0..1.
    labels : array of int, (N,)
    eps : float
        Largest change of a pixel, in 0..1.

    Attributes
    ----------
    clean : tensor (N, channels, height, width)
    labels : int64 tensor (N,)
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, eps: float) -> None:
        self.eps = eps
        self.clean = to_torch(images.astype(np.float32))
        self.labels = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
        self._low, self._high = (self.clean - eps).clamp_min(0.0), (self.clean + eps).clamp_max(1.0)

    def __len__(self) -> int:
        return len(self.clean)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest allowed images."""
        return torch.minimum(torch.maximum(x, self._low), self._high)

    def start(self, generator: torch.Generator) -> torch.Tensor:
        """Images drawn uniformly from the ball, then clamped to 0..1."""
        noise = torch.rand(self.clean.shape, generator=generator)
        return self.project(self.clean + (2 * noise - 1) * self.eps)


def balls(images: np.ndarray, labels: np.ndarray, eps: float, size: int = _BATCH) -> Iterator[Ball]:
    """The images in batches."""
    for first in range(0, len(images), size):
        yield Ball(images[first : first + size], labels[first : first + size], eps)


def attacked(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    attack: Callable[[Ball, torch.Generator, Callable[[], None]], torch.Tensor],
    ticks: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    text: str,
) -> np.ndarray:
    """An attack on all images, batch after batch, on the model in evaluation mode.

    Parameters
    ----------
    images, labels, eps
        As in :func:`check`, which has passed them.
    attack : function of a Ball, a generator and a function without parameters
        Gives the attacked images of a batch, (N, channels, height, width); calls the function ``ticks`` times.
    ticks : int
    seed : int
        Of the generator, which all batches share.
    progress : function or None
        Called with ticks done, ticks in all and the text.

    Returns
    -------
    array of float32, (N, height, width, channels)
    """
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    parts = list(balls(images, labels, eps))
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, len(parts) * ticks, text)

    results = [attack(ball, generator, tick) for ball in parts]
    if not results:
        return images.astype(np.float32)
    return np.ascontiguousarray(torch.cat(results).permute(0, 2, 3, 1).numpy())
