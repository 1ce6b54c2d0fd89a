"""A user's float module made sparse and int8: pruned by magnitude, fine-tuned, quantized, and compared with itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hw.config import AcceleratorConfig
from hw.network.network import Network
from hw.rules import require
from models.compression import prune
from models.compression.calibration import calibrate
from models.compression.quantize import image_quantization, quantize, to_network
from models.compression.ranges import Ranges
from models.datasets.sources import Progress
from models.datasets.splits import Split
from models.frontends.pytorch.calls import outputs_in
from models.training.standard_pieces import FixedMask
from models.training.train import Schedule, accuracy, fit, predict
from offramp.intake.outcome import outcome, shares_of
from offramp.intake.samples import Samples

__all__ = ["Sparse", "sparse"]

#: Images that calibrate.
_CALIBRATION = 512


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """A network that was made sparse, and what that changed.

    Parameters
    ----------
    network : Network
    activity : dict of str to float array (channels,)
    before, after : dict
        ``accuracy`` of the integers, ``exit_share``, ``cycles``, ``weights`` that aren't zero: of the dense network,
        calibrated alone, and of the sparse one, on the same images.
    accuracy_float : float
        Of the module as it came, 0..1.
    epochs : list of dict
        Metrics of every epoch of fine-tuning.
    """

    network: Network
    activity: dict[str, np.ndarray]
    before: dict[str, Any]
    after: dict[str, Any]
    accuracy_float: float
    epochs: list[dict[str, float]]


class _WithExits(nn.Module):
    """A module that returns the logits of its exits as a tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return outputs_in(self.module(images))


def sparse(
    module: nn.Module,
    name: str,
    samples: tuple[Samples, Samples, Samples],
    config: AcceleratorConfig,
    *,
    keep: float,
    epochs: int,
    seed: int,
    ranges: Ranges = "minmax",
    progress: Progress | None = None,
) -> Sparse:
    """Prune a module's weights by their magnitudes over all layers (LAMP), fine-tune, train on as int8.

    Parameters
    ----------
    module : Module
        In float; it is changed.
    samples : tuple of 3 Samples
        With labels: learnt from, chosen by, measured on.
    keep : float
        Share of the weights that stay, above 0, at most 1.
    epochs : int
        Of fine-tuning; a third as many train on as int8.
    ranges : str
        How ranges of the dense network are chosen (:mod:`models.compression.ranges`); the sparse one learns with its.

    Raises
    ------
    ValueError
        When the module can't run on the accelerator, has nothing to prune, images are codes, or it doesn't fit.
    FloatingPointError
        When training diverges.
    """
    train, _, test = (_split(each) for each in samples)
    model, image = _WithExits(module), image_quantization(train.images)
    logits = predict(model.eval(), test.images)[-1]
    for each in samples:
        each.check_labels(logits.shape[-1])
    as_it_came = accuracy(logits, test.labels)
    dense = calibrate(model, train.images[:_CALIBRATION], name, ranges=ranges).network
    before = _measured(dense, samples, config)
    chosen = prune.masks(model, prune.densities(model, keep))
    prune.apply(model, chosen)
    schedule, mask = Schedule(epochs=epochs, lr=0.01), FixedMask(chosen)
    metrics = fit(model, train, schedule, seed=seed, pieces=[mask], progress=progress, text="fine-tune")
    twin = quantize(
        model, train, Schedule(epochs=max(1, epochs // 3), lr=0.001), seed=seed, image=image, progress=progress
    )
    network = to_network(twin, name)
    return Sparse(
        network=network,
        activity=shares_of(network, samples[1]),
        before=before,
        after=_measured(network, samples, config),
        accuracy_float=as_it_came,
        epochs=metrics,
    )


def _split(found: Samples) -> Split:
    require(
        found.images.dtype == np.float32 and found.labels is not None,
        f"{found.origin}: images to train on must be floats or pixels, with labels, not {found.images.dtype} codes",
    )
    assert found.labels is not None
    return Split(images=found.images, labels=found.labels)


def _measured(network: Network, samples: tuple[Samples, Samples, Samples], config: AcceleratorConfig) -> dict[str, Any]:
    """Figures of a network, and how many of its weights aren't zero."""
    weights = [array for name, array in network.arrays() if name.endswith("/weight")]
    nonzero = sum(int(np.count_nonzero(array)) for array in weights)
    return {**outcome(network, samples[1], samples[2], config), "weights": nonzero}
