"""Several networks of one structure that answer together."""

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["Ensemble", "members_of"]


class Ensemble(nn.Module):
    """Mean of the members' logits, exit by exit.

    Parameters
    ----------
    members : sequence of Module
        At least one; each takes images (N, channels, height, width) and returns a tuple of logits (N, classes).

    Raises
    ------
    ValueError
        When there is no member.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble must have at least 1 member, not 0")
        self.members = nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answers = [member(x) for member in self.members]
        return tuple(torch.stack(heads).mean(dim=0) for heads in zip(*answers, strict=True))


def members_of(model: nn.Module) -> list[nn.Module]:
    """An ensemble's members, or the network itself where it is none."""
    return list(model.members) if isinstance(model, Ensemble) else [model]
