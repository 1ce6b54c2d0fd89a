"""What a recipe's file may ask for by name: pieces of training, and changes of the integer network.

A method adds its own by an entry in :data:`PIECES`, a function whose first parameter is the :class:`Context`, or in
:data:`INTEGER`, a class. Keyword parameters, with their type hints, are the settings of the file.
Making a piece is cheap and reads no images; what takes time belongs into its ``begin``. So a recipe is checked whole,
pieces included, before anything starts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from hw.network.network import Network
from models.compression import element_thresholds, prune
from models.compression.fakequant import FakeQuantNet
from models.compression.product_pruning import ProductPruning
from models.compression.sparse_training import ActivationPenalty, GradualPruning
from models.compression.threshold_training import ElementThresholds
from models.compression.winner_rates import WinnerRates
from models.datasets.splits import Dataset
from models.methods.binary_relax import BinaryRelax
from models.methods.boundary import Probe
from models.methods.dasnet import ANNEAL, Equalised
from models.methods.dnr import DynamicL2, Rewiring
from models.methods.exit_losses import DynamicExitLoss, RampedExitLoss
from models.methods.feedback import Feedback
from models.methods.gap import GreedyPruning, PGDSettings, kept_share
from models.methods.jpnet import IterativePruning, SweptWinners
from models.methods.robust import AdversarialLoss
from models.networks.whitened import WhitenedNet
from models.networks.winners import KINDS, carriers
from models.training.distillation import Distillation
from models.training.pieces import Piece, Run
from models.training.standard_pieces import AdversarialExamples, CrossEntropy, FixedMask, MadeMask, Validation
from models.training.whitening import Whitening

__all__ = ["INTEGER", "PIECES", "Context", "IntegerContext"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What pieces are made for.

    Parameters
    ----------
    model : Module
        What the stage trains: a float network, or its fake-quantized twin.
    dataset : Dataset or None
        None when the recipe is only checked.
    dense : Module
        The float network that compression began with; is attacked and, without a teacher, teaches, and is never
        trained.
    stage : str
        Name of the stage.
    teacher : Module or None
        The recipe's, which teaches instead.
    folder : Path or None
        For what pieces compute once and later runs find again.
    """

    model: nn.Module
    dataset: Dataset | None
    dense: nn.Module
    stage: str
    teacher: nn.Module | None = None
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class IntegerContext:
    """What changes of the integer network may look at: codes of some validation images, int8 (N, height, width,
    channels), and their labels (N,)."""

    codes: np.ndarray
    labels: np.ndarray


class _OneShot(MadeMask):
    """A mask made of the weights that the stage begins with."""

    def __init__(self, density: float, least: dict[str, float]) -> None:
        super().__init__()
        self.density, self.least = density, least

    def begin(self, run: Run) -> None:
        self.masks = prune.masks(run.model, prune.densities(run.model, self.density, self.least))
        prune.apply(run.model, self.masks)
        super().begin(run)


def _one_shot(context: Context, *, density: float, least: dict[str, float] | None = None) -> Piece:
    prune.densities(context.model, density, least)  # refuses what is impossible now
    return _OneShot(density, least or {})


class _Zeros(FixedMask):
    """What is zero when the stage begins stays zero."""

    def __init__(self) -> None:
        super().__init__({})

    def begin(self, run: Run) -> None:
        self.masks = {name: (weight != 0).to(weight.dtype) for name, weight in prune.prunable(run.model).items()}
        super().begin(run)


def _zeros(context: Context) -> Piece:
    return _Zeros()


def _gradual(context: Context, *, densities: dict[str, float], end: float = 0.5, balanced: bool = False) -> Piece:
    for name in densities:
        if name not in prune.prunable(context.model):
            raise ValueError(f"density of {name!r}: there is no weight of that name")
    return GradualPruning(densities, end=end, balanced=balanced)


def _products(
    context: Context,
    *,
    share: float,
    dense: float | None = None,
    end: float = 0.5,
    interval: int = 32,
    skip: tuple[str, ...] = (),
    reach: dict[str, float] | None = None,
) -> Piece:
    return ProductPruning(share, dense=dense, end=end, interval=interval, skip=skip, reach=reach)


def _element_thresholds(context: Context, *, densities: dict[str, float]) -> Piece:
    if not isinstance(context.model, FakeQuantNet):
        raise ValueError("element thresholds must be given to the fake-quantized network, in quantize")
    for name in densities:
        if name not in context.model.weighted():
            raise ValueError(f"threshold of {name!r}: there is no step with weights of that name")
    return ElementThresholds(densities)


def _penalty(context: Context, *, weight: float, costs: dict[str, float] | None = None) -> Piece:
    return ActivationPenalty(weight, costs)


def _adversarial(
    context: Context, *, eps: float, steps: int = 1, step: float | None = None, share: float = 1.0
) -> Piece:
    return AdversarialExamples(eps=eps, steps=steps, step=step, share=share)


def _adversarial_loss(
    context: Context,
    *,
    eps: float,
    steps: int = 1,
    step: float | None = None,
    clean: float = 1.0,
    adversarial: float = 8.0,
) -> Piece:
    return AdversarialLoss(AdversarialExamples(eps=eps, steps=steps, step=step), clean=clean, adversarial=adversarial)


def _binary_relax(
    context: Context, *, levels: str = "ternary", eta: float = 1.0, growth: float = 1.05, relaxed_share: float = 0.6
) -> Piece:
    return BinaryRelax(levels, eta=eta, growth=growth, relaxed_share=relaxed_share)


def _feedback(
    context: Context,
    *,
    target: float,
    round_epochs: int = 2,
    beyond: float = 0.01,
    gamma: float | None = 1.0,
    probed: int = 2000,
    draws: int = 4,
) -> Piece:
    return Feedback(
        target=target, round_epochs=round_epochs, beyond=beyond, gamma=gamma, probed=probed, settings=Probe(draws=draws)
    )


def _greedy(
    context: Context,
    *,
    compression: float,
    criterion: str = "gap",
    eps: float = 8 / 255,
    step: float = 2 / 255,
    steps: int = 10,
) -> Piece:
    kept_share(context.model, compression)  # refuses what is impossible now
    return GreedyPruning(criterion, compression, attack=PGDSettings(eps=eps, step=step, steps=steps))


def _rewiring(context: Context, *, density: float, mode: str = "irregular", rate: float = 0.5) -> Piece:
    return Rewiring(density, mode=mode, rate=rate)


def _dynamic_l2(context: Context, *, rho: float = 1e-4, start: int = 5) -> Piece:
    return DynamicL2(rho=rho, start=start)


def _iterative(context: Context, *, density: float, least: dict[str, float] | None = None, rounds: int = 3) -> Piece:
    return IterativePruning(prune.densities(context.model, density, least), rounds)


def _winners(context: Context, *, rates: dict[str, float], select: str = "elements", annealed: bool = False) -> Piece:
    layers = _can_win(context, select)
    for name in rates:
        if name not in layers:
            raise ValueError(f"winner rate of {name!r}: there is no convolution or linear layer of that name")
    return WinnerRates(select, rates, ANNEAL if annealed else None)


def _swept_winners(
    context: Context, *, select: str = "elements", drop: float = 0.02, images: int = 1000, annealed: bool = False
) -> Piece:
    _can_win(context, select)
    held = None if context.dataset is None else context.dataset.validation.take(images)
    return SweptWinners(held, select, drop=drop, anneal=ANNEAL if annealed else None)


def _can_win(context: Context, select: str) -> set[str]:
    """Layers that may have winners, which are chosen before quantization."""
    if select not in KINDS:
        raise ValueError(f"select must be one of {', '.join(KINDS)}, not {select!r}")
    if isinstance(context.model, FakeQuantNet):
        raise ValueError("winners must be given to the float network; quantization keeps them")
    return set(carriers(context.model))


def _equalised(context: Context, *, images: int = 1000) -> Piece:
    return Equalised(images)


def _ramped_exits(context: Context, *, costs: tuple[float, ...] | None = None) -> Piece:
    return RampedExitLoss(costs)


def _dynamic_exits(context: Context, *, target: float, rate: float = 5.0, first: float = 0.5) -> Piece:
    return DynamicExitLoss(target=target, rate=rate, first=first)


def _cross_entropy(context: Context, *, ramp: bool = True) -> Piece:
    return CrossEntropy(ramp)


def _distillation(context: Context, *, weight: float = 1.0, temperature: float = 4.0, exits: float = 0.0) -> Piece:
    teacher = context.teacher or context.dense
    return Distillation(teacher, weight=weight, temperature=temperature, exits=exits, folder=context.folder)


class _HeldBack(Piece):
    """Stands for validation while a recipe is only checked."""


def _whitening(context: Context) -> Piece:
    if not isinstance(context.model, WhitenedNet):
        raise ValueError(f"whitening is of a network of kind whitened, not of a {type(context.model).__name__}")
    return Whitening()


def _validation(context: Context) -> Piece:
    return _HeldBack() if context.dataset is None else Validation(context.dataset.validation)


#: Pieces by the ``kind`` a recipe names.
PIECES: dict[str, Callable[..., Piece]] = {
    "activation-penalty": _penalty,
    "adversarial": _adversarial,
    "adversarial-loss": _adversarial_loss,
    "binary-relax": _binary_relax,
    "cross-entropy": _cross_entropy,
    "distillation": _distillation,
    "dynamic-exits": _dynamic_exits,
    "dynamic-l2": _dynamic_l2,
    "element-thresholds": _element_thresholds,
    "equalised-channels": _equalised,
    "feedback": _feedback,
    "gradual-pruning": _gradual,
    "greedy-pruning": _greedy,
    "iterative-pruning": _iterative,
    "magnitude-pruning": _one_shot,
    "product-pruning": _products,
    "ramped-exits": _ramped_exits,
    "rewiring": _rewiring,
    "swept-winners": _swept_winners,
    "validation": _validation,
    "whitening": _whitening,
    "winners": _winners,
    "zeros": _zeros,
}


@dataclass(frozen=True, kw_only=True)
class _Thresholds:
    """Element thresholds with which some layers multiply at most these shares of their inputs."""

    densities: dict[str, float]

    def check(self, weighted: set[str]) -> None:
        """Refuse what doesn't fit a network whose layers with weights have these names."""
        for name, density in self.densities.items():
            if name not in weighted:
                raise ValueError(f"threshold of {name!r}: there is no layer with weights of that name")
            if not 0.0 <= density <= 1.0:
                raise ValueError(f"density of {name} must be in 0..1, not {density}")

    def change(self, network: Network, context: IntegerContext) -> Network:
        """The network with the thresholds."""
        return element_thresholds.with_element_thresholds(
            network, element_thresholds.element_thresholds_for(network, context.codes, self.densities)
        )


#: Changes of the integer network by ``kind``; made before exits are calibrated.
INTEGER = {"thresholds": _Thresholds}
