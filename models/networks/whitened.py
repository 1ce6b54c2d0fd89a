"""A teacher that trains in minutes: six wide convolutions behind one that whitens the image's patches.

The network of Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (arXiv 2404.00498): a 2x2 convolution
whose fixed filters are the principal directions of the images' patches, three groups of two convolutions, each halved
by a max pool, GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415), and a head whose logits are scaled down. It teaches
and is never lowered to the accelerator, which has no GELU.
"""

from dataclasses import dataclass

import torch
from torch import nn

from models.networks.residual_net import Description

__all__ = ["WhitenedArchitecture", "WhitenedNet", "whitening"]

_PATCH = 2  # rows and columns of the patches that are whitened
_LEAST_VARIANCE = 5e-4  # directions of less are amplified no further
_LOGITS = 1 / 9


@dataclass(frozen=True, kw_only=True)
class WhitenedArchitecture(Description):
    """What defines a :class:`WhitenedNet` apart from its weights.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image; at least 9 rows and columns.
    classes : int
    widths : tuple of 3 int
        Channels of the groups.

    Raises
    ------
    ValueError
        When a size is impossible; the message names the size, the rule and the value.
    """

    widths: tuple[int, int, int] = (64, 256, 256)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("widths", 3)

    @property
    def least_side(self) -> int:
        return 9


class _ConvGroup(nn.Module):
    """Two convolutions, the first one's map halved; each begins by passing its input's channels on (Dirac)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.activation = nn.GELU()
        for conv in (self.first, self.second):
            nn.init.dirac_(conv.weight[: conv.in_channels])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.first_norm(self.pool(self.first(x))))
        return self.activation(self.second_norm(self.second(x)))


class WhitenedNet(nn.Module):
    """The network. Images (N, channels, height, width) in 0..1 go in, a tuple of the logits (N, classes) comes out.

    Parameters
    ----------
    architecture : WhitenedArchitecture
    """

    def __init__(self, architecture: WhitenedArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        depth = architecture.shape[2]
        filters = 2 * depth * _PATCH**2
        self.whiten = nn.Conv2d(depth, filters, _PATCH)
        self.activation = nn.GELU()
        inputs = (filters, *architecture.widths)
        self.groups = nn.Sequential(*(_ConvGroup(*pair) for pair in zip(inputs, architecture.widths, strict=False)))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(architecture.widths[-1], architecture.classes, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        x = self.groups(self.activation(self.whiten(x)))
        return (self.linear(self.flatten(self.pool(x))) * _LOGITS,)


def whitening(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What makes patches of the images uncorrelated, of mean 0 and of variance 1.

    Each direction comes twice, the second time with the other sign, since the activation behind lets one side through.

    Parameters
    ----------
    images : tensor of float32, (N, channels, height, width)

    Returns
    -------
    tuple of tensors of float32
        Filters (8 channels, channels, 2, 2) and biases (8 channels,).
    """
    patches = images.unfold(2, _PATCH, 1).unfold(3, _PATCH, 1).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
    patches = patches.double()
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    rows = (vectors / (values + _LEAST_VARIANCE).sqrt()).T.flip(0)
    rows = torch.cat([rows, -rows])
    filters = rows.view(-1, images.shape[1], _PATCH, _PATCH)
    return filters.float(), -(rows @ patches.mean(dim=0)).float()
