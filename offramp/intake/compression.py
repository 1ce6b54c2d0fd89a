"""A user's float module made sparse and int8: pruned by magnitude, fine-tuned, quantized, and compared with itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils import prune as hooks

from hw.network.network import Network
from hw.rules import require
from models.compression import prune
from models.compression.calibration import calibrate
from models.compression.quantize import quantize, to_network
from models.compression.range_rules import Ranges
from models.datasets.sources import Progress
from models.datasets.splits import Split
from models.frontends.pytorch.calls import layout_of, outputs_in
from models.frontends.pytorch.graph import lower
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
    notes : tuple of str
        What a user must know of how it was made.
    """

    network: Network
    activity: dict[str, np.ndarray]
    before: dict[str, Any]
    after: dict[str, Any]
    accuracy_float: float
    epochs: list[dict[str, float]]
    notes: tuple[str, ...]


class _Trainable(nn.Module):
    """A module as training calls it: images come in its layout, and the logits of its exits go as a tuple of rows."""

    def __init__(self, module: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.module, self.layout = module, layout_of(module, shape)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(each.flatten(1) for each in outputs_in(self.module(images.reshape(-1, *self.layout))))


def sparse(
    module: nn.Module,
    name: str,
    samples: tuple[Samples, Samples, Samples],
    config: str,
    *,
    keep: float,
    epochs: int,
    seed: int,
    ranges: Ranges = "minmax",
    progress: Progress | None = None,
) -> Sparse:
    """Prune a module's weights by their magnitudes over all layers (LAMP), fine-tune, train on as int8.

    A module with operators that int8 training hasn't is calibrated instead, once it is fine-tuned; a note says so.

    Parameters
    ----------
    module : Module
        In floating point; it is changed: to float32, and weights that are computed when it is called become parameters.
    samples : tuple of 3 Samples
        With labels: learnt from, chosen by, measured on.
    config : str
        Config that cycles are of.
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
    _make_plain(module)
    dense = calibrate(module, train.images[:_CALIBRATION], name, ranges=ranges).network
    height, width, channels = dense.input.shape
    model = _Trainable(module, (height, width, channels)).eval()
    logits = predict(model, test.images)[-1]
    require(logits.shape[1] > 1, f"{name}: a module that is fine-tuned must return a logit for each class, not 1 value")
    for each in samples:
        each.check_labels(logits.shape[1])
    as_it_came = accuracy(logits, test.labels)
    before = _measured(dense, samples, config)
    notes = _notes(module, dense)
    chosen = prune.masks(model, prune.densities(model, keep))
    prune.apply(model, chosen)
    schedule, mask = Schedule(epochs=epochs, lr=0.01), FixedMask(chosen)
    metrics = fit(model, train, schedule, seed=seed, pieces=[mask], progress=progress, text="fine-tune")
    if notes:
        network = calibrate(module, train.images[:_CALIBRATION], name, ranges=ranges).network
    else:
        schedule = Schedule(epochs=max(1, epochs // 3), lr=0.001)
        image = (dense.input.scale, dense.input.zero_point)
        network = to_network(quantize(module, train, schedule, seed=seed, image=image, progress=progress), name)
    return Sparse(
        network=network,
        activity=shares_of(network, samples[1]),
        before=before,
        after=_measured(network, samples, config),
        accuracy_float=as_it_came,
        epochs=metrics,
        notes=notes,
    )


def _make_plain(module: nn.Module) -> None:
    """Let all weights be parameters of float32: those that PyTorch computes of others couldn't be kept at zero."""
    for each in module.modules():
        for name in list(getattr(each, "parametrizations", ())):
            parametrize.remove_parametrizations(each, name)
        for hook in list(each._forward_pre_hooks.values()):
            if isinstance(hook, hooks.BasePruningMethod):
                hooks.remove(each, hook._tensor_name)
    module.float()


def _notes(module: nn.Module, dense: Network) -> tuple[str, ...]:
    """Why a module can't be trained as int8, if it can't."""
    height, width, channels = dense.input.shape
    try:
        lower(module, (height, width, channels))
    except ValueError as error:
        return (f"calibrated once it was fine-tuned, not trained on as int8, which needs other operators: {error}",)
    return ()


def _split(found: Samples) -> Split:
    require(
        found.images.dtype == np.float32 and found.labels is not None,
        f"{found.origin}: images to train on must be floats or pixels, with labels, not {found.images.dtype} codes",
    )
    assert found.labels is not None
    return Split(images=found.images, labels=found.labels)


def _measured(network: Network, samples: tuple[Samples, Samples, Samples], config: str) -> dict[str, Any]:
    """Figures of a network, and how many of its weights aren't zero."""
    weights = [array for name, array in network.arrays() if name.endswith("/weight")]
    nonzero = sum(int(np.count_nonzero(array)) for array in weights)
    return {**outcome(network, samples[1], samples[2], config), "weights": nonzero}
