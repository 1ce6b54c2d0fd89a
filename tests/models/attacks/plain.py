"""A model whose best attack is known: the pixels' sum, with both signs."""

import torch
from torch import nn


class Plain(nn.Module):
    """One head of two classes."""

    def forward(self, x):
        total = x.sum(dim=(1, 2, 3))
        return (torch.stack([total, -total], dim=1),)


class Noisy(nn.Module):
    """The sum plus noise whose gradient is much larger, and zero on average."""

    def forward(self, x):
        total = x.sum(dim=(1, 2, 3)) + 20 * (torch.randn(x.shape) * x).sum(dim=(1, 2, 3))
        return (torch.stack([total, -total], dim=1),)
