"""DS-CNN for keyword spotting (Zhang et al. 2017, arXiv 1711.07128): the depthwise network of the tests."""

import torch
from torch import nn

from models.networks.residual_net import Head


class Convolution(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int, groups: int = 1) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv(x)))


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise convolution (Howard et al. 2017, arXiv 1704.04861)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = Convolution(channels, channels, (3, 3), 1, groups=channels)
        self.pointwise = Convolution(channels, channels, (1, 1), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


class SeparableNet(nn.Module):
    """Stem of stride 2, two separable blocks, head.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of the maps, which go in as (N, channels, height, width).
    width : int
        Channels of all maps inside.
    kernel : tuple of 2 int
        Of the stem.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, *, width: int = 16, kernel: tuple[int, int] = (10, 4)
    ) -> None:
        super().__init__()
        self.stem = Convolution(shape[2], width, kernel, 2)
        self.blocks = nn.Sequential(Separable(width), Separable(width))
        self.head = Head(width, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.head(self.blocks(self.stem(x))),)
