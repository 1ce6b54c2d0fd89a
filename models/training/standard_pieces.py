"""The standard pieces: losses, masks, projections, values that follow a schedule, adversarial examples."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from models.datasets.splits import Split
from models.networks.residual_net import to_torch
from models.training.pieces import Outputs, Piece, Run

__all__ = [
    "AdversarialExamples",
    "CrossEntropy",
    "FixedMask",
    "MadeMask",
    "Projection",
    "Ramp",
    "Validation",
    "parameters_of",
]


def parameters_of(model: nn.Module, names: Mapping[str, Any], what: str) -> dict[str, nn.Parameter]:
    """The parameters of these names.

    Raises
    ------
    ValueError
        When there is none of a name; the message says what was to be done with it.
    """
    parameters = dict(model.named_parameters())
    for name in names:
        if name not in parameters:
            raise ValueError(f"{what} {name!r} has no parameter of that name")
    return {name: parameters[name] for name in names}


class CrossEntropy(Piece):
    """Cross-entropy of the final logits, plus that of early exits with a weight that grows linearly to
    ``schedule.exit_weight`` (Kaya et al. 2019, Shallow-Deep Networks).

    Parameters
    ----------
    ramp : bool
        False gives early exits the full weight from the start.
    """

    criterion = True

    def __init__(self, ramp: bool = True) -> None:
        self.ramp = ramp

    def loss(self, run: Run, images: torch.Tensor, labels: torch.Tensor, outputs: Outputs) -> torch.Tensor:
        full = run.schedule.exit_weight
        weight = full * (run.done + 1) / run.total if self.ramp else full
        total = F.cross_entropy(outputs[-1], labels)
        for early in outputs[:-1]:
            total = total + weight * F.cross_entropy(early, labels)
        return total


class FixedMask(Piece):
    """Weights that are masked out stay zero.

    Parameters
    ----------
    masks : dict of str to tensor
        By parameter name: 0 where a weight is zero, else 1.
    """

    def __init__(self, masks: Mapping[str, torch.Tensor]) -> None:
        self.masks = dict(masks)
        self._held: list[tuple[nn.Parameter, torch.Tensor]] = []

    def begin(self, run: Run) -> None:
        found = parameters_of(run.model, self.masks, "mask")
        self._held = [(parameter, self.masks[name].to(run.device)) for name, parameter in found.items()]

    def after_step(self, run: Run) -> None:
        for parameter, mask in self._held:
            parameter.mul_(mask)


class MadeMask(FixedMask):
    """A mask that is made of the weights with which the stage begins; a training that goes on takes it back."""

    def __init__(self) -> None:
        super().__init__({})

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self.masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        masks = {name: mask.to(self.masks[name].device) for name, mask in state["masks"].items()}
        self._held = [(weight, masks[name]) for name, (weight, _) in zip(self.masks, self._held, strict=True)]
        self.masks = masks


class Projection(Piece):
    """Forward and backward passes see projected weights, the optimizer moves the ones behind them (BinaryConnect,
    Courbariaux et al. 2015, arXiv 1511.00363).

    Parameters
    ----------
    projections : dict of str to function
        By parameter name: of a weight tensor, the tensor to use in its place. In the end the projected ones remain.
    """

    def __init__(self, projections: Mapping[str, Callable[[torch.Tensor], torch.Tensor]]) -> None:
        self.projections = dict(projections)
        self._held: dict[str, nn.Parameter] = {}
        self._behind: dict[str, torch.Tensor] = {}

    def begin(self, run: Run) -> None:
        self._held = parameters_of(run.model, self.projections, "projection")

    def before_forward(self, run: Run) -> None:
        self._behind = {name: parameter.detach().clone() for name, parameter in self._held.items()}
        self._project()

    def after_backward(self, run: Run) -> None:
        with torch.no_grad():
            for name, weights in self._behind.items():
                self._held[name].copy_(weights)
        self._behind = {}

    def end(self, run: Run) -> None:
        self._project()

    def _project(self) -> None:
        with torch.no_grad():
            for name, parameter in self._held.items():
                parameter.copy_(self.projections[name](parameter.detach()))


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A value that changes linearly or geometrically during a part of a run.

    Parameters
    ----------
    first, last : float
        Before and behind the change; both positive for a geometric one.
    begin, end : float
        Where the change begins and ends, as shares of the run in 0..1.
    geometric : bool

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    first: float
    last: float
    begin: float = 0.0
    end: float = 1.0
    geometric: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.begin <= self.end <= 1.0:
            raise ValueError(f"a ramp's begin and end must be ordered and in 0..1, not {self.begin} and {self.end}")
        if self.geometric and not min(self.first, self.last) > 0:
            raise ValueError(f"a geometric ramp's values must be positive, not {self.first} and {self.last}")

    def at(self, share: float) -> float:
        """The value when this share of the run is over."""
        if share >= self.end:
            return self.last
        if share <= self.begin:
            return self.first
        part = (share - self.begin) / (self.end - self.begin)
        if self.geometric:
            return self.first * (self.last / self.first) ** part
        return self.first + (self.last - self.first) * part


class AdversarialExamples(Piece):
    """Images are replaced by ones changed by at most eps a pixel so that the final head's cross-entropy is large.

    One step is FGSM with a random start (Wong et al. 2020, arXiv 2001.03994), several are PGD (Madry et al. 2018, arXiv
    1706.06083). The network is in evaluation mode meanwhile, so its running statistics see what it learns from only.

    Parameters
    ----------
    eps : float
        Largest change of a pixel, in 0..1.
    steps : int
    step : float or None
        Change in one step; None takes 1.25 eps for one step, else ``2.5 * eps / steps``.
    share : float
        Share of each batch that is replaced, its first images, in 0..1.

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    def __init__(self, *, eps: float, steps: int = 1, step: float | None = None, share: float = 1.0) -> None:
        for name, value in (("eps", eps), ("share", share)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be in 0..1, not {value}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if step is not None and not step > 0:
            raise ValueError(f"step must be positive, not {step}")
        self.eps, self.steps, self.share = eps, steps, share
        self.step = step if step is not None else (1.25 * eps if steps == 1 else 2.5 * eps / steps)
        self._generator = torch.Generator()

    def begin(self, run: Run) -> None:
        self._generator.manual_seed(run.seed + 1)

    def batch(self, run: Run, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = math.ceil(self.share * len(images))
        changed = self.attack(run.model, images[:count], labels[:count])
        return torch.cat([changed, images[count:]]), labels

    def attack(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Changed images (N, channels, height, width); the network is left in training mode."""
        low, high = (images - self.eps).clamp_min(0.0), (images + self.eps).clamp_max(1.0)
        noise = torch.rand(images.shape, generator=self._generator).to(images.device)
        x = torch.minimum(torch.maximum(images + (2 * noise - 1) * self.eps, low), high)
        model.eval()
        for _ in range(self.steps):
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(x)[-1], labels, reduction="sum"), x)
            x = torch.minimum(torch.maximum(x.detach() + self.step * gradient.sign(), low), high)
        model.train()
        return x.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])


class Validation(Piece):
    """Records the accuracy of every exit on held-back images after each epoch, as ``validation_<exit number>``."""

    def __init__(self, split: Split, batch: int = 512) -> None:
        self.split, self.batch_size = split, batch

    def after_epoch(self, run: Run) -> None:
        run.model.eval()
        images, labels = to_torch(self.split.images), torch.from_numpy(self.split.labels)
        right: list[int] = []
        for part, wanted in zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True):
            found = [int((head.argmax(1).cpu() == wanted).sum()) for head in run.model(part.to(run.device))]
            right = found if not right else [sum(pair) for pair in zip(right, found, strict=True)]
        for number, count in enumerate(right):
            run.record(f"validation_{number}", count / len(labels))
