"""EnResNet: a Feynman-Kac ensemble of residual networks with noise in their blocks, trained together.

Wang et al. 2019 (arXiv 1811.10745), as BR-EnResNet uses it (Li, Wang, Xin 2020, arXiv 2008.13305, published code): the
logits are the mean of the members'; every block returns ``y + sigma std(y) N(0, 1)``, where y is the sum with the
shortcut, the deviation is a single one of the whole batch, and sigma is 0.1.

Deviations. The published members are pre-activation ResNet-20 to 110; here they are ResNet-8 with the activation behind
the sum, because batch norms must fold into convolutions, and the noise lies between the two. The published noise stays
on when the network is used, and in the attacks that train it. On the accelerator there is none, nothing takes its
place, and the attacks of the training see the network as it will be: robustness that came from drawing at random would
not survive averaging over draws anyway (Athalye et al. 2018, arXiv 1802.00420). With ``noisy`` the float network keeps
it for comparison, to be attacked with several draws a gradient (``draws`` of :func:`models.attacks.pgd`).

Weights of few levels are :class:`models.methods.binary_relax.BinaryRelax`, the loss
:class:`models.methods.robust.AdversarialLoss`; SGD of 0.1, a tenth at 80, 120, 160 of 200 epochs, momentum 0.9, weight
decay 5e-4, batches of 128, crop and flip.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from models.networks.ensemble import Ensemble
from models.networks.residual_net import MOST_CHANNELS, Description
from models.networks.resnet8 import ResNet8, ResNet8Architecture

__all__ = ["BlockNoise", "EnResNet", "EnResNetArchitecture"]


#: The published ensembles have up to 5.
_MOST_MEMBERS = 64


@dataclass(frozen=True, kw_only=True)
class EnResNetArchitecture(Description):
    """What defines an :class:`EnResNet` apart from its weights.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image; at least 4 rows and columns.
    classes : int
    widths : tuple of 3 int
        Channels of each member's blocks; the stem has as many as the first.
    members : int
        1 to 64, as many as an instruction can name the channels of together.
    noise : float
        Deviation of the noise behind each block, as a share of the block's own; not negative.

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    widths: tuple[int, int, int] = (16, 32, 64)
    members: int = 2
    noise: float = 0.1

    def __post_init__(self) -> None:
        self.member()
        self._check("members", 1, most=min(_MOST_MEMBERS, MOST_CHANNELS // max(self.widths)))
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise must be finite and not negative, not {self.noise}")

    def member(self) -> ResNet8Architecture:
        """Of one member."""
        return ResNet8Architecture(shape=self.shape, classes=self.classes, widths=self.widths)


class BlockNoise(nn.Module):
    """Gaussian noise of ``share`` times the standard deviation of the whole batch, in training mode or if ``noisy``.

    Draws from torch's own generator.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.noisy = False

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        if not (self.training or self.noisy):
            return y
        return y + self.share * y.detach().std() * torch.randn_like(y)


class EnResNet(Ensemble):
    """The ensemble. Images (N, channels, height, width) in 0..1 go in, a tuple of one tensor of logits comes out."""

    def __init__(self, architecture: EnResNetArchitecture) -> None:
        members = [ResNet8(architecture.member()) for _ in range(architecture.members)]
        super().__init__(members)
        self.architecture = architecture
        for member in members:
            for block in (member.block1, member.block2, member.block3):
                block.add_module("relu", nn.Sequential(BlockNoise(architecture.noise), nn.ReLU()))

    def noisy(self, on: bool) -> None:
        """Whether there is noise in evaluation mode, too."""
        for module in self.modules():
            if isinstance(module, BlockNoise):
                module.noisy = on
