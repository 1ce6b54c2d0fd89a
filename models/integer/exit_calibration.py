"""When to leave early: the margin threshold of a branch, chosen on validation data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hw.network.network import Network
from hw.numerics import top2

__all__ = ["Curve", "calibrate", "calibrate_each", "check_labels", "curve", "with_exit_thresholds"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What each threshold would give.

    Parameters
    ----------
    thresholds : array of int64, (T,)
        Ascending; the last one lets no image of the data leave.
    accuracy : array of float64, (T,)
        Share of right answers, in 0..1.
    exit_share : array of float64, (T,)
        Share of images that leave at the branch, in 0..1.
    """

    thresholds: np.ndarray
    accuracy: np.ndarray
    exit_share: np.ndarray

    def thinned(self, points: int) -> "Curve":
        """At most about ``points`` of the thresholds, spread evenly over the exit shares, ends included."""
        chosen = np.unique(np.linspace(0, len(self.thresholds) - 1, points).round().astype(int))
        return Curve(
            thresholds=self.thresholds[chosen], accuracy=self.accuracy[chosen], exit_share=self.exit_share[chosen]
        )

    def to_dict(self) -> dict[str, list[float]]:
        """As JSON can hold it."""
        return {
            "thresholds": self.thresholds.tolist(),
            "accuracy": self.accuracy.tolist(),
            "exit_share": self.exit_share.tolist(),
        }


def curve(branch: np.ndarray, final: np.ndarray, labels: np.ndarray) -> Curve:
    """Accuracy and exit share at every threshold that makes a difference.

    An image leaves at the branch when the margin of its two largest logits is at least the threshold
    (:func:`hw.numerics.top2`).

    Parameters
    ----------
    branch, final : array of int, (N, classes)
        Raw logits of both heads for the same images.
    labels : array of int, (N,)

    Raises
    ------
    ValueError
        When the arrays don't belong together or are empty, or labels are no classes.
    """
    if branch.ndim != 2 or branch.shape != final.shape or labels.shape != branch.shape[:1] or not labels.size:
        raise ValueError(
            f"logits and labels must be of the same images, at least one, "
            f"not {branch.shape}, {final.shape} and {labels.shape}"
        )
    for name, logits in (("branch", branch), ("final", final)):
        if not np.issubdtype(logits.dtype, np.integer):
            raise ValueError(f"{name} logits must be integers, not {logits.dtype}")
    check_labels(labels, *branch.shape)
    classes, margins = top2(branch)
    gain = (classes == labels).astype(np.int64) - (top2(final)[0] == labels)
    thresholds, group = np.unique(margins, return_inverse=True)
    thresholds = np.append(thresholds, thresholds[-1] + 1)
    # Leaving are the images whose margin is at least the threshold: sums from the largest threshold down.
    leaving = np.bincount(group, minlength=len(thresholds))[::-1].cumsum()[::-1]
    gains = np.zeros(len(thresholds), dtype=np.int64)
    np.add.at(gains, group, gain)
    right = int((top2(final)[0] == labels).sum())
    return Curve(
        thresholds=thresholds,
        accuracy=(right + gains[::-1].cumsum()[::-1]) / labels.size,
        exit_share=leaving / labels.size,
    )


def check_labels(labels: np.ndarray, images: int, classes: int | None = None) -> None:
    """Refuse labels that aren't a class of each image.

    Parameters
    ----------
    labels : array
    images : int
        How many there are.
    classes : int or None
        How many there are; None: that isn't known yet.

    Raises
    ------
    ValueError
        When they are of another number or kind, or out of range.
    """
    if labels.shape != (images,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {images} integers, one an image, not {labels.dtype} {labels.shape}")
    if classes is not None and labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels must be in 0..{classes - 1}, not {labels.min()}..{labels.max()}")


def calibrate(branch: np.ndarray, final: np.ndarray, labels: np.ndarray, loss: float = 0.005) -> int:
    """The smallest threshold, that is the most exits, that costs at most ``loss`` of the accuracy without exits.

    No larger threshold may cost more either: a threshold that is good only by a lucky few images doesn't count.

    Parameters
    ----------
    branch, final : array of int, (N, classes)
        Raw logits of both heads on validation data.
    labels : array of int, (N,)
    loss : float
        In 0..1: 0.005 is half a point.

    Returns
    -------
    int
        When every threshold that lets an image leave costs more, one that lets none of these images leave.

    Raises
    ------
    ValueError
        When the arrays don't belong together, labels are no classes, or the loss is out of range.
    """
    if not 0 <= loss <= 1:
        raise ValueError(f"loss must be in 0..1, not {loss}")
    found = curve(branch, final, labels)
    allowed = found.accuracy >= found.accuracy[-1] - loss - 1e-12  # the last threshold lets no image leave
    refused = np.flatnonzero(~allowed)
    return int(found.thresholds[refused[-1] + 1 if refused.size else 0])


def calibrate_each(heads: Sequence[np.ndarray], labels: np.ndarray, loss: float) -> tuple[int, ...]:
    """Thresholds of all early exits, that together cost at most ``loss`` accuracy on validation data.

    From the last early exit to the first, each may cost an equal part, compared with what the later ones decide
    (:func:`calibrate`).

    Parameters
    ----------
    heads : sequence of int arrays, (N, classes)
        Raw logits of every head on validation data, the final ones last.
    labels : array of int, (N,)
    loss : float
        In 0..1.

    Raises
    ------
    ValueError
        When the arrays don't belong together, labels are no classes, or the loss is out of range.
    """
    found: list[int] = []
    decided = heads[-1]
    for branch in reversed(heads[:-1]):
        found.insert(0, calibrate(branch, decided, labels, loss / (len(heads) - 1)))
        classes, margins = top2(branch)
        leaves = margins >= found[0]
        # Only the class counts of what later exits decide: one step for it, none for the others.
        decided = np.eye(branch.shape[1], dtype=np.int64)[np.where(leaves, classes, top2(decided)[0])]
    return tuple(found)


def with_exit_thresholds(network: Network, *thresholds: int) -> Network:
    """The network with the given thresholds, one for each early exit.

    Raises
    ------
    ValueError
        When there are more or fewer, or a value is impossible.
    """
    if len(thresholds) != len(network.exits) - 1:
        raise ValueError(
            f"{network.name}: thresholds must be one for each of {len(network.exits) - 1} early exits, "
            f"not {len(thresholds)}"
        )
    early = tuple(replace(head, threshold=value) for head, value in zip(network.exits, thresholds, strict=False))
    return replace(network, exits=(*early, network.exits[-1]))
