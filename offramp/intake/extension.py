"""An early exit for a user's finished network: trained, calibrated, compiled, and compared with what was there."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.network.network import Network
from models.datasets.sources import Progress
from models.integer.branch import check_branch, with_branch
from offramp.intake.outcome import outcome, shares_of
from offramp.intake.samples import Samples

__all__ = ["Extension", "extended"]


@dataclass(frozen=True, kw_only=True)
class Extension:
    """A network with one more exit.

    Parameters
    ----------
    network : Network
    activity : dict of str to float array (channels,)
    before, after : dict
        ``accuracy``, ``exit_share`` and ``cycles`` without and with the new exit, on the same images.
    thresholds : list of int
        Of all early exits.
    """

    network: Network
    activity: dict[str, np.ndarray]
    before: dict[str, Any]
    after: dict[str, Any]
    thresholds: list[int]


def extended(
    network: Network,
    layer: str,
    samples: tuple[Samples, Samples, Samples],
    config: str,
    *,
    grid: int | None,
    exit_loss: float,
    progress: Progress | None = None,
) -> Extension:
    """Add an exit after a layer: :func:`models.integer.branch.with_branch`, measured on images of its own.

    Parameters
    ----------
    samples : tuple of 3 Samples
        With labels: learnt from, chosen by, measured on.
    config : str
        Config that cycles are of.

    Raises
    ------
    ValueError
        As of :func:`models.integer.branch.with_branch`; or when the network doesn't fit the config, which is found out
        before anything is trained.
    """
    check_branch(network, layer, grid)
    for each in samples:
        each.check_labels(network.classes)
    train, validation = ((each.codes(network), each.labels) for each in samples[:2])
    assert train[1] is not None
    assert validation[1] is not None
    if progress is not None:
        progress(0, 3, "measure")
    before = outcome(network, samples[1], samples[2], config)
    if progress is not None:
        progress(1, 3, "train the branch")
    made = with_branch(
        network, layer, (train[0], train[1]), (validation[0], validation[1]), grid=grid, exit_loss=exit_loss
    )
    if progress is not None:
        progress(2, 3, "measure")
    after = outcome(made, samples[1], samples[2], config)
    thresholds = [int(head.threshold) for head in made.exits if head.threshold is not None]
    return Extension(
        network=made, activity=shares_of(made, samples[1]), before=before, after=after, thresholds=thresholds
    )
