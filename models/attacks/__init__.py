"""Attacks on a network with exits: images changed by at most eps per pixel to be wrong, unnoticed, or slow.

White-box attacks run on a differentiable model such as :class:`models.integer.surrogate.Surrogate`, gradient-free ones
on a score such as :func:`models.attacks.score.integer_score` of the integer network itself; their images always count
on the integer network. All of them maximise a sum over images, so that a batch's images don't influence each other.

A network whose gradients are masked (winners-take-all, thresholds, roundings) is as robust as the worst of all of them
says, image by image: :func:`models.attacks.suite.robustness`.
"""

from models.attacks.apgd import apgd
from models.attacks.evolution import evolution
from models.attacks.gradient import fgsm, max_average, pgd, slowdown
from models.attacks.objectives import Objective, branch_loss, dlr_loss, final_loss, joint_loss, margin_loss, slowness
from models.attacks.score import Score, integer_score
from models.attacks.square import square
from models.attacks.suite import Strength, robustness

__all__ = [
    "Objective",
    "Score",
    "Strength",
    "apgd",
    "branch_loss",
    "dlr_loss",
    "evolution",
    "fgsm",
    "final_loss",
    "integer_score",
    "joint_loss",
    "margin_loss",
    "max_average",
    "pgd",
    "robustness",
    "slowdown",
    "slowness",
    "square",
]
