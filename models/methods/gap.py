"""Greedy adversarial pruning (GAP): weights go whose increase an attack profits from most, and its baselines.

Weiss, Alves, Kundu 2022 (arXiv 2206.07406, AICAS); after the authors' published code. The score of a weight is the sum
over the whole training set of the loss's gradient on adversarial examples, signed; the *largest* are removed, in one
ranking of all layers. Compression c counts all parameters: the share of prunable weights that stays is
``(N / c - N_fixed) / N_prunable``. What is pruned is then trained on with fixed masks (SGD, momentum 0.9, 1e-3).

Published traps, avoided here: the code attacks normalised inputs without clamping pixels, so that its "8/255" are
about 2/255 of a pixel; and its learning-rate schedule multiplies 1e-3 by 1e-3, so that nothing is fine-tuned. What the
method gives is resistance to attacks made on the network it was pruned from, not robustness (see :mod:`transfer
<models.methods.transfer>`).

Deviations: biases aren't pruned, they cost the accelerator nothing; ties are broken at random everywhere, not only at
zero; and running statistics, which the published scoring moves to adversarial data, are left as they were.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from models.compression import prune
from models.datasets.splits import Split
from models.networks.residual_net import to_torch
from models.training.pieces import Run
from models.training.standard_pieces import AdversarialExamples, MadeMask

__all__ = ["CRITERIA", "GreedyPruning", "PGDSettings", "kept_share", "prunable", "scores", "select"]

_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class PGDSettings:
    """The attack whose gradients count: PGD with a random start on what the network itself answers, in pixel units."""

    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10


Scores = dict[str, torch.Tensor]


def prunable(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of convolutions and linear layers by parameter name, those of the last linear layer left out.

    Raises
    ------
    ValueError
        When there is none, or one holds a value that is no number.
    """
    found = prune.prunable(model)
    modules = dict(model.named_modules())
    last = [name for name in found if isinstance(modules[name.removesuffix(".weight")], nn.Linear)][-1:]
    rest = {name: weight for name, weight in found.items() if name not in last}
    if not rest:
        raise ValueError(f"{type(model).__name__}: must have a layer to prune besides its classifier")
    return rest


def kept_share(model: nn.Module, compression: float) -> float:
    """Share of the prunable weights that stays so that all parameters are ``compression`` times as many as stay.

    Raises
    ------
    ValueError
        When the compression is below 1, or what can't be pruned alone is too much.
    """
    if not compression >= 1.0:
        raise ValueError(f"compression must be at least 1, not {compression}")
    every = sum(parameter.numel() for parameter in model.parameters())
    free = sum(weight.numel() for weight in prunable(model).values())
    share = (every / compression - (every - free)) / free
    if not share > 0.0:
        raise ValueError(
            f"compression must be below {every / (every - free):.4g} for this network, not {compression:g}"
        )
    return share


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Gives running statistics and gradients back as they were, and leaves the network in evaluation mode."""
    before = {name: value.clone() for name, value in model.named_buffers()}
    try:
        yield
    finally:
        for name, value in model.named_buffers():
            value.copy_(before[name])
        model.zero_grad(set_to_none=True)
        model.eval()


def _gradients(model: nn.Module, split: Split, attack: PGDSettings | None, seed: int) -> Scores:
    """Sum over the batches of the mean loss's gradient, on adversarial examples or on the images themselves."""
    generator = torch.Generator().manual_seed(seed)
    examples = None
    if attack is not None:
        examples = AdversarialExamples(eps=attack.eps, steps=attack.steps, step=attack.step)
        examples.load_state_dict({"generator": generator.get_state()})
    images, labels = to_torch(split.images), torch.from_numpy(split.labels)
    weights = prunable(model)
    with _statistics_kept(model):
        model.zero_grad(set_to_none=True)
        for chosen in torch.randperm(len(split), generator=generator).split(_BATCH):
            x = images[chosen]
            if examples is not None:
                model.eval()
                with torch.no_grad():
                    answers = model(x)[-1].argmax(dim=1)
                x = examples.attack(model, x, answers)
            model.train()
            F.cross_entropy(model(x)[-1], labels[chosen]).backward()
        return {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad.detach().clone()
            for name, weight in weights.items()
        }


def _adversarial(
    model: nn.Module,
    split: Split,
    attack: PGDSettings,
    seed: int,
    *,
    of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Scores:
    weights = prunable(model)
    return {
        name: of(gradient, weights[name].detach()) for name, gradient in _gradients(model, split, attack, seed).items()
    }


def _random(model: nn.Module, split: Split, attack: PGDSettings, seed: int) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=generator) for name, weight in prunable(model).items()}


def _magnitude(model: nn.Module, split: Split, attack: PGDSettings, seed: int) -> Scores:
    return {name: -weight.detach().abs() for name, weight in prunable(model).items()}


def _weighted_gradient(model: nn.Module, split: Split, attack: PGDSettings, seed: int) -> Scores:
    weights = prunable(model)
    found = _gradients(model, split.take(_BATCH), None, seed)
    return {name: -(weights[name].detach() * gradient).abs() for name, gradient in found.items()}


Scorer = Callable[[nn.Module, Split, PGDSettings, int], Scores]
_SCORERS: dict[str, tuple[Scorer, bool]] = {
    "gap": (partial(_adversarial, of=lambda gradient, weight: gradient), False),
    "gap-weight": (partial(_adversarial, of=lambda gradient, weight: gradient * weight), False),
    "gap-layer": (partial(_adversarial, of=lambda gradient, weight: gradient.abs()), True),
    "random": (_random, False),
    "magnitude": (_magnitude, False),
    "magnitude-layer": (_magnitude, True),
    "gradient": (_weighted_gradient, False),
    "gradient-layer": (_weighted_gradient, True),
}
#: What decides which weights go:
#:
#: * ``gap``: the signed gradient; ``gap-weight``: times the weight, one ranking of all layers (the published
#:   ``GreedyPGDGlobalMagGrad`` and ``..._param``); ``gap-layer``: its magnitude, layer by layer
#:   (``GreedyPGDLayerMagGrad``);
#: * ``random``; ``magnitude``: the smallest go; ``gradient``: the smallest ``|w g|`` on one batch of clean images go;
#:   both also layer by layer.
CRITERIA = tuple(_SCORERS)


def _scorer(criterion: str) -> tuple[Scorer, bool]:
    """What gives a criterion's scores, and whether layers are ranked one by one."""
    if criterion not in _SCORERS:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, not {criterion!r}")
    return _SCORERS[criterion]


def scores(
    model: nn.Module, split: Split, criterion: str, *, attack: PGDSettings | None = None, seed: int = 0
) -> dict[str, torch.Tensor]:
    """How gladly each prunable weight is removed, by parameter name: the larger, the sooner.

    Parameters
    ----------
    model : Module
        Trained and dense; it is left as it was, in evaluation mode.
    split : Split
        Training images.
    criterion : str
        One of :data:`CRITERIA`.
    attack : PGDSettings or None
        By default the published one.
    seed : int
        Of the batches and random starts.

    Raises
    ------
    ValueError
        When there is no such criterion or nothing to prune.
    """
    return _scorer(criterion)[0](model, split, attack or PGDSettings(), seed)


def select(
    found: Mapping[str, torch.Tensor], criterion: str, share: float, *, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Masks of the weights that stay, by parameter name: exactly ``round(share * weights)`` of all, or of each layer.

    Parameters
    ----------
    found : dict of str to tensor
        As :func:`scores` gives them.
    criterion : str
        One of :data:`CRITERIA`; it says whether layers are ranked one by one.
    share : float
        Of the weights that stay, in 0..1.
    seed : int
        Of the order among equal scores.

    Raises
    ------
    ValueError
        When there is no such criterion or the share is outside 0..1.
    """
    _, layered = _scorer(criterion)
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share of weights that stay must be in 0..1, not {share}")
    generator = torch.Generator().manual_seed(seed)
    if layered:
        return {name: _lowest(score.flatten(), share, generator).view_as(score) for name, score in found.items()}
    together = _lowest(torch.cat([score.flatten() for score in found.values()]), share, generator)
    parts = together.split([score.numel() for score in found.values()])
    return {name: part.reshape(score.shape) for (name, score), part in zip(found.items(), parts, strict=True)}


def _lowest(score: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """1 for the lowest scores, 0 for the rest; equal ones in random order."""
    shuffled = torch.randperm(score.numel(), generator=generator)
    order = shuffled[score[shuffled].argsort(stable=True)]
    mask = torch.zeros_like(score)
    mask[order[: round(share * score.numel())]] = 1.0
    return mask


class GreedyPruning(MadeMask):
    """The piece: prunes what the run begins with, and holds the masks.

    Parameters
    ----------
    criterion : str
        One of :data:`CRITERIA`.
    compression : float
        All parameters over those that stay.
    attack : PGDSettings or None
        By default the published one.

    Raises
    ------
    ValueError
        When there is no such criterion or the compression is below 1.
    """

    def __init__(self, criterion: str, compression: float, *, attack: PGDSettings | None = None) -> None:
        super().__init__()
        _scorer(criterion)
        if not compression >= 1.0:
            raise ValueError(f"compression must be at least 1, not {compression}")
        self.rule, self.compression, self.attack = criterion, compression, attack

    def begin(self, run: Run) -> None:
        share = kept_share(run.model, self.compression)
        run.say("gradients of attacks")
        found = scores(run.model, run.split, self.rule, attack=self.attack, seed=run.seed)
        self.masks = select(found, self.rule, share, seed=run.seed)
        prune.apply(run.model, self.masks)
        super().begin(run)
