"""Where a sparse network's weights are, and how they move: masks of weights or of whole input channels.

The prune, redistribute and regrow rules of dynamic network rewiring (DNR, Kundu et al. 2021, arXiv 2011.03083), which
takes them from sparse momentum (Dettmers and Zettlemoyer 2019, arXiv 1907.04840). A *unit* is what is switched on and
off as one: a weight, or an input channel ``W[:, c]`` of a convolution.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["MODES", "MaskedLayer", "random_mask", "regrowth_shares", "rewired"]

#: ``irregular``: every weight is a unit; ``channel``: every input channel is.
MODES = ("irregular", "channel")

_FULLEST = 0.99  # share of a layer's free units that regrowth may fill
_REACH = 24  # units that a layer's regrowth may differ from its share to make the total come out


@dataclass(frozen=True, kw_only=True)
class MaskedLayer:
    """One layer's weights, mask and momentum, tensors (output channels, input channels, ...) of equal shape."""

    weight: torch.Tensor
    mask: torch.Tensor
    momentum: torch.Tensor


def _norms(values: torch.Tensor, mode: str) -> torch.Tensor:
    """One number a unit: magnitudes of weights, or Frobenius norms of input channels."""
    return values.abs().flatten() if mode == "irregular" else values.transpose(0, 1).flatten(1).norm(dim=1)


def _units(mask: torch.Tensor, mode: str) -> torch.Tensor:
    """Which units are on."""
    return mask.flatten() != 0 if mode == "irregular" else (mask.transpose(0, 1).flatten(1) != 0).any(dim=1)


def _mask(units: torch.Tensor, like: torch.Tensor, mode: str) -> torch.Tensor:
    """The inverse of :func:`_units`."""
    if mode == "irregular":
        return units.to(like.dtype).reshape(like.shape)
    shape = (1, -1, *(1,) * (like.dim() - 2))
    return units.to(like.dtype).reshape(shape).expand_as(like).clone()


def _size(layer: MaskedLayer, mode: str) -> int:
    """Weights of one unit."""
    return 1 if mode == "irregular" else layer.weight.numel() // layer.weight.shape[1]


def random_mask(weight: torch.Tensor, density: float, mode: str, generator: torch.Generator) -> torch.Tensor:
    """A mask with ``round(density * units)`` units on, at least one, at random.

    Parameters
    ----------
    weight : tensor (output channels, input channels, ...)
    density : float
        Above 0, at most 1.
    mode : str
        One of :data:`MODES`.
    generator : torch.Generator
        On the CPU.

    Raises
    ------
    ValueError
        When there is no such mode or the density is impossible.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    if not 0.0 < density <= 1.0:
        raise ValueError(f"density must be above 0 and at most 1, not {density}")
    count = weight.numel() if mode == "irregular" else weight.shape[1]
    units = torch.zeros(count, dtype=torch.bool)
    units[torch.randperm(count, generator=generator)[: max(1, round(density * count))]] = True
    return _mask(units.to(weight.device), weight, mode)


def regrowth_shares(layers: Sequence[MaskedLayer]) -> list[float]:
    """Each layer's share of what regrows: the mean magnitude of the momentum at its active weights, normalised.

    Without any momentum all shares are equal.
    """
    means = [float((layer.momentum.abs() * layer.mask).sum() / layer.mask.sum().clamp_min(1)) for layer in layers]
    total = sum(means)
    return [mean / total if total > 0 else 1 / len(means) for mean in means]


def _removals(layers: Sequence[MaskedLayer], rate: float, mode: str) -> list[int]:
    """Places that each layer loses, so that one at least stays."""
    active = [int(_units(layer.mask, mode).sum()) for layer in layers]
    if mode == "irregular":
        return [min(math.ceil(rate * count), count - 1) for count in active]
    return [min(round(rate * count), count - 1) for count in active]


def _wanted(portions: Sequence[float], room: Sequence[int], budget: int) -> list[float]:
    """Weights that each layer should regain: its portion; what a full layer can't take goes to the others evenly."""
    found = [0.0] * len(room)
    left, unfilled = float(budget), list(range(len(room)))
    while left > 1e-9 and unfilled:
        total = sum(portions[n] for n in unfilled)
        for n in unfilled:
            part = left * portions[n] / total if total > 0 else left / len(unfilled)
            found[n] = min(found[n] + part, float(room[n]))
        left = budget - sum(found)
        unfilled = [n for n in unfilled if found[n] < room[n] - 1e-9]
        portions = [1.0] * len(room)
    return found


def _allotted(wanted: Sequence[float], free: Sequence[int], sizes: Sequence[int], budget: int) -> list[int]:
    """Units that each layer regains: of all ways to spend the budget, or else most of it, the one with the smallest
    sum of squared differences to what is wanted, in weights; first layers first."""
    common = math.gcd(*sizes)
    total = budget // common
    costs = np.full(total + 1, np.inf)
    costs[0] = 0.0
    chosen = []
    for value, size, count in zip(wanted, sizes, free, strict=True):
        step = size // common
        most = min(count, total // step)
        # Far from what is wanted nothing is won: other layers make up for the difference in steps of a unit each.
        near = range(max(0, math.floor(value / size) - _REACH), min(most, math.ceil(value / size) + _REACH) + 1)
        best, choice = np.full(total + 1, np.inf), np.zeros(total + 1, dtype=np.int64)
        for number in near:
            moved = np.full(total + 1, np.inf)
            moved[number * step :] = costs[: total + 1 - number * step] + (number * size - value) ** 2
            better = moved < best
            best[better], choice[better] = moved[better], number
        costs = best
        chosen.append(choice)
    spent = int(np.flatnonzero(np.isfinite(costs))[-1])
    found = []
    for choice, size in zip(reversed(chosen), reversed(sizes), strict=True):
        found.append(int(choice[spent]))
        spent -= found[-1] * (size // common)
    return found[::-1]


def rewired(
    layers: Mapping[str, MaskedLayer], *, rate: float, target: int, mode: str = "irregular"
) -> dict[str, torch.Tensor]:
    """The masks after one round of pruning and regrowth.

    Each layer loses its smallest units, ``ceil(rate * active)`` weights or ``round(rate * active)`` channels by
    Frobenius norm, but keeps one. As many weights as ``target`` then lacks come back, divided over the layers by
    :func:`regrowth_shares`, where the momentum is largest: it exists at masked weights too because gradients are dense.
    At most 0.99 of a layer's free weights come back, but channels may all. Of equals the first goes and comes. The
    published code keeps the number of weights constant on average, by a smoothed correction; this one keeps it exactly.

    Parameters
    ----------
    layers : dict of str to MaskedLayer
    rate : float
        In 0..1.
    target : int
        Weights that are on in all masks together. If they had as many before they meet it exactly, else as nearly as
        units allow without exceeding it.
    mode : str
        One of :data:`MODES`.

    Raises
    ------
    ValueError
        When the rate is outside 0..1.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rewiring rate must be in 0..1, not {rate}")
    every = list(layers.values())
    units = []
    for layer, count in zip(every, _removals(every, rate, mode), strict=True):
        on = _units(layer.mask, mode)
        order = torch.where(on, _norms(layer.weight, mode), torch.inf).argsort(stable=True)
        on[order[:count]] = False
        units.append(on)
    sizes = [_size(layer, mode) for layer in every]
    budget = target - sum(int(on.sum()) * size for on, size in zip(units, sizes, strict=True))
    free = [int((~on).sum()) for on in units]
    if mode == "irregular":
        capped = [math.floor(_FULLEST * count) for count in free]
        # The cap keeps layers from filling up; where all of them together couldn't hold the weights, it doesn't apply.
        free = capped if sum(capped) >= budget else free
    room = [count * size for count, size in zip(free, sizes, strict=True)]
    counts = _allotted(_wanted(regrowth_shares(every), room, min(budget, sum(room))), free, sizes, budget)
    found = {}
    for (name, layer), on, count in zip(layers.items(), units, counts, strict=True):
        order = torch.where(on, -torch.inf, _norms(layer.momentum, mode)).argsort(descending=True, stable=True)
        on[order[:count]] = True
        found[name] = _mask(on, layer.weight, mode)
    return found
