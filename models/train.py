"""Training of networks with several exits, repeatable by seed."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.data import Split
from models.nets import Architecture, ResidualNet, to_torch
from models.sources import Progress

__all__ = ["Schedule", "accuracy", "fit", "initial", "predict"]

_EVALUATION_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how hard to train.

    Parameters
    ----------
    epochs : int
    lr : float
        Peak of the one-cycle learning rate (Smith and Topin 2019, arXiv 1708.07120), for Adam.
    batch : int
    exit_weight : float
        Weight of an early exit's loss at the end; it grows linearly (Kaya et al. 2019, Shallow-Deep Networks).
    weight_decay : float
    shift : int
        Images are moved by up to this many pixels either way.
    flip : bool
        Images are mirrored left to right at random.
    threads : int
        Processor threads. With one, equal seeds give equal weights whatever the number of cores, and networks as small
        as the demo's train fastest.

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    epochs: int
    lr: float
    batch: int = 64
    exit_weight: float = 0.5
    weight_decay: float = 1e-4
    shift: int = 0
    flip: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "lr", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("exit_weight", "weight_decay", "shift"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def initial(architecture: Architecture, seed: int) -> ResidualNet:
    """A network with random weights; equal seeds give equal weights and leave torch's own generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualNet(architecture)


def _augmented(images: torch.Tensor, schedule: Schedule, generator: torch.Generator) -> torch.Tensor:
    count, _, height, width = images.shape
    if schedule.shift:
        reach = schedule.shift
        padded = F.pad(images, (reach, reach, reach, reach))
        offsets = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
        rows = (offsets[0, :, None] + torch.arange(height))[:, None, :, None]
        columns = (offsets[1, :, None] + torch.arange(width))[:, None, None, :]
        channels = torch.arange(images.shape[1])[None, :, None, None]
        images = padded[torch.arange(count)[:, None, None, None], channels, rows, columns]
    if schedule.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def _loss(logits: Sequence[torch.Tensor], labels: torch.Tensor, weight: float) -> torch.Tensor:
    total = F.cross_entropy(logits[-1], labels)
    for early in logits[:-1]:
        total = total + weight * F.cross_entropy(early, labels)
    return total


def fit(
    model: nn.Module,
    split: Split,
    schedule: Schedule,
    *,
    seed: int,
    masks: Mapping[str, torch.Tensor] | None = None,
    on_epoch: Callable[[int], None] | None = None,
    progress: Progress | None = None,
    text: str = "train",
) -> None:
    """Train a network in place and leave it in evaluation mode.

    Parameters
    ----------
    model : Module
        Takes images (N, channels, height, width), returns a sequence of logits, the final ones last.
    split : Split
    schedule : Schedule
    seed : int
        Of order and augmentation.
    masks : dict of str to tensor, or None
        By parameter name: places where a mask is zero stay zero.
    on_epoch : function or None
        Called with the number of each epoch before it begins.
    progress : function or None
        Called with steps done, steps in all and a text.

    Raises
    ------
    FloatingPointError
        When the loss stops being a number; the message names epoch and step.
    ValueError
        When a mask has no parameter of its name.
    """
    parameters = dict(model.named_parameters())
    for name in masks or {}:
        if name not in parameters:
            raise ValueError(f"mask {name!r} has no parameter of that name")
    held = [(parameters[name], mask) for name, mask in (masks or {}).items()]
    with _threads(schedule.threads):
        _fit(model, split, schedule, seed=seed, held=held, on_epoch=on_epoch, progress=progress, text=text)
    model.eval()


def _fit(
    model: nn.Module,
    split: Split,
    schedule: Schedule,
    *,
    seed: int,
    held: list[tuple[nn.Parameter, torch.Tensor]],
    on_epoch: Callable[[int], None] | None,
    progress: Progress | None,
    text: str,
) -> None:
    images, labels = to_torch(split.images), torch.from_numpy(split.labels)
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(split) / schedule.batch)
    total = steps * schedule.epochs
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.lr, total_steps=total + 1)
    for epoch in range(schedule.epochs):
        if on_epoch:
            on_epoch(epoch)
        model.train()
        order = torch.randperm(len(split), generator=generator)
        for step, chosen in enumerate(order.split(schedule.batch)):
            done = epoch * steps + step
            batch = _augmented(images[chosen], schedule, generator)
            loss = _loss(model(batch), labels[chosen], schedule.exit_weight * (done + 1) / total)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(
                    f"{text}: the loss became {loss.item()} in epoch {epoch + 1}, step {step + 1}: "
                    f"a learning rate below {schedule.lr:g} may help"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            cycle.step()
            with torch.no_grad():
                for parameter, mask in held:
                    parameter.mul_(mask)
            if progress:
                progress(done + 1, total, f"{text}: epoch {epoch + 1}/{schedule.epochs}, loss {loss.item():.3f}")


def predict(model: nn.Module, images: np.ndarray) -> list[np.ndarray]:
    """Logits of every exit, each (N, classes) float32, in evaluation mode.

    Parameters
    ----------
    images : array of float32, (N, height, width, channels)
    """
    model.eval()
    with torch.no_grad():
        batches = [model(to_torch(part)) for part in np.array_split(images, max(1, len(images) // _EVALUATION_BATCH))]
    return [torch.cat(parts).numpy() for parts in zip(*batches, strict=True)]


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose largest logit is the label's, in 0..1."""
    return float((logits.argmax(axis=1) == labels).mean())
