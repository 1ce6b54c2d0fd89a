"""An early exit for a user's finished network: trained, calibrated, compiled, and compared with what was there."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hw.compiler.compile import compile_balanced
from hw.config import AcceleratorConfig
from hw.network.network import Network
from models.datasets.sources import Progress
from models.integer import golden
from models.integer.activity import activity
from models.integer.branch import with_branch
from offramp.intake.samples import Samples
from offramp.measure.measure import cycle_statistics
from sim import simulate, worst_case

__all__ = ["Extension", "extended"]

#: Images that are simulated, and whose activations count for the PEs' work.
_SIMULATED = 1000


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """A network on the images that are measured on."""

    accuracy: float
    exit_share: list[float]
    cycles: dict[str, float]


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
    config: AcceleratorConfig,
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

    Raises
    ------
    ValueError
        As of :func:`models.integer.branch.with_branch`, or when the network doesn't fit the config.
    """
    codes = [each.codes(network) for each in samples]
    train, validation, test = ((images, each.labels) for images, each in zip(codes, samples, strict=True))
    assert train[1] is not None
    assert validation[1] is not None
    assert test[1] is not None
    if progress is not None:
        progress(0, 3, "train the branch")
    made = with_branch(
        network, layer, (train[0], train[1]), (validation[0], validation[1]), grid=grid, exit_loss=exit_loss
    )
    if progress is not None:
        progress(1, 3, "measure")
    shares = activity(made, codes[1][:_SIMULATED])
    before, after = (
        asdict(_measured(each, {name: share for name, share in shares.items() if name in each.tensors()}, test, config))
        for each in (network, made)
    )
    thresholds = [int(head.threshold) for head in made.exits if head.threshold is not None]
    return Extension(network=made, activity=shares, before=before, after=after, thresholds=thresholds)


def _measured(
    network: Network, shares: dict[str, np.ndarray], test: tuple[np.ndarray, Any], config: AcceleratorConfig
) -> _Figures:
    program = compile_balanced(network, config, shares)
    found = golden.run(network, test[0], keep=False)
    cycles = simulate(program, test[0][:_SIMULATED]).cycles
    return _Figures(
        accuracy=found.accuracy(test[1]),
        exit_share=found.exit_share().tolist(),
        cycles=cycle_statistics(cycles) | {"bound": worst_case(program)},
    )
