"""Balanced pruning, as many weights of every output channel, against unbalanced at equal densities of all layers."""

import copy
from typing import Any

from hw.network.network import Network
from models.compression import prune
from models.compression.sparse_training import GradualPruning
from models.training.train import fit
from offramp.replications.start import Setting, check, final_accuracy, integer_accuracy, integers

__all__ = ["checks", "train"]

_DENSITY = 0.2
_LEAST = {"stem.conv.weight": 0.7}


def train(setting: Setting) -> tuple[dict[str, Any], dict[str, Network]]:
    """Prune twice, alike but for the balance; figures and integer networks."""
    data, test = setting.dataset, setting.dataset.test
    shares = prune.densities(setting.model, _DENSITY, _LEAST)
    figures: dict[str, Any] = {"density": _DENSITY, "dense_accuracy": final_accuracy(setting.model, test)}
    networks = {}
    for name, balanced in (("unbalanced", False), ("balanced", True)):
        model = copy.deepcopy(setting.model)
        fit(
            model, data.train, setting.schedule(), seed=setting.seed, progress=setting.progress, text=name,
            pieces=[GradualPruning(shares, balanced=balanced)],
        )  # fmt: skip
        network = integers(setting, model, name)
        figures[name] = {
            "accuracy": final_accuracy(model, test),
            "accuracy_int8": integer_accuracy(network, test),
            "weights": sum(int((mask != 0).sum()) for mask in prune.prunable(model).values()),
            "skew": _skew(model),
        }
        networks[name] = network
    return figures, networks


def _skew(model: Any) -> dict[str, float]:
    """By layer, the nonzero weights of the fullest output channel over their mean."""
    counts = {name: weight.flatten(1).count_nonzero(dim=1).float() for name, weight in prune.prunable(model).items()}
    return {name: float(found.max() / found.mean()) for name, found in counts.items()}


def checks(figures: dict[str, Any], measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What is claimed of balance, by the figures of :func:`train` and what the accelerator does."""
    int8 = {name: figures[name]["accuracy_int8"] for name in ("unbalanced", "balanced")}
    cycles, shares = (
        {name: measured[name][key] for name in ("unbalanced", "balanced")} for key in ("cycles", "share_of_limit")
    )
    return [
        check(
            "at equal density of every layer, balance costs at most half a point of accuracy",
            int8["unbalanced"] - int8["balanced"] <= 0.005,
            **int8,
        ),
        check("balanced, the network takes fewer cycles", cycles["balanced"] < cycles["unbalanced"], **cycles),
        check(
            "balanced, it is nearer to the limit of its products, though output channels are dealt to the PEs so that "
            "their work is even in both",
            shares["balanced"] > shares["unbalanced"],
            **shares,
        ),
    ]
