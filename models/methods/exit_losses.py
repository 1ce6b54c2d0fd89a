"""Losses that train early exits along with the network: what each exit's cross-entropy counts.

Two rules for the weights: ramped with the training, as Shallow-Deep Networks (SDN, Kaya et al. 2019), and following the
exit's accuracy, a reconstruction of DynExit. DAB (:mod:`models.methods.dab`) uses either.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from hw.rules import require, shown
from hw.typed import checked
from models.compression.fakequant import FakeQuantNet
from models.frontends.pytorch.graph import Graph, lower
from models.methods.dab import exit_costs
from models.training.pieces import Outputs, Piece, Run

__all__ = ["DynamicExitLoss", "RampedExitLoss"]

_LEAST, _MOST = 0.05, 2.0  # DynExit-like weights


class RampedExitLoss(Piece):
    """Cross-entropy of the final exit plus that of each early one, whose weights are ramped as SDN's:
    ``min(C, 0.01 + t C)``.

    Parameters
    ----------
    costs : sequence of float, or None
        C of each early exit, above 0; None takes their shares of the network's multiply-accumulates.

    Raises
    ------
    ValueError
        When a cost isn't positive, or they aren't one for each early exit.
    """

    criterion = True

    def __init__(self, costs: Sequence[float] | None = None) -> None:
        if costs is not None and not all(cost > 0 for cost in costs):
            raise ValueError(f"costs of exits must be positive, not {tuple(costs)}")
        self.costs = None if costs is None else tuple(costs)
        self.weights: tuple[float, ...] = ()

    def begin(self, run: Run) -> None:
        found = exit_costs(_graph(run))[:-1]
        self.weights = found if self.costs is None else self.costs
        if len(self.weights) != len(found):
            raise ValueError(f"costs must be one for each of {len(found)} early exits, not {len(self.weights)}")

    def loss(self, run: Run, images: torch.Tensor, labels: torch.Tensor, outputs: Outputs) -> torch.Tensor:
        total = F.cross_entropy(outputs[-1], labels)
        for cost, early in zip(self.weights, outputs[:-1], strict=True):
            weight = min(cost, 0.01 + run.done / run.total * cost)
            total = total + weight * F.cross_entropy(early, labels)
        return total


class DynamicExitLoss(Piece):
    """Cross-entropy of the final exit plus that of each early one with a weight that follows its accuracy.

    After every epoch ``w <- w exp(k (target - accuracy))``, within 0.05 to 2, by the accuracy on the epoch's training
    batches: a reconstruction of DynExit's rule, of which only the idea could be read.

    Parameters
    ----------
    target : float
        Accuracy in 0..1 that the early exits shall reach.
    rate : float
        k, positive.
    first : float
        Weight in the first epoch, within 0.05..2.

    Raises
    ------
    ValueError
        When a value is outside its range.
    """

    criterion = True
    fixed_form = False  # how many exits there are, the first batch tells

    def __init__(self, *, target: float, rate: float = 5.0, first: float = 0.5) -> None:
        if not 0.0 <= target <= 1.0:
            raise ValueError(f"target must be an accuracy in 0..1, not {target}")
        if not rate > 0:
            raise ValueError(f"rate must be positive, not {rate}")
        if not _LEAST <= first <= _MOST:
            raise ValueError(f"first weight must be in {_LEAST}..{_MOST}, not {first}")
        self.target, self.rate, self.first = target, rate, first
        self.weights: list[float] = []
        self._right: list[int] = []
        self._seen = 0

    def before_epoch(self, run: Run) -> None:
        self._right, self._seen = [], 0

    def loss(self, run: Run, images: torch.Tensor, labels: torch.Tensor, outputs: Outputs) -> torch.Tensor:
        early = outputs[:-1]
        self.weights = self.weights or [self.first] * len(early)
        require(
            len(self.weights) == len(early),
            f"weights of exits must be one for each of {len(early)} early exits, not {len(self.weights)}",
        )
        right = [int((head.argmax(dim=1) == labels).sum()) for head in early]
        self._right = [a + b for a, b in zip(self._right or [0] * len(early), right, strict=True)]
        self._seen += len(labels)
        total = F.cross_entropy(outputs[-1], labels)
        for weight, head in zip(self.weights, early, strict=True):
            total = total + weight * F.cross_entropy(head, labels)
        return total

    def after_epoch(self, run: Run) -> None:
        for number, right in enumerate(self._right):
            accuracy = right / self._seen
            grown = self.weights[number] * math.exp(self.rate * (self.target - accuracy))
            self.weights[number] = min(max(grown, _LEAST), _MOST)
            run.record(f"exit_weight_{number}", self.weights[number])

    def state_dict(self) -> dict[str, list[float]]:
        return {"weights": list(self.weights)}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        weights = checked(state["weights"], tuple[float, ...], "weights of exits")
        require(
            all(_LEAST <= weight <= _MOST for weight in weights),
            f"weights of exits must be in {_LEAST}..{_MOST}, not {shown(weights)}",
        )
        self.weights = list(weights)


def _graph(run: Run) -> Graph:
    """The steps of what is trained."""
    if isinstance(run.model, FakeQuantNet):
        return run.model.graph
    height, width, channels = run.split.images.shape[1:]
    return lower(run.model.eval(), (height, width, channels))
