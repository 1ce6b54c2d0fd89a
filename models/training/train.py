"""The training loop, repeatable by seed; pieces (:mod:`models.training.pieces`) make a method of it."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.datasets.sources import Progress
from models.datasets.splits import Split
from models.networks.residual_net import to_torch
from models.training import resume
from models.training.hyperparameters import Schedule
from models.training.pieces import Piece, Run
from models.training.standard_pieces import CrossEntropy
from models.training.views import View, augmented

__all__ = ["Schedule", "accuracy", "fit", "predict"]

_EVALUATION_BATCH = 512
#: Seconds after which a run in progress is kept again, within an epoch.
_KEPT_EVERY = 30.0


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    model: nn.Module,
    split: Split,
    schedule: Schedule,
    *,
    seed: int,
    pieces: Sequence[Piece] = (),
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    text: str = "train",
) -> list[dict[str, float]]:
    """Train a network in place and leave it on the CPU, in evaluation mode.

    Parameters
    ----------
    model : Module
        Takes images (N, channels, height, width), returns a sequence of logits, the final ones last.
    split : Split
    schedule : Schedule
    seed : int
        Of order and augmentation, of torch's generator meanwhile, and of what pieces draw.
    pieces : sequence of Piece
        In the order in which their hooks are called.
    checkpoint : Path or None
        File that holds the run's state after the last epoch done; within an epoch one beside it is written twice a
        minute. When they are there, the run goes on from them, and ends as if it had never stopped.
    progress : function or None
        Called with steps done, steps in all and a text.

    Returns
    -------
    list of dict
        Metrics of every epoch: ``loss`` and what pieces recorded.

    Raises
    ------
    FloatingPointError
        When the loss stops being a number; the message names epoch and step.
    ValueError
        When a piece doesn't fit the network, or the checkpoint is of another run.
    """
    device = schedule.chosen_device()
    layout = torch.channels_last if schedule.channels_last else torch.contiguous_format
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    steps = math.ceil(len(split) / schedule.batch)
    optimizer = schedule.make_optimizer(model.parameters())
    run = Run(
        model=model, split=split, schedule=schedule, seed=seed, text=text, device=device, steps=steps,
        optimizer=optimizer, policy=schedule.make_policy(optimizer, steps * schedule.epochs),
        generator=torch.Generator().manual_seed(seed), progress=progress,
    )  # fmt: skip
    every = list(pieces)
    if not any(piece.criterion for piece in every):
        every.insert(0, CrossEntropy())
    with _threads(schedule.threads), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        _fit(run, every, checkpoint)
    model.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.eval()
    return run.metrics


def _fit(run: Run, pieces: list[Piece], checkpoint: Path | None) -> None:
    for piece in pieces:
        piece.begin(run)
    first = 0
    if checkpoint is not None and checkpoint.exists():
        first = resume.load(checkpoint, run, pieces)
    for epoch in range(first, run.schedule.epochs):
        run.epoch, run.recorded = epoch, {}
        for piece in pieces:
            piece.before_epoch(run)
        part = resume.load_within(checkpoint, run, pieces) if checkpoint is not None and epoch == first else None
        run.model.train()
        run.record("loss", _epoch(run, pieces, part, checkpoint))
        with torch.no_grad():
            for piece in pieces:
                piece.after_epoch(run)
        run.metrics.append(run.recorded)
        if checkpoint is not None:
            resume.save(checkpoint, run, pieces)
    with torch.no_grad():
        for piece in pieces:
            piece.end(run)


def _epoch(run: Run, pieces: list[Piece], part: resume.EpochPart | None, checkpoint: Path | None) -> float:
    """Train for one epoch, or for what a part leaves of it; returns the mean loss."""
    answers = torch.from_numpy(run.split.labels)
    part = part or resume.EpochPart(order=torch.randperm(len(run.split), generator=run.generator), losses=[])
    losses, kept = part.losses, time.monotonic()
    layout = torch.channels_last if run.schedule.channels_last else torch.contiguous_format
    view = None if run.view is None else View.of(run.schedule, len(run.split), seed=run.seed, number=run.view)
    batches = part.order.split(run.schedule.batch)
    for step, chosen in list(enumerate(batches))[len(losses) :]:
        run.chosen = chosen
        images = to_torch(run.split.images[chosen.numpy()])
        images = augmented(images, run.schedule, run.generator) if view is None else view.show(images, chosen)
        images, labels = images.to(run.device, memory_format=layout), answers[chosen].to(run.device)
        for piece in pieces:
            piece.before_forward(run)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.schedule.precision == "bfloat16"):
            for piece in pieces:
                images, labels = piece.batch(run, images, labels)
            loss = _loss(run, pieces, images, labels)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(
                f"{run.text}: the loss became {losses[-1]} in epoch {run.epoch + 1}, step {step + 1}: "
                f"a learning rate below {run.schedule.lr:g} may help"
            )
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for piece in pieces:
            piece.after_backward(run)
        run.optimizer.step()
        run.policy.step()
        with torch.no_grad():
            for piece in pieces:
                piece.after_step(run)
        run.done += 1
        run.say(f"loss {losses[-1]:.3f}")
        if checkpoint is not None and time.monotonic() - kept >= _KEPT_EVERY:
            resume.save_within(checkpoint, run, pieces, part)
            kept = time.monotonic()
    return float(np.mean(losses))


def _loss(run: Run, pieces: list[Piece], images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The sum of the pieces' losses."""
    outputs = tuple(logits.float() for logits in run.model(images))
    total: torch.Tensor | None = None
    for piece in pieces:
        found = piece.loss(run, images, labels, outputs)
        if found is not None:
            total = found if total is None else total + found
    if total is None:
        raise ValueError(f"{run.text}: a piece that is a criterion must give a loss, not None")
    return total


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
