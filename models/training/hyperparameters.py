"""How long and how hard a network is trained: optimizer, learning rate, batches, augmentation."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["OPTIMIZERS", "POLICIES", "Schedule"]

#: Optimizers by name: AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), SGD with momentum, whose weight decay is an
#: L2 penalty, and Adadelta (Zeiler 2012, arXiv 1212.5701).
OPTIMIZERS = ("adamw", "sgd", "adadelta")
#: Courses of the learning rate: one cycle (Smith and Topin 2019, arXiv 1708.07120), half a cosine from the peak to 0
#: (Loshchilov and Hutter 2017, arXiv 1608.03983), a tenth at every milestone, or the peak throughout.
POLICIES = ("one-cycle", "cosine", "steps", "constant")

_DROP = 0.1  # factor at a milestone
_MOST_THREADS = 1024  # that a process surely gets: OpenMP ends the process when it can't have as many as it is told


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how hard to train.

    Parameters
    ----------
    epochs : int
    lr : float
        Peak of the learning rate.
    batch : int
    optimizer : str
        One of :data:`OPTIMIZERS`.
    policy : str
        One of :data:`POLICIES`: the learning rate's course over the steps.
    milestones : tuple of float
        Shares of all steps, in 0..1, at which the policy ``steps`` drops to a tenth.
    momentum : float
        Of SGD, in 0..1.
    exit_weight : float
        Weight of an early exit's loss at the end; it grows linearly (Kaya et al. 2019, Shallow-Deep Networks).
    weight_decay : float
    shift : int
        Images are moved by up to this many pixels either way.
    flip : bool
        Images are mirrored left to right at random.
    views : int
        Every image has so many fixed views (:class:`models.training.views.View`), drawn by the seed as ``shift`` and
        ``flip`` say; each epoch shows the next one, and after the last the first again. 0 draws anew in every epoch.
    threads : int
        Processor threads. With one, equal seeds give equal weights whatever the number of cores, and networks as small
        as the demo's train fastest.
    channels_last : bool
        Maps are kept with their channels innermost, which convolutions on CPUs with 16 channels or more prefer.
    precision : str
        ``float32``, or ``bfloat16`` for products and activations, which is quicker where the processor has it; weights,
        their gradients and losses are float32 all the same.
    device : str
        ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    epochs: int
    lr: float
    batch: int = 64
    optimizer: str = "adamw"
    policy: str = "one-cycle"
    milestones: tuple[float, ...] = (0.5, 0.75)
    momentum: float = 0.9
    exit_weight: float = 0.5
    weight_decay: float = 1e-4
    shift: int = 0
    flip: bool = False
    views: int = 0
    threads: int = 1
    channels_last: bool = False
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "lr", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("exit_weight", "weight_decay", "shift", "views"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.threads > _MOST_THREADS:
            raise ValueError(f"threads must be at most {_MOST_THREADS}, not {self.threads}")
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum must be at least 0 and below 1, not {self.momentum}")
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("policy", POLICIES),
            ("precision", ("float32", "bfloat16")),
            ("device", ("cpu", "cuda", "auto")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if not all(0.0 <= milestone <= 1.0 for milestone in self.milestones):
            raise ValueError(f"milestones must be in 0..1, not {self.milestones}")

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adadelta
        return kind(parameters, lr=self.lr, weight_decay=self.weight_decay)

    def make_policy(self, optimizer: torch.optim.Optimizer, total: int) -> torch.optim.lr_scheduler.LRScheduler:
        """The course of the learning rate over ``total`` steps."""
        if self.policy == "one-cycle":
            return torch.optim.lr_scheduler.OneCycleLR(
                optimizer, self.lr, total_steps=total + 1, cycle_momentum=self.optimizer == "adamw"
            )

        def factor(step: int) -> float:
            if self.policy == "cosine":
                return 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
            if self.policy == "steps":
                return _DROP ** sum(step >= milestone * total for milestone in self.milestones)
            return 1.0

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def chosen_device(self) -> torch.device:
        """Where to train.

        Raises
        ------
        ValueError
            When a GPU is asked for and there is none.
        """
        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise ValueError("device must be cpu or auto where there is no GPU, not 'cuda'")
        return torch.device("cuda" if there and self.device != "cpu" else "cpu")
