"""Pieces that make weights and activations sparse while a network learns."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from models.compression import prune
from models.compression.fakequant import FakeQuantNet
from models.training.pieces import Outputs, Piece, Run, WatchingPiece
from models.training.standard_pieces import parameters_of

__all__ = ["ActivationPenalty", "GradualPruning", "activation_modules"]


_ACTIVITY_STEPS = 8  # activations are counted in every so many steps of an epoch
_LEAST = 1e-12  # of a sum of squares


class GradualPruning(Piece):
    """Prunes by magnitude, epoch by epoch, on a cubic course (Zhu and Gupta 2017, arXiv 1710.01878): a layer's density
    falls from 1 to its target as ``1 - (1 - target) * (1 - (1 - t)**3)``.

    What is pruned stays zero until the next epoch; larger masks are never grown back, smaller ones take the smallest of
    the weights that are left.

    Parameters
    ----------
    shares : dict of str to float
        Final density by parameter name, in 0..1.
    end : float
        Share of the epochs, above 0 and at most 1, after which the targets are reached.
    balanced : bool
        As many weights of every output channel stay (:func:`models.compression.prune.masks`).

    Raises
    ------
    ValueError
        When a density or the end is impossible.
    """

    def __init__(self, shares: Mapping[str, float], *, end: float = 0.5, balanced: bool = False) -> None:
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"density of {name} must be in 0..1, not {share}")
        if not 0.0 < end <= 1.0:
            raise ValueError(f"end of pruning must be above 0 and at most 1, not {end}")
        self.shares, self._end, self.balanced = dict(shares), end, balanced
        self._held: dict[str, nn.Parameter] = {}
        self._masks: dict[str, torch.Tensor] = {}

    def begin(self, run: Run) -> None:
        self._held = parameters_of(run.model, self.shares, "density")

    def before_epoch(self, run: Run) -> None:
        self._masks = prune.masks(run.model, self.densities(run), balanced=self.balanced)
        self._apply()

    def densities(self, run: Run) -> dict[str, float]:
        """Densities during the epoch in progress, by parameter name."""
        part = min(1.0, (run.epoch + 1) / max(1.0, self._end * run.schedule.epochs))
        course = 1 - (1 - part) ** 3
        return {name: 1 - (1 - share) * course for name, share in self.shares.items()}

    def after_step(self, run: Run) -> None:
        self._apply()

    def after_epoch(self, run: Run) -> None:
        run.record("density", prune.density(run.model))

    def _apply(self) -> None:
        with torch.no_grad():
            for name, parameter in self._held.items():
                parameter.mul_(self._masks[name])


def activation_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules whose outputs are a network's rectified activations, by name.

    Of a float network its ReLUs, of a :class:`models.compression.fakequant.FakeQuantNet` the quantized outputs of its
    rectified steps.

    Raises
    ------
    ValueError
        When there is none.
    """
    if isinstance(model, FakeQuantNet):
        found = model.rectified()
    else:
        found = {name: module for name, module in model.named_modules() if isinstance(module, nn.ReLU)}
    if not found:
        raise ValueError(f"{type(model).__name__}: must have a ReLU")
    return found


class _Hoyer(torch.autograd.Function):
    """The mean over images of ``(sum a)**2 / (N * sum a**2)`` for activations (images, N) of at least 0.

    By hand, because maps are large: autograd takes half of a training step for it, this takes a tenth.
    """

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        first = values.sum(1, dtype=torch.float32)
        second = torch.linalg.vector_norm(values, dim=1, dtype=torch.float32).square().clamp_min(_LEAST)
        context.save_for_backward(values, first, second)
        return (first**2 / (values.shape[1] * second)).mean()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        values, first, second = context.saved_tensors
        # Of an activation a that isn't 0: 2 * first / (N * second) * (1 - a * first / second).
        outer = gradient * 2 * first / (values.numel() * second)
        slope, offset = (-outer * first / second, outer)
        found = values * slope.to(values.dtype)[:, None]
        found += offset.to(values.dtype)[:, None]
        return found.mul_(values.sign())


class ActivationPenalty(WatchingPiece):
    """Adds the activations' Hoyer measure, which falls when fewer of them matter and ignores their scale.

    Of N activations of a layer it is ``(sum |a|)**2 / (N * sum a**2)``, 1 when all are equal, 1/N when one isn't zero
    (Hoyer 2004; as a penalty on activations Kurtz et al. 2020, "Inducing and Exploiting Activation Sparsity"); the mean
    over images and the weighted mean over layers is what is added.

    Parameters
    ----------
    weight : float
        Of the penalty at the end; it grows linearly over the first quarter of the steps.
    costs : dict of str to float, or None
        By name of :func:`activation_modules`, how much the layer counts, say its readers' multiply-accumulates; None
        counts all alike.

    Raises
    ------
    ValueError
        When the weight isn't positive, or a cost has no activations of its name.
    """

    def __init__(self, weight: float, costs: Mapping[str, float] | None = None) -> None:
        if not weight > 0:
            raise ValueError(f"weight of the activation penalty must be positive, not {weight}")
        super().__init__()
        self.weight, self.costs = weight, None if costs is None else dict(costs)
        self._seen: dict[str, torch.Tensor] = {}
        self._active: list[float] = []

    def begin(self, run: Run) -> None:
        found = activation_modules(run.model)
        for name in self.costs or {}:
            if name not in found:
                raise ValueError(f"activation penalty: the network has no activations {name!r}")
        for name, module in found.items():
            self.watch(module, self._keeper(name))

    def _keeper(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            self._seen[name] = output

        return keep

    def before_epoch(self, run: Run) -> None:
        self._active = []

    def loss(self, run: Run, images: torch.Tensor, labels: torch.Tensor, outputs: Outputs) -> torch.Tensor:
        total, weights, active = outputs[-1].new_zeros(()), 0.0, 0.0
        watched = run.done % run.steps % _ACTIVITY_STEPS == 0
        for name, values in self._seen.items():
            cost = 1.0 if self.costs is None else self.costs.get(name, 0.0)
            # The order doesn't matter, so maps stay as they lie in memory.
            flat = (values.movedim(1, -1) if values.ndim == 4 else values).flatten(1)
            total = total + cost * _Hoyer.apply(flat)  # type: ignore[no-untyped-call]
            weights += cost
            if watched:
                active += cost * int(flat.detach().count_nonzero()) / flat.numel()
        self._seen = {}
        if watched:
            self._active.append(active / weights)
        growth = min(1.0, 4 * (run.done + 1) / run.total)
        return self.weight * growth * total / weights

    def after_epoch(self, run: Run) -> None:
        run.record("active", sum(self._active) / len(self._active))
