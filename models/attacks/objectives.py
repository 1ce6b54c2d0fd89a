"""What attacks maximise: of the logits of every exit and the labels, one number an image.

They are functions of a model's differentiable outputs; those that attack a detector of disagreeing heads are in
:mod:`models.attacks.detector_attacks`.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

__all__ = ["Objective", "branch_loss", "dlr_loss", "final_loss", "joint_loss", "margin_loss", "slowness"]

#: Of logits of every exit and labels, how well the attack does: one number an image, to be maximised.
Objective = Callable[[Sequence[torch.Tensor], torch.Tensor], torch.Tensor]


def final_loss(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the final head: an attacker who doesn't know of the exits."""
    return F.cross_entropy(logits[-1], labels, reduction="none")


def branch_loss(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the first head: wrong answers that leave early and never reach the second head."""
    return F.cross_entropy(logits[0], labels, reduction="none")


def joint_loss(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of all heads: an attacker who knows the exits and wants all of them wrong
    (the "average" form of Hu et al. 2020, Triple Wins)."""
    return torch.stack([F.cross_entropy(head, labels, reduction="none") for head in logits]).mean(dim=0)


def slowness(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Negative cross-entropy of the early heads to the uniform distribution: nothing is sure enough to leave
    (DeepSloth, Hong et al. 2021, arXiv 2010.02432)."""
    return torch.stack([head.log_softmax(dim=1).mean(dim=1) for head in logits[:-1]]).mean(dim=0)


def _best_other(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The largest logit of a wrong class."""
    return logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)


def margin_loss(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Largest wrong logit of the final head less the right one: positive when the answer is wrong
    (Carlini and Wagner 2017, arXiv 1608.04644, without a bound). Its gradient doesn't vanish for sure networks."""
    final = logits[-1]
    return _best_other(final, labels) - final.gather(1, labels[:, None])[:, 0]


def dlr_loss(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Difference-of-logits ratio of the final head (Croce and Hein 2020, arXiv 2003.01690): the margin in units of
    the distance between the first and the third logit, so that no scale of the logits hides a gradient.

    Needs three classes.
    """
    ordered = logits[-1].sort(dim=1, descending=True).values
    return margin_loss(logits, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)
