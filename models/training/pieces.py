"""What a training loop is put together from: one loop (:func:`models.training.train.fit`), and pieces that change it.

A piece is an object with hooks; each is called in the order in which the pieces are given, and does nothing unless a
class overrides it. A method of compression or robustness is a handful of pieces, so methods compose: a mask, a
projection, adversarial examples and a penalty in one list train a pruned, quantized, robust, sparse network.

What happens, and when::

    begin                              optimizer and learning rate are there, nothing is trained yet
    for every epoch:
        before_epoch                   values that follow a schedule
        for every batch:
            before_forward             swap projected weights in
            batch                      other images or labels: adversarial, noisy, mixed
            outputs = model(images)    in training mode; a tuple of logits, the final ones last
            loss                       the losses of all pieces are added (see below), then backward
            after_backward             swap the weights back, change gradients
            optimizer and learning rate take a step
            after_step                 set masked weights to zero, project
        after_epoch                    rewire, grow a factor, measure; what it records is in the metrics
    end                                leave the network as it is to be used

The loss is the sum of what the pieces give. A piece whose ``criterion`` is true gives the loss on the labels; where
none is, :class:`models.training.standard_pieces.CrossEntropy` of all exits stands in. Penalties leave ``criterion``
false.

A piece that keeps anything between batches returns it from ``state_dict`` (numbers, strings, tensors, lists, tuples and
dicts of them), so that a run resumes exactly. A piece that draws at random makes a ``torch.Generator`` of its own in
``begin``, seeded from ``run.seed``, and keeps its state; modules may use torch's global generator: the loop seeds,
saves and restores it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from models.datasets.sources import Progress
from models.datasets.splits import Split
from models.training.hyperparameters import Schedule

__all__ = ["Outputs", "Piece", "Run", "WatchingPiece"]

#: Logits (N, classes) of every exit, the final ones last.
Outputs = tuple[torch.Tensor, ...]


@dataclass(kw_only=True)
class Run:
    """A training run in progress, as pieces see it.

    Parameters
    ----------
    model : Module
        On ``device``.
    split : Split
        What is learnt from.
    schedule : Schedule
    seed : int
    text : str
        What the run calls itself.
    device : torch.device
    steps : int
        Batches in one epoch.
    optimizer, policy : objects of torch
        The optimizer and the learning rate's course.
    generator : torch.Generator
        Of order and augmentation, on the CPU; pieces leave it alone.
    epoch : int
        From 0; the one in progress.
    done : int
        Steps done, over all epochs.
    chosen : tensor of int64
        Indices, in the split, of the batch in progress.
    metrics : list of dict
        Of every epoch done: ``loss`` (mean over its steps), and what pieces recorded.
    progress : function or None
        Called with steps done, steps in all, and what is going on.
    """

    model: nn.Module
    split: Split
    schedule: Schedule
    seed: int
    text: str
    device: torch.device
    steps: int
    optimizer: torch.optim.Optimizer
    policy: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    epoch: int = 0
    done: int = 0
    chosen: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    metrics: list[dict[str, float]] = field(default_factory=list)
    recorded: dict[str, float] = field(default_factory=dict)
    progress: Progress | None = None

    @cached_property
    def data_digest(self) -> "hashlib._Hash":
        """Digest of images and labels: there may be hundreds of megabytes of them."""
        digest = hashlib.sha256()
        for array in (self.split.images, self.split.labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.steps * self.schedule.epochs

    @property
    def view(self) -> int | None:
        """Which of its fixed views the images show in this epoch; None where each epoch draws anew."""
        return self.epoch % self.schedule.views if self.schedule.views else None

    @property
    def epoch_share(self) -> float:
        """How much of the run's epochs is over: 0 in the first, 1 in the last, 1 if there is only one."""
        return self.epoch / (self.schedule.epochs - 1) if self.schedule.epochs > 1 else 1.0

    def record(self, name: str, value: float) -> None:
        """Put a figure into the metrics of the epoch in progress; ``loss`` is taken."""
        self.recorded[name] = float(value)

    def say(self, what: str) -> None:
        """Tell whoever watches what takes so long."""
        if self.progress:
            self.progress(self.done, self.total, f"{self.text}: epoch {self.epoch + 1}/{self.schedule.epochs}, {what}")


class Piece:
    """A part of a training run; see the module's text for what is called when."""

    #: Whether :meth:`loss` is the loss on the labels, instead of plain cross-entropy.
    criterion: ClassVar[bool] = False
    #: Whether what :meth:`state_dict` returns has the same names, types, lengths and shapes from :meth:`begin` to
    #: :meth:`end`: it is checked so when a run resumes. Otherwise :meth:`load_state_dict` checks.
    fixed_form: ClassVar[bool] = True

    def begin(self, run: Run) -> None:
        """Before the first epoch, also of a run that resumes; ``load_state_dict`` follows then.

        Raises
        ------
        ValueError
            When the piece doesn't fit the network.
        """

    def before_epoch(self, run: Run) -> None:
        """Before an epoch."""

    def before_forward(self, run: Run) -> None:
        """Before a batch is looked at."""

    def batch(self, run: Run, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The images (N, channels, height, width), in 0..1, and labels (N,) to learn from instead."""
        return images, labels

    def loss(self, run: Run, images: torch.Tensor, labels: torch.Tensor, outputs: Outputs) -> torch.Tensor | None:
        """A loss, a tensor of one number, or None for none."""
        return None

    def after_backward(self, run: Run) -> None:
        """Between the gradients and the optimizer's step."""

    def after_step(self, run: Run) -> None:
        """After the optimizer's step, without gradients."""

    def after_epoch(self, run: Run) -> None:
        """After an epoch, without gradients; ``run.record`` puts figures into its metrics."""

    def end(self, run: Run) -> None:
        """After the last epoch, without gradients. The state that is saved is the one before."""

    def state_dict(self) -> dict[str, Any]:
        """What the piece keeps between epochs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned.

        Raises
        ------
        ValueError
            When the run can't have been in that state.
        """


class WatchingPiece(Piece):
    """A piece that sees what modules of the network compute, until the run ends."""

    def __init__(self) -> None:
        self._hooks: list[RemovableHandle] = []

    def watch(self, module: nn.Module, hook: Callable[..., None]) -> None:
        """Call a function of module, inputs and output whenever the module has computed."""
        self._hooks.append(module.register_forward_hook(hook))

    def end(self, run: Run) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
