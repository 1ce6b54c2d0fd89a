"""Magnitude pruning with a density per layer."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

__all__ = ["apply", "densities", "density", "masks", "prunable"]


def prunable(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of convolutions and linear layers by parameter name.

    Raises
    ------
    ValueError
        When there is none, or one holds a value that is no number; the message names the layer.
    """
    found: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            if not torch.isfinite(module.weight).all():
                raise ValueError(f"{name}: weights must be finite, not NaN or infinite")
            found[f"{name}.weight"] = module.weight
    if not found:
        raise ValueError(f"{type(model).__name__}: must have a Conv1d, Conv2d or Linear layer to prune")
    return found


def density(model: nn.Module) -> float:
    """Share of nonzero weights among those of convolutions and linear layers, in 0..1."""
    weights = prunable(model).values()
    return sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)


def _scores(weight: torch.Tensor) -> torch.Tensor:
    """Each weight's square over the sum of the squares of all that aren't smaller, ascending: LAMP."""
    squares = np.sort(weight.detach().cpu().double().flatten().numpy() ** 2)
    return torch.from_numpy(squares / np.maximum(np.cumsum(squares[::-1])[::-1], np.finfo(np.float64).tiny))


def densities(model: nn.Module, target: float, least: Mapping[str, float] | None = None) -> dict[str, float]:
    """Density of every layer, so that their weighted mean is at most the target.

    Layers are compared by the layer-adaptive magnitudes of LAMP (Lee et al. 2021, arXiv 2010.07611), so that no scale
    of a layer, which a batch norm would undo, decides.

    Parameters
    ----------
    target : float
        Share of all weights that stay, above 0, at most 1.
    least : dict of str to float, or None
        Lowest density of some layers, by parameter name; what they take, the others give.

    Returns
    -------
    dict of str to float
        By parameter name, above 0.

    Raises
    ------
    ValueError
        When the target or a lowest density is outside its range, or the lowest densities alone exceed the target.
    """
    if not 0.0 < target <= 1.0:
        raise ValueError(f"density must be above 0 and at most 1, not {target}")
    weights = prunable(model)
    for name, share in (least or {}).items():
        if name not in weights:
            raise ValueError(f"lowest density of {name!r}: there is no weight of that name")
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"lowest density of {name} must be in 0..1, not {share}")
    sizes = {name: weight.numel() for name, weight in weights.items()}
    kept = {name: max(1, round((least or {}).get(name, 0.0) * size)) for name, size in sizes.items()}
    budget = max(len(sizes), math.floor(target * sum(sizes.values())))
    if sum(kept.values()) > budget:
        raise ValueError(f"density {target} keeps {budget} weights, but the lowest densities need {sum(kept.values())}")
    # The layers' guaranteed weights are spent; the best scores among the rest share what is left.
    scores = {name: _scores(weight)[: sizes[name] - kept[name]] for name, weight in weights.items()}
    every = torch.cat(list(scores.values()))
    owner = torch.cat([torch.full_like(values, number) for number, values in enumerate(scores.values())])
    best = owner[every.argsort(descending=True, stable=True)[: budget - sum(kept.values())]]
    return {name: (kept[name] + int((best == number).sum())) / sizes[name] for number, name in enumerate(sizes)}


def masks(model: nn.Module, shares: Mapping[str, float], *, balanced: bool = False) -> dict[str, torch.Tensor]:
    """1 for the largest weights of each layer, 0 for the rest, by parameter name; of equal weights the first stays.

    Parameters
    ----------
    shares : dict of str to float
        Density by parameter name, in 0..1.
    balanced : bool
        As many weights stay, but as evenly as can be over the output channels: no two of a layer differ by more than
        one, so that every PE has the same work, whichever channels it has.

    Raises
    ------
    ValueError
        When a share has no weight of its name or is outside 0..1.
    """
    weights = prunable(model)
    found = {}
    for name, share in shares.items():
        if name not in weights:
            raise ValueError(f"density of {name!r}: there is no weight of that name")
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"density of {name} must be in 0..1, not {share}")
        magnitudes = weights[name].detach().abs()
        count = round(share * magnitudes.numel())
        found[name] = _evenly(magnitudes, count) if balanced else _largest(magnitudes, count)
    return found


def _largest(magnitudes: torch.Tensor, count: int) -> torch.Tensor:
    """1 for the ``count`` largest."""
    flat = magnitudes.flatten()
    mask = torch.zeros_like(flat)
    mask[flat.argsort(descending=True, stable=True)[:count]] = 1.0
    return mask.reshape(magnitudes.shape)


def _evenly(magnitudes: torch.Tensor, count: int) -> torch.Tensor:
    """1 for ``count`` weights, the largest of every output channel, the odd ones where the next in size are largest."""
    rows = magnitudes.flatten(1)
    each, odd = divmod(count, len(rows))
    order = rows.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(rows).scatter(1, order[:, :each], 1.0)
    if odd:
        following = order[:, each : each + 1]
        chosen = _largest(rows.gather(1, following).flatten(), odd)
        mask.scatter_(1, following, chosen[:, None])
    return mask.reshape(magnitudes.shape)


def apply(model: nn.Module, chosen: Mapping[str, torch.Tensor]) -> None:
    """Set to zero, in place, what the masks exclude."""
    weights = prunable(model)
    with torch.no_grad():
        for name, mask in chosen.items():
            weights[name] *= mask
