"""The first convolution of a teacher, made of the images it learns from."""

import torch

from models.networks.residual_net import to_torch
from models.networks.whitened import WhitenedNet, whitening
from models.training.pieces import Piece, Run

__all__ = ["Whitening"]

_IMAGES = 2000


class Whitening(Piece):
    """Sets the first filters of a :class:`models.networks.whitened.WhitenedNet` as the run begins, and holds them.

    Their biases are trained.

    Raises
    ------
    ValueError
        As the run begins, when the network is another one.
    """

    def begin(self, run: Run) -> None:
        if not isinstance(run.model, WhitenedNet):
            raise ValueError(f"whitening is of a network of kind whitened, not of a {type(run.model).__name__}")
        filters, biases = whitening(to_torch(run.split.images[:_IMAGES]))
        first = run.model.whiten
        with torch.no_grad():
            first.weight.copy_(filters)
            first.bias.copy_(biases)  # type: ignore[union-attr]
        first.weight.requires_grad_(False)
