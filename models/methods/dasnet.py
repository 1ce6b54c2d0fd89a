"""DASNet: dynamic activation sparsity by winners-take-all dropout of whole channels, in training and inference.

Yang, Mao, Wang and Li 2019, arXiv 1909.06964. Only abstracts could be read; they fix: winners take all, no extra
trainable variables, structured sparsity, better than static pruning of feature maps, composes with weight pruning and
quantization. The rest is a reconstruction along the same authors' IPnet, one level coarser:

* Of a convolution's input, per image, the ``ceil(r * C)`` channels with the largest score ``mean |a|`` stay
  (:class:`models.networks.winners.Winners`, kind ``channels``), between the convolutions of a residual block
  (:func:`inner_layers`); nothing is rescaled, because the rule is the same in training and inference; the mask is a
  constant for autograd.
* Training starts from the trained network, with r annealed from 1 to its target over the first half
  (:data:`ANNEAL`), at 0.1 of its learning rate; r by the sweep of :func:`models.methods.jpnet.winner_rates`.
* Optionally scores are normalised by their channel's mean, ``s_c / E[s_c]``, so that a few channels that always are
  large don't always win: :func:`equalise` scales the channels themselves, which changes no result, so that neither the
  network nor the accelerator knows of it.

What is saved are the multiplications of the layer that reads the map, not of the one that writes it. The winners'
number is fixed, so cycles hardly depend on the image, and a slowdown attack has little to gain.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from models.networks.residual_net import to_torch
from models.networks.winners import Winners, attach, attached
from models.training.pieces import Piece, Run
from models.training.standard_pieces import Ramp

__all__ = [
    "ANNEAL",
    "Equalised",
    "channel_means",
    "equalise",
    "inner_layers",
    "jaccard",
    "static_channels",
    "winner_masks",
]

#: From rate 1 to the targets over the first half of the epochs.
ANNEAL = Ramp(first=0.0, last=1.0, begin=0.0, end=0.5)

_BATCH = 256


def inner_layers(model: nn.Module) -> dict[str, str]:
    """Second convolutions of residual blocks, in order, with the batch norm behind each one's first convolution.

    A block is a module with children ``first`` and ``second``, each with a convolution ``conv`` and a ``norm``, as in
    :mod:`models.networks.residual_net` and :mod:`models.networks.resnet8`.
    """
    modules = dict(model.named_modules())
    return {
        name: name.removesuffix("second.conv") + "first.norm"
        for name, module in modules.items()
        if name.endswith("second.conv") and isinstance(module, nn.Conv2d)
    }


def _scores(model: nn.Module, layers: list[str], images: np.ndarray) -> dict[str, torch.Tensor]:
    """Mean magnitude of each channel of the layers' inputs, per image: (N, channels)."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    modules = dict(model.named_modules())

    def note(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            found[name].append(inputs[0].abs().mean(dim=(2, 3)))

        return modules[name].register_forward_pre_hook(hook, prepend=True)

    hooks = [note(name) for name in layers]
    model.eval()
    try:
        with torch.no_grad():
            for first in range(0, len(images), _BATCH):
                model(to_torch(images[first : first + _BATCH]))
    finally:
        for hook in hooks:
            hook.remove()  # type: ignore[attr-defined]
    return {name: torch.cat(parts) for name, parts in found.items()}


def channel_means(model: nn.Module, images: np.ndarray) -> dict[str, torch.Tensor]:
    """Mean score ``E[mean |a_c|]`` of every channel that an inner layer reads, by layer: (channels,).

    Parameters
    ----------
    images : array of float32, (N, height, width, channels)
        At least one.
    """
    return {name: scores.mean(dim=0) for name, scores in _scores(model, list(inner_layers(model)), images).items()}


def equalise(model: nn.Module, images: np.ndarray) -> None:
    """Scale the channels inside each block, in place, so that all have the same mean score; results stay the same.

    The batch norm before is divided by ``E[s_c]`` over its mean, the weights behind are multiplied by it: ReLU lets
    positive factors through (Nagel et al. 2019, arXiv 1906.04721, use that for quantization). Channels that are zero on
    all images stay as they are. Winners by raw score then are winners by normalised score before.

    Parameters
    ----------
    images : array of float32, (N, height, width, channels)
        Typical ones.

    Raises
    ------
    ValueError
        When there is no image, or no batch norm of gain and offset where one must be.
    """
    if not len(images):
        raise ValueError("equalising needs at least 1 image, not 0")
    modules = dict(model.named_modules())
    for name, means in channel_means(model, images).items():
        norm = modules.get(inner_layers(model)[name])
        if not isinstance(norm, nn.BatchNorm2d) or not norm.affine:
            raise ValueError(f"{name}: channels must come from a BatchNorm2d with gain and offset")
        alive = means > 0
        factor = torch.where(alive, means / means[alive].mean() if alive.any() else means, 1.0)
        conv = modules[name]
        assert isinstance(conv, nn.Conv2d)
        with torch.no_grad():
            norm.weight.div_(factor)
            norm.bias.div_(factor)
            conv.weight.mul_(factor[None, :, None, None])


class Equalised(Piece):
    """Channels inside blocks are equalised before training begins (:func:`equalise`).

    Parameters
    ----------
    images : int
        First images of the training data that the means are taken over.

    Raises
    ------
    ValueError
        When that isn't positive.
    """

    def __init__(self, images: int = 1000) -> None:
        if images < 1:
            raise ValueError(f"equalising needs at least 1 image, not {images}")
        self.images = images

    def begin(self, run: Run) -> None:
        training = run.model.training
        equalise(run.model, run.split.images[: self.images])
        run.model.train(training)


def static_channels(model: nn.Module, images: np.ndarray, rates: Mapping[str, float]) -> dict[str, Winners]:
    """The comparator: for each layer always the same channels, those with the largest mean score, as many as would win.

    Parameters
    ----------
    images : array of float32, (N, height, width, channels)
        Typical ones, at least one.
    rates : dict of str to float
        Winner rates by inner layer.

    Raises
    ------
    ValueError
        When a layer isn't inside a block or a rate is out of range.
    """
    means = channel_means(model, images)
    chosen = {}
    for name, rate in rates.items():
        if name not in means:
            raise ValueError(f"{name!r} is no second convolution of a block")
        select = Winners("channels", rate).select((1, 1, len(means[name])))
        count = len(means[name]) if select is None else select.count
        best = means[name].argsort(descending=True, stable=True)[:count]
        chosen[name] = Winners("mask", channels=tuple(sorted(best.tolist())))
    return chosen


def winner_masks(model: nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    """Which channels win, by inner layer with winners: bool (N, channels).

    The network's winners let everything through meanwhile, so the layers' choices don't influence each other.
    """
    there = {name: found for name, found in attached(model).items() if found.kind == "channels"}
    attach(model, {name: Winners("channels") for name in there})
    try:
        scores = _scores(model, list(there), images)
    finally:
        attach(model, there)
    masks = {}
    for name, found in scores.items():
        select = there[name].select((1, 1, found.shape[1]))
        count = found.shape[1] if select is None else select.count
        order = found.argsort(dim=1, descending=True, stable=True)[:, :count]
        masks[name] = torch.zeros_like(found, dtype=torch.bool).scatter_(1, order, True).numpy()
    return masks


def jaccard(masks: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Mean Jaccard similarity of two images' winners: within the same class, and between classes.

    Parameters
    ----------
    masks : bool array, (N, channels)
        At least one winner each.
    labels : int array, (N,)
        Of at least two classes, one of them with two images.

    Raises
    ------
    ValueError
        When there is no pair within a class or none between classes.
    """
    ones = masks.astype(np.float64)
    common = ones @ ones.T
    sizes = ones.sum(axis=1)
    similarity = common / (sizes[:, None] + sizes[None, :] - common)
    same = labels[:, None] == labels[None, :]
    other = ~np.eye(len(labels), dtype=bool)
    if not (same & other).any() or same.all():
        raise ValueError("winners are compared within and between classes: both need a pair of images")
    return float(similarity[same & other].mean()), float(similarity[~same].mean())
