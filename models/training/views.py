"""How images are moved and mirrored while a network learns: anew in every epoch, or in fixed views that come back.

A teacher's logits of fixed views can be kept (:mod:`models.training.distillation`), and the student sees exactly what
the teacher saw: consistent and patient teaching (Beyer et al. 2022, "Knowledge distillation: A good teacher is patient
and consistent", arXiv 2106.05237).
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch.nn import functional as F

from models.training.hyperparameters import Schedule

__all__ = ["View", "augmented"]


def augmented(images: torch.Tensor, schedule: Schedule, generator: torch.Generator) -> torch.Tensor:
    """Images (N, channels, height, width) moved and mirrored at random as the schedule says; zeros move in."""
    count = len(images)
    if schedule.shift:
        offsets = torch.randint(0, 2 * schedule.shift + 1, (2, count), generator=generator)
        images = _moved(images, offsets, schedule.shift)
    if schedule.flip:
        images = _mirrored(images, torch.rand(count, generator=generator) < 0.5)
    return images


def _moved(images: torch.Tensor, offsets: torch.Tensor, reach: int) -> torch.Tensor:
    """Each image cut from its padded self at its offsets (2, N), down and to the right, in 0..2 reach."""
    count, depth, height, width = images.shape
    padded = F.pad(images, (reach, reach, reach, reach))
    rows = (offsets[0, :, None] + torch.arange(height))[:, None, :, None]
    columns = (offsets[1, :, None] + torch.arange(width))[:, None, None, :]
    channels = torch.arange(depth)[None, :, None, None]
    return padded[torch.arange(count)[:, None, None, None], channels, rows, columns]


def _mirrored(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """The images of which this is true mirrored left to right."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """How every image of a split is moved and mirrored in one of its fixed views.

    Half of the images are mirrored in the even views, the other half in the odd ones (alternating flip, Jordan 2024,
    arXiv 2404.00498).

    Parameters
    ----------
    reach : int
        Images are moved by up to this many pixels either way.
    offsets : tensor of int64, (2, N)
        Down and to the right, in 0..2 reach; reach leaves an image where it is.
    mirrored : tensor of bool, (N,)
    """

    reach: int
    offsets: torch.Tensor
    mirrored: torch.Tensor

    @classmethod
    def of(cls, schedule: Schedule, count: int, *, seed: int, number: int) -> Self:
        """View ``number`` of so many images, a function of the seed and of the schedule's ``shift`` and ``flip``."""
        sides = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.5
        generator = torch.Generator().manual_seed(((seed << 16) + number + 1) % (1 << 63))
        offsets = torch.randint(0, 2 * schedule.shift + 1, (2, count), generator=generator)
        mirrored = sides ^ bool(number % 2) if schedule.flip else torch.zeros(count, dtype=torch.bool)
        return cls(reach=schedule.shift, offsets=offsets, mirrored=mirrored)

    def show(self, images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The split's images of these indices (N, channels, height, width) as they look in this view."""
        return _mirrored(_moved(images, self.offsets[:, chosen], self.reach), self.mirrored[chosen])
