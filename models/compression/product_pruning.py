"""Pruning for the accelerator's currency: the products of a nonzero weight and a nonzero activation.

A weight of a layer with large maps, or one that reads a channel that is seldom zero, costs many products; the loss may
hardly notice that it is gone. What is kept is what the loss needs most per product, over all layers at once, so no
density has to be chosen by hand.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hw.rules import require, shown
from hw.typed import checked
from models.compression.prune import prunable
from models.training.pieces import Run, WatchingPiece

__all__ = ["ProductPruning"]

_MEMORY = 0.98  # of the moving averages, per observation
_ACTIVITY_STEPS = 8  # activations are looked at in every so many steps


class ProductPruning(WatchingPiece):
    """Prunes until the expected products of an image are a given share of the network's multiply-accumulates.

    A weight's importance is its square times the mean square of its gradient, the loss's second-order change when it
    goes (diagonal empirical Fisher as in Theis et al. 2018, arXiv 1801.05787); its cost is the number of positions it
    is multiplied at times the share of nonzero activations of its input channel. Weights of the largest quotients stay.
    Both are moving averages over training. The budget falls from what it is at first to the target on a cubic course
    (Zhu and Gupta 2017, arXiv 1710.01878). The combination is this project's, of no paper. What is pruned stays zero.

    Parameters
    ----------
    share : float
        Products at the end, as a share of ``dense`` (or of all the layers' multiply-accumulates), above 0, at most 1.
    dense : float or None
        Multiply-accumulates that the share refers to; None takes those of all layers, early exits included.
    end : float
        Share of the steps, above 0 and at most 1, after which the target is reached.
    interval : int
        Steps between two rounds of pruning.
    skip : tuple of str
        Beginnings of the names of parameters that are left alone and not counted, say early exits, whose loss counts
        little at first.
    reach : dict of str to float, or None
        By the beginning of parameters' names, the share of images, above 0 and at most 1, that get so far when exits
        are taken: their products count so much less. Others' are needed by all images. ``share`` is then the mean with
        exits, and layers behind an exit keep more of their weights than those before it.

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    fixed_form = False  # statistics come with the first batch, masks with the first round

    def __init__(
        self,
        share: float,
        *,
        dense: float | None = None,
        end: float = 0.5,
        interval: int = 32,
        skip: tuple[str, ...] = (),
        reach: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("share", share), ("end", end)):
            if not 0.0 < value <= 1.0:
                raise ValueError(f"{name} of product pruning must be above 0 and at most 1, not {value}")
        if interval < 1:
            raise ValueError(f"interval of product pruning must be at least 1, not {interval}")
        if dense is not None and not dense > 0:
            raise ValueError(f"dense of product pruning must be positive, not {dense}")
        self.share, self.dense, self.interval = share, dense, interval
        for beginning, part in (reach or {}).items():
            if not 0.0 < part <= 1.0:
                raise ValueError(f"reach of {beginning!r} must be above 0 and at most 1, not {part}")
        self._end, self.skip, self.reach = end, skip, dict(reach or {})
        self._weights: dict[str, torch.Tensor] = {}
        self._inputs: dict[str, int] = {}  # channels that each layer reads
        self._state: dict[str, dict[str, torch.Tensor]] = {"fisher": {}, "active": {}, "positions": {}, "masks": {}}
        self._first: float | None = None
        self._watching = False

    def begin(self, run: Run) -> None:
        found = prunable(run.model)
        for beginning in (*self.skip, *self.reach):
            if not any(name.startswith(beginning) for name in found):
                raise ValueError(f"product pruning: no weight's name begins with {beginning!r}")
        self._weights = {name: weight for name, weight in found.items() if not name.startswith(self.skip)}
        modules = dict(run.model.named_modules())
        for name in self._weights:
            module = modules[name.removesuffix(".weight")]
            self._inputs[name] = self._weights[name].shape[1] * getattr(module, "groups", 1)
            self.watch(module, self._watcher(name))

    def _watcher(self, name: str) -> Any:
        def watch(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if self._watching and module.training:
                source = inputs[0].detach()
                share = (source != 0).float().mean(dim=[n for n in range(source.ndim) if n != 1])
                self._average("active", name, share)
                positions = output.shape[2:].numel() if output.ndim == 4 else 1
                self._state["positions"][name] = torch.tensor(float(positions))

        return watch

    def _average(self, kind: str, name: str, value: torch.Tensor) -> None:
        kept = self._state[kind].get(name)
        self._state[kind][name] = value.clone() if kept is None else kept.lerp(value, 1 - _MEMORY)

    def before_forward(self, run: Run) -> None:
        self._watching = run.done % _ACTIVITY_STEPS == 0

    def after_backward(self, run: Run) -> None:
        self._watching = False
        for name, weight in self._weights.items():
            if weight.grad is not None:
                self._average("fisher", name, weight.grad.detach() ** 2)

    def after_step(self, run: Run) -> None:
        self._hold()  # the optimizer has moved what is pruned, and a round may only choose among what is left
        last = self._end * run.total
        if (run.done + 1) % self.interval == 0 and run.done < last:
            self._prune(run, min(1.0, (run.done + self.interval) / last))
            self._hold()

    def _hold(self) -> None:
        for name, mask in self._state["masks"].items():
            self._weights[name].mul_(mask)

    def _costs(self) -> dict[str, torch.Tensor]:
        """Expected products of every weight."""
        costs = {}
        for name, weight in self._weights.items():
            reach = next((part for beginning, part in self.reach.items() if name.startswith(beginning)), 1.0)
            active = reach * self._state["active"][name] * self._state["positions"][name]
            if weight.shape[1] == 1 and len(active) > 1:  # depthwise: each output channel reads its own
                costs[name] = active.view(-1, *[1] * (weight.ndim - 1)).expand_as(weight)
            else:
                costs[name] = active.view(1, -1, *[1] * (weight.ndim - 2)).expand_as(weight)
        return costs

    def _expected(self, costs: dict[str, torch.Tensor]) -> tuple[float, float]:
        """Products now, and multiply-accumulates of all layers."""
        now = sum(float((cost * (self._weights[name] != 0)).sum()) for name, cost in costs.items())
        positions = self._state["positions"]
        return now, sum(weight.numel() * float(positions[name]) for name, weight in self._weights.items())

    def _prune(self, run: Run, part: float) -> None:
        costs = self._costs()
        now, dense = self._expected(costs)
        dense = self.dense or dense
        if self._first is None:
            self._first = now
        budget = self.share * dense + max(0.0, self._first - self.share * dense) * (1 - part) ** 3
        names = list(self._weights)
        cost = torch.cat([costs[name].flatten() for name in names])
        weights = torch.cat([self._weights[name].detach().flatten() for name in names])
        fisher = torch.cat([self._state["fisher"][name].flatten() for name in names])
        quotient = weights.double() ** 2 * fisher.double() / cost.double().clamp_min(1e-9)
        order = quotient.argsort(descending=True, stable=True)
        keep = torch.zeros_like(cost, dtype=torch.bool)
        keep[order] = cost[order].double().cumsum(0) <= budget
        keep &= weights != 0
        parts = keep.split([self._weights[name].numel() for name in names])
        self._state["masks"] = {
            name: mask.view_as(self._weights[name]).to(weights.dtype) for name, mask in zip(names, parts, strict=True)
        }

    def after_epoch(self, run: Run) -> None:
        now, dense = self._expected(self._costs())
        run.record("products_share", now / (self.dense or dense))
        weights = self._weights.values()
        kept = sum(int(weight.count_nonzero()) for weight in weights)
        run.record("density", kept / sum(weight.numel() for weight in weights))

    def state_dict(self) -> dict[str, Any]:
        return {"first": self._first, **self._state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        shapes = {name: weight.shape for name, weight in self._weights.items()}
        vectors = {name: torch.Size([count]) for name, count in self._inputs.items()}
        positions = dict.fromkeys(shapes, torch.Size())
        for kind, wanted in (("fisher", shapes), ("active", vectors), ("positions", positions), ("masks", shapes)):
            found = {name: value.shape for name, value in state[kind].items() if value.dtype == torch.float32}
            right = found == wanted or (kind == "masks" and not state[kind])  # the first round of pruning makes them
            require(right, f"{kind} must be float32 {shown(wanted)}, not {shown(found)}")
        self._first = checked(state["first"], float | None, "first")
        device = next(iter(self._weights.values())).device
        for kind in self._state:
            self._state[kind] = {
                name: value if kind == "positions" else value.to(device) for name, value in state[kind].items()
            }
