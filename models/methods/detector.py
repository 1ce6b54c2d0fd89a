"""DAB's detector: two heads that disagree, or a margin out of its range, are a sign of an attack.

The score, from the logits of branch and final head, is the L1 distance of the softmaxes (D2, the "confusion" of
Shallow-Deep Networks with one internal classifier). An image is flagged whose score is above what 5 % of clean
validation images reach.

**What it doesn't cover.** An image that leaves at the branch never reaches the final head, so no detector of two heads
sees it: whoever makes the *branch* confidently wrong is early and unnoticed. The accelerator's flags are therefore

* ``out_of_range``: the margin of the exit taken is outside the range calibrated for it (:func:`with_ranges`). It covers
  every image, and needs one head only;
* ``differs``: an image that could have left early ran on, because it was drawn for an audit or time is constant, and
  the final head contradicts the branch. It covers the audited share, all in constant time.

An image that passes the branch by itself, its margin too small, is answered by the final head; its branch was unsure,
so that a disagreement tells little: it isn't flagged.

Attacks on the detector: :mod:`models.attacks.detector_attacks`. Unless those succeed unflagged clearly less often than
attacks succeed without it, it is a consistency monitor and no detector.
"""

from dataclasses import replace

import numpy as np

from hw.network.exits import DEFAULT, Conditions, Decisions
from hw.network.network import Network
from hw.numerics import top2
from models.integer import golden

__all__ = ["auroc", "confusion", "decided", "decisions", "flag_threshold", "flags", "with_ranges"]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def confusion(branch: np.ndarray, final: np.ndarray) -> np.ndarray:
    """D2: L1 distance of the heads' softmaxes, 0..2; float64 (N,).

    Parameters
    ----------
    branch, final : array of float, (N, classes)
        Logits in real units: integer ones times the scale of their tensors.
    """
    return np.abs(_softmax(branch.astype(np.float64)) - _softmax(final.astype(np.float64))).sum(axis=1)


def auroc(clean: np.ndarray, attacked: np.ndarray) -> float:
    """Probability that an attacked image scores above a clean one, ties counted half: the area under the ROC curve.

    Parameters
    ----------
    clean, attacked : array of float, (N,), (M,)
        Scores; at least one each.

    Raises
    ------
    ValueError
        When either is empty.
    """
    if not clean.size or not attacked.size:
        raise ValueError(f"a ROC curve needs clean and attacked images, not {clean.size} and {attacked.size}")
    ordered = np.sort(clean)
    below = np.searchsorted(ordered, attacked, side="left")
    upto = np.searchsorted(ordered, attacked, side="right")
    return float((below + upto).mean() / (2 * clean.size))


def flag_threshold(clean: np.ndarray, rate: float = 0.05) -> float:
    """The lowest threshold that at most this share of clean scores exceed.

    Parameters
    ----------
    clean : array of float, (N,)
        Scores of validation images; at least one.
    rate : float
        False positives allowed, in 0..1.

    Raises
    ------
    ValueError
        When there is no score or the rate is out of range.
    """
    if not clean.size:
        raise ValueError("a flag's threshold needs at least 1 clean score, not 0")
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate of false positives must be in 0..1, not {rate}")
    allowed = int(np.floor(rate * clean.size + 1e-9))
    return float(np.sort(clean)[max(0, clean.size - 1 - allowed)])


def with_ranges(network: Network, codes: np.ndarray, rate: float = 0.05) -> Network:
    """The network with margin ranges for all exits: of the images that leave there, half the rate is below, half above.

    An exit that no image leaves at keeps its range.

    Parameters
    ----------
    codes : int8 array, (N, height, width, channels)
        Clean validation images.
    rate : float
        False positives allowed, in 0..1.

    Raises
    ------
    ValueError
        When the rate is out of range.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate of false positives must be in 0..1, not {rate}")
    result = golden.run(network, codes, keep=False)
    exits = list(network.exits)
    for number, head in enumerate(exits):
        margins = np.sort(result.margins[result.exit_index == number, number])
        if margins.size:
            cut = int(np.floor(rate / 2 * margins.size + 1e-9))
            exits[number] = replace(head, low=int(margins[cut]), high=int(margins[margins.size - 1 - cut]))
    return replace(network, exits=tuple(exits))


def decisions(network: Network, codes: np.ndarray, conditions: Conditions = DEFAULT) -> Decisions:
    """What the accelerator reports of each image: :func:`decided` of what the golden model says.

    Parameters
    ----------
    codes : int8 array, (N, height, width, channels)
    conditions : Conditions
    """
    return decided(network, golden.run(network, codes, keep=False), conditions)


def decided(network: Network, result: golden.Result, conditions: Conditions = DEFAULT) -> Decisions:
    """What the accelerator reports of each image: the rule of :mod:`hw.network.exits` on the golden model's logits.

    Parameters
    ----------
    result : golden.Result
        Of N images.
    conditions : Conditions
        Audits and constant time; without a deadline, which needs cycles.

    Raises
    ------
    ValueError
        When there is a deadline.
    """
    if conditions.deadline:
        raise ValueError(f"decisions with a deadline need cycles: deadline must be 0, not {conditions.deadline}")
    made = Decisions(len(result.classes), conditions)
    never = np.zeros(len(result.classes), dtype=bool)
    for number, head in enumerate(network.exits):
        classes, margins = top2(result.logits[number])
        if head.threshold is None:
            made.stop(number, head, classes, margins)
        else:
            made.branch(number, head, classes, margins, never)
    return made


def flags(made: Decisions) -> np.ndarray:
    """The accelerator's flag: bool (N,), margin out of range or heads that differ."""
    return made.out_of_range | made.differs
