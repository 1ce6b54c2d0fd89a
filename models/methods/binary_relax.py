"""Binary-Relax: training towards weights of few levels through weights between them and the float ones.

Yin et al. 2018 (arXiv 1801.06313), as BR-EnResNet uses it (Li, Wang, Xin 2020, arXiv 2008.13305, published code). The
optimizer moves float weights V; every pass sees ``(eta Q(V) + V) / (1 + eta)``, where Q projects onto the levels
(:mod:`models.compression.levels`), eta begins at 1 and grows by 1.05 after every epoch of the first phase, which is 120
of 200 epochs. After that passes see Q(V) itself. Gradients are those at the weights that the pass saw.
"""

from typing import Any

import torch

from models.compression.levels import codes, convolutions, project
from models.training.pieces import Run
from models.training.standard_pieces import Projection

__all__ = ["BinaryRelax", "relaxed"]


def relaxed(weight: torch.Tensor, kind: str, eta: float) -> torch.Tensor:
    """``(eta Q(w) + w) / (1 + eta)``: between float weights (eta 0) and weights of few levels (eta infinite).

    Parameters
    ----------
    weight : tensor of float, any shape
    kind : str
        One of :data:`models.compression.levels.LEVELS`.
    eta : float
        Not negative.
    """
    return (eta * project(weight, kind) + weight) / (1 + eta)


class BinaryRelax(Projection):
    """The piece that does it, to the weights of all convolutions; linear layers and batch norms stay float.

    A relaxed phase of share 0 is BinaryConnect with the same projection, the method's baseline. With a piece that holds
    masks, pruned weights stay zero and count in no scale.

    Parameters
    ----------
    kind : str
        ``binary``, ``ternary`` or ``4bit``.
    eta : float
        At the beginning.
    growth : float
        Factor of eta after each relaxed epoch.
    relaxed_share : float
        Share of the epochs in the first phase, in 0..1; 120 of 200 in the paper.

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    def __init__(
        self, kind: str = "ternary", *, eta: float = 1.0, growth: float = 1.05, relaxed_share: float = 0.6
    ) -> None:
        codes(torch.zeros(1), kind)  # refuses an unknown kind
        for name, value in (("eta", eta), ("growth", growth)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if not 0.0 <= relaxed_share <= 1.0:
            raise ValueError(f"relaxed_share must be in 0..1, not {relaxed_share}")
        super().__init__({})
        self.kind, self.eta, self.growth, self.relaxed_share = kind, eta, growth, relaxed_share

    def begin(self, run: Run) -> None:
        self.projections = {f"{name}.weight": self._exact for name in convolutions(run.model)}
        if not self.projections:
            raise ValueError(f"{type(run.model).__name__}: must have a Conv2d to project the weights of")
        super().begin(run)

    def before_epoch(self, run: Run) -> None:
        first = run.epoch < round(self.relaxed_share * run.schedule.epochs)
        self.projections = dict.fromkeys(self.projections, self._between if first else self._exact)

    def after_epoch(self, run: Run) -> None:
        run.record("eta", self.eta)
        if run.epoch < round(self.relaxed_share * run.schedule.epochs):
            self.eta *= self.growth

    def end(self, run: Run) -> None:
        self.projections = dict.fromkeys(self.projections, self._exact)
        super().end(run)

    def state_dict(self) -> dict[str, Any]:
        return {"eta": self.eta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.eta = state["eta"]

    def _exact(self, weight: torch.Tensor) -> torch.Tensor:
        return project(weight, self.kind)

    def _between(self, weight: torch.Tensor) -> torch.Tensor:
        return relaxed(weight, self.kind, self.eta)
