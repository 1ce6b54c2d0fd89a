"""Weights of few levels: binary, ternary and 4-bit codes with one scale a tensor, and how they survive as int8.

The quantizers are those of BR-EnResNet (Li, Wang, Xin 2020, arXiv 2008.13305, and its published code). Two deviations:
the ternary scale is that of Ternary Weight Networks (Li et al. 2016, arXiv 1605.04711), the mean of the magnitudes that
stay, where the published code divides by the number of all weights; and weights that are exactly zero, which only
pruning makes, stay zero and count in no mean. Without pruning both means are the published ones.
"""

from collections.abc import Callable

import torch
from torch import nn

from models.frontends.pytorch.graph import Graph

__all__ = ["LEVELS", "channel_sparsity", "codes", "convolutions", "project", "units"]

_PRECISION = 1e-3  # share of a level that folding may err by
_THRESHOLD = 0.7  # ternary: share of the mean magnitude below which a weight becomes zero


def _binary(magnitudes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    there = (magnitudes > 0).to(magnitudes.dtype)
    return there, magnitudes.sum() / there.sum().clamp_min(1)


def _ternary(magnitudes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = magnitudes.sum() / (magnitudes > 0).sum().clamp_min(1)
    kept = ((magnitudes >= _THRESHOLD * mean) & (magnitudes > 0)).to(magnitudes.dtype)
    return kept, (magnitudes * kept).sum() / kept.sum().clamp_min(1)


def _four_bit(magnitudes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    step = (magnitudes.max() / 15).clamp_min(torch.finfo(magnitudes.dtype).tiny)
    found = ((magnitudes / step - 1) / 2).ceil().clamp(0, 7)
    return found, (magnitudes * found).sum() / found.square().sum().clamp_min(1)


_KINDS: dict[str, tuple[int, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]]] = {
    "binary": (1, _binary),
    "ternary": (1, _ternary),
    "4bit": (7, _four_bit),
}
#: The largest code of each kind of levels, by name.
LEVELS: dict[str, int] = {name: largest for name, (largest, _) in _KINDS.items()}


def codes(weight: torch.Tensor, kind: str) -> tuple[torch.Tensor, float]:
    """A weight tensor as small integers times one scale.

    * ``binary``: the signs, times the mean magnitude.
    * ``ternary``: the signs of weights of at least 0.7 times the mean magnitude, times their mean magnitude.
    * ``4bit``: -7..7 in steps of ``2 max / 15``, the lowest code zero up to half a step, with the least-squares scale
      ``sum(|w| q) / sum(q^2)``.

    Parameters
    ----------
    weight : tensor of float, any shape
    kind : str
        One of :data:`LEVELS`.

    Returns
    -------
    tuple
        Whole numbers in a tensor of the weight's type and shape, and the real value of one, not negative.

    Raises
    ------
    ValueError
        When there is no such kind.
    """
    if kind not in _KINDS:
        raise ValueError(f"levels must be one of {', '.join(_KINDS)}, not {kind!r}")
    found, scale = _KINDS[kind][1](weight.detach().abs())
    return found * weight.detach().sign(), float(scale)


def project(weight: torch.Tensor, kind: str) -> torch.Tensor:
    """The weights' nearest by the rule of :func:`codes`: codes times scale, of the same shape."""
    found, scale = codes(weight, kind)
    return found * scale


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """All convolutions by name: the first one and the projections of shortcuts too, which the published code leaves in
    float but hardware would want without exception."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}


def units(model: nn.Module, graph: Graph, kind: str) -> dict[str, torch.Tensor]:
    """The real value of one code in each output channel of a lowered network, behind folded batch norms.

    A batch norm multiplies all weights of an output channel by one gain, so codes survive it; only their unit changes.

    Parameters
    ----------
    model : Module
        Whose convolutions all have weights of these levels, as :func:`project` makes them.
    graph : Graph
        As :func:`models.frontends.pytorch.graph.lower` makes it of the network.
    kind : str
        One of :data:`LEVELS`.

    Returns
    -------
    dict of str to tensor (output channels,)
        By step whose weights are a convolution's of the network; 0 where a channel has no weight.

    Raises
    ------
    ValueError
        When weights aren't whole multiples of one value in each output channel; the message names the step.
    """
    found, there = {}, convolutions(model)
    for step in graph.steps:
        if step.name not in there:
            continue
        assert step.weight is not None
        small, _ = codes(there[step.name].weight, kind)
        peaks = small.abs().amax(dim=(1, 2, 3))
        unit = step.weight.abs().amax(dim=(1, 2, 3)) / peaks.clamp_min(1)
        deviation = (step.weight.abs() - small.abs() * unit[:, None, None, None]).abs().amax(dim=(1, 2, 3))
        if (deviation > _PRECISION * unit).any():
            raise ValueError(
                f"{step.name}: weights must be whole multiples of one value in each output channel, as {kind} ones are"
            )
        found[step.name] = torch.where(peaks > 0, unit, 0.0)
    return found


def channel_sparsity(model: nn.Module) -> float:
    """Share of input channels, over all convolutions, that no output channel has a nonzero weight for, in 0..1.

    The metric of the published attack scripts of BR-EnResNet.

    Raises
    ------
    ValueError
        When the network has no convolution.
    """
    found = [module.weight.detach() for module in convolutions(model).values()]
    if not found:
        raise ValueError(f"{type(model).__name__}: must have a Conv2d to count input channels of")
    empty = sum(int((weight == 0).all(dim=(0, 2, 3)).sum()) for weight in found)
    return empty / sum(weight.shape[1] for weight in found)
