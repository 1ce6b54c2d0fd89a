"""Feedback learning: a network learns again where its decision boundaries are closest, class by class.

Song, Wang, Li 2019 (arXiv 1909.05443). Only the abstract was at hand: the decision space is analysed by criteria of
distance, what they say drives the retraining, and the inequality between classes is compensated by the proportions of
generated examples. Everything else here is a reconstruction: rounds of probing (:mod:`models.methods.boundary`),
generating as many examples as there are training images just behind the learnt boundary, and 1 to 3 epochs at a tenth
of the learning rate on both; 3 to 5 rounds.

The method makes boundaries more even and farther away; it doesn't give the robustness of adversarial training.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from hw.rules import require
from models.methods.boundary import DIRECTIONS, BoundaryDistances, Probe, class_means, directions, distances, probe
from models.networks.residual_net import to_torch
from models.training.pieces import Piece, Run

__all__ = ["Feedback", "generate_examples", "proportions"]

_TRIES = 4  # candidates for each example asked for, at most


def proportions(boundary: BoundaryDistances, target: float, gamma: float = 1.0) -> np.ndarray:
    """Share of the examples that each class gets: proportional to ``max(0, target - D)^gamma`` of its adversarial
    distance D; equal ones when every class reaches the target.

    Parameters
    ----------
    boundary : BoundaryDistances
    target : float
        Distance to reach.
    gamma : float
        0 for equal shares of all classes that don't reach it.

    Returns
    -------
    array of float, (classes,)
        In 0..1, together 1.
    """
    lacking = np.maximum(0.0, target - boundary.adversarial)
    weights = np.where(lacking > 0, lacking**gamma, 0.0)
    return weights / weights.sum() if weights.any() else np.full(len(weights), 1 / len(weights))


def generate_examples(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    counts: Sequence[int],
    *,
    target: float,
    beyond: float,
    settings: Probe,
    generator: torch.Generator,
    say: Callable[[str], None] = lambda what: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Examples just behind the boundary: ``x + (d + beyond) u`` with the label of x, where the distance d is below the
    target.

    Images of each class and their directions, all kinds in turn, are drawn at random until there are enough, or four
    times as many were tried: random directions often lead nowhere.

    Parameters
    ----------
    model : Module
        In evaluation mode.
    images : tensor (N, channels, height, width)
        In 0..1.
    labels : tensor of int64 (N,)
    counts : sequence of int
        Examples wanted of each class.
    target, beyond : float
        In pixel units, root mean square.
    settings : Probe
    generator : torch.Generator
    say : function
        Told which class it is at.

    Returns
    -------
    tuple of tensor
        Images (M, channels, height, width) in 0..1 and labels (M,), in random order; M at most the sum of the counts.
    """
    means = class_means(images, labels, len(counts))
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    for label, count in enumerate(counts):
        members = torch.nonzero(labels == label).flatten()
        missing = count if len(members) else 0
        for _ in range(_TRIES):
            if missing <= 0:
                break
            say(f"{missing} examples of class {label}")
            drawn = members[torch.randint(len(members), (missing,), generator=generator)]
            for kind, part in zip(DIRECTIONS, drawn.tensor_split(len(DIRECTIONS)), strict=True):
                x, y = images[part], labels[part]
                along = directions(model, x, y, kind, means=means, generator=generator)
                reach = distances(model, x, y, along, farthest=settings.farthest, steps=settings.steps)
                near = reach < target
                moved = x[near] + (reach[near] + beyond)[:, None, None, None] * along[near]
                found.append((moved.clamp(0.0, 1.0), y[near]))
                missing -= int(near.sum())
    if not found:
        return images[:0], labels[:0]
    every, answers = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.randperm(len(answers), generator=generator)
    return every[order], answers[order]


class Feedback(Piece):
    """The rounds, as a piece: probe and generate before the first epoch of each round, then train on both.

    Every batch gets as many generated examples behind its own images as there are images, so long as there are any: one
    epoch sees them all once. Records ``distance`` and ``inequality`` of every round's beginning (of ``probed`` training
    images, before it learns), and ``generated`` examples.

    Parameters
    ----------
    target : float
        Distance that every class shall reach, in pixel units (root mean square), positive.
    round_epochs : int
        Epochs of a round.
    beyond : float
        How far behind the boundary examples lie.
    gamma : float
        Of :func:`proportions`; None gives every class equally many, the baseline of the method.
    probed : int
        Training images whose distances are measured.
    settings : Probe or None

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    fixed_form = False  # how many images are generated, every round tells

    def __init__(
        self,
        *,
        target: float,
        round_epochs: int = 2,
        beyond: float = 0.01,
        gamma: float | None = 1.0,
        probed: int = 2000,
        settings: Probe | None = None,
    ) -> None:
        for name, value in (("target", target), ("round_epochs", round_epochs), ("probed", probed)):
            if not value > 0:
                raise ValueError(f"{name} of feedback must be positive, not {value}")
        for name, value in (("beyond", beyond), ("gamma", 0.0 if gamma is None else gamma)):
            if not value >= 0:
                raise ValueError(f"{name} of feedback must not be negative, not {value}")
        self.target, self.round_epochs, self.beyond, self.gamma = target, round_epochs, beyond, gamma
        self.probed, self.settings = probed, settings or Probe()
        self._images = self._labels = torch.zeros(0)
        self._order = torch.zeros(0, dtype=torch.int64)
        self._generator = torch.Generator()
        self._shape, self._classes = (0, 0, 0), 0

    def begin(self, run: Run) -> None:
        self._generator.manual_seed(run.seed + 2)
        height, width, channels = run.split.images.shape[1:]
        self._shape, self._classes = (channels, height, width), int(run.split.labels.max()) + 1

    def before_epoch(self, run: Run) -> None:
        if run.epoch % self.round_epochs == 0:
            self._feed_back(run)
        self._order = torch.randperm(len(self._labels), generator=self._generator)
        run.record("generated", len(self._labels))

    def batch(self, run: Run, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        begin = (run.done % run.steps) * run.schedule.batch
        chosen = self._order[begin : begin + run.schedule.batch]
        if not len(chosen):
            return images, labels
        return (
            torch.cat([images, self._images[chosen].to(run.device)]),
            torch.cat([labels, self._labels[chosen].to(run.device)]),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state(), "images": self._images, "labels": self._labels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        images, labels = state["images"], state["labels"]
        require(
            isinstance(images, torch.Tensor) and (images.dtype, images.shape[1:]) == (torch.float32, self._shape),
            f"images fed back must be float32 (N, {', '.join(map(str, self._shape))})",
        )
        require(
            isinstance(labels, torch.Tensor)
            and (labels.dtype, labels.shape) == (torch.int64, images.shape[:1])
            and bool(((labels >= 0) & (labels < self._classes)).all()),
            f"labels of images fed back must be int64 ({len(images)},), below {self._classes}",
        )
        self._generator.set_state(state["generator"])
        self._images, self._labels = images, labels

    def _feed_back(self, run: Run) -> None:
        images, labels = to_torch(run.split.images), torch.from_numpy(run.split.labels)
        classes = int(labels.max()) + 1
        device = run.device
        run.say(f"distances of {self.probed} images")
        run.model.to("cpu")  # distances are measured on the CPU, whose generator makes runs repeatable
        some = torch.randperm(len(labels), generator=self._generator)[: self.probed]
        boundary = probe(run.model, images[some], labels[some], classes=classes, settings=self.settings, seed=run.seed)
        run.record("distance", boundary.score)
        run.record("inequality", boundary.inequality)
        wanted = np.full(classes, 1 / classes)
        if self.gamma is not None:
            wanted = proportions(boundary, self.target, self.gamma)
        counts = [int(count) for count in np.floor(wanted * len(labels))]
        self._images, self._labels = generate_examples(
            run.model, images, labels, counts,
            target=self.target, beyond=self.beyond, settings=self.settings, generator=self._generator, say=run.say,
        )  # fmt: skip
        run.model.to(device)
