"""DNR's claims on ResNet-8 of half the width: sparse from the first step, and robust."""

import copy
import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from hw.network.network import Network
from models.compression.prune import apply, masks
from models.datasets.splits import Split
from models.frontends.pytorch.graph import lower
from models.methods.dnr import DynamicL2, Rewiring, layers_of
from models.methods.robust import AdversarialLoss
from models.training.pieces import Piece
from models.training.standard_pieces import AdversarialExamples, FixedMask
from models.training.train import fit
from offramp.replications.start import Setting, check, final_accuracy, integers
from offramp.replications.toy import EPS, robustness, under_attack

__all__ = ["checks", "train"]

_DENSITY, _CHANNEL_DENSITY = 0.2, 0.5
_LR = 0.1


def train(setting: Setting) -> tuple[dict[str, Any], dict[str, Network]]:
    """Train by DNR and its baselines with FGSM from a random start, attack; returns figures and integer networks."""
    data, test, eps = setting.dataset, setting.dataset.test, EPS[setting.dataset.name]
    figures: dict[str, Any] = {"eps": eps, "density": _DENSITY, "channel_density": _CHANNEL_DENSITY}
    kept: dict[str, nn.Module] = {}

    def run(
        name: str, pieces: Sequence[Piece], *, beta: float = 0.5, epochs: int | None = None
    ) -> list[dict[str, float]]:
        model = kept.setdefault(name, copy.deepcopy(setting.model))
        loss = AdversarialLoss(AdversarialExamples(eps=eps), clean=beta, adversarial=1 - beta)
        schedule = setting.schedule(epochs, lr=_LR, optimizer="sgd", policy="cosine", weight_decay=5e-4)
        metrics = fit(
            model, data.train, schedule, seed=setting.seed, pieces=[loss, *pieces], progress=setting.progress, text=name
        )
        clean, pgd = final_accuracy(model, test), under_attack(model, test, eps, seed=setting.seed)
        figures[name] = {"clean": clean, "pgd20": pgd, "mean": (clean + pgd) / 2, "products": _products(model, test)}
        return metrics

    rewired = run("dnr", [Rewiring(_DENSITY), DynamicL2(start=setting.epochs // 2)])
    run("static", [Rewiring(_DENSITY, rate=0.0)])
    half = setting.epochs // 2
    run("one-shot", [], epochs=half)
    shares = dict.fromkeys(layers_of(kept["one-shot"], "irregular"), _DENSITY)
    found = masks(kept["one-shot"], shares)
    apply(kept["one-shot"], found)
    run("one-shot", [FixedMask(found)], epochs=setting.epochs - half)
    channels = run("channel", [Rewiring(_CHANNEL_DENSITY, mode="channel"), DynamicL2(start=setting.epochs // 2)])
    equal = figures["channel"]["products"] / _products(setting.model, test)
    run("equal-products", [Rewiring(min(1.0, equal)), DynamicL2(start=setting.epochs // 2)])
    for beta in (0.3, 0.7):
        run(f"beta-{beta:g}", [Rewiring(_DENSITY), DynamicL2(start=setting.epochs // 2)], beta=beta)
    figures["nonzero"] = {name: _spread(epochs) for name, epochs in (("dnr", rewired), ("channel", channels))}
    figures["densities"] = {
        name.removeprefix("density of "): value for name, value in rewired[-1].items() if name.startswith("density of ")
    }
    network = integers(
        setting, kept["dnr"], "dnr",
        pieces=lambda twin: [AdversarialLoss(AdversarialExamples(eps=eps), clean=0.5, adversarial=0.5)],
    )  # fmt: skip
    figures["int8"] = {
        "robustness": robustness(network, test, eps, seed=setting.seed),
    }
    return figures, {"dnr": network}


def _spread(epochs: list[dict[str, float]]) -> list[float]:
    """Least and most nonzero weights over the epochs."""
    found = [epoch["nonzero"] for epoch in epochs]
    return [min(found), max(found)]


def _products(model: nn.Module, test: Split) -> float:
    """Multiply-accumulates of an image with the nonzero weights of the convolutions, if no activation were zero."""
    return float(
        sum(
            int(step.weight.count_nonzero()) * math.prod(step.shape[:2])
            for step in lower(model.eval(), test.images.shape[1:]).steps
            if step.kind == "conv" and step.weight is not None
        )
    )


def checks(figures: dict[str, Any], measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What is claimed, and whether it holds by these figures."""
    means = {name: figures[name]["mean"] for name in ("dnr", "static", "one-shot")}
    betas = [figures[name] for name in ("beta-0.3", "dnr", "beta-0.7")]
    clean, pgd = ([found[key] for found in betas] for key in ("clean", "pgd20"))
    attacked = figures["int8"]["robustness"]
    densities = list(figures["densities"].values())
    return [
        check(
            "the number of nonzero weights is constant",
            all(low == high for low, high in figures["nonzero"].values()),
            **figures["nonzero"],
        ),
        check(
            "rewiring beats a random mask that stays, and one-shot magnitude pruning after half of the epochs, in the "
            "mean of clean and PGD-20 accuracy",
            means["dnr"] >= max(means["static"], means["one-shot"]),
            **means,
            # Momentum moves weights to early layers, where each is used at more positions.
            products_over_static=figures["dnr"]["products"] / figures["static"]["products"],
        ),
        check(
            "densities of layers become uneven: the densest is more than twice as dense as the sparsest",
            max(densities) > 2 * min(densities),
            **figures["densities"],
        ),
        check(
            "more weight on clean images raises the clean accuracy and lowers that under PGD-20",
            clean == sorted(clean) and pgd == sorted(pgd, reverse=True),
            clean=clean,
            pgd20=pgd,
        ),
        check(
            "single weights beat channels that begin with as many multiply-accumulates, in the mean of clean and "
            "PGD-20 accuracy",
            figures["equal-products"]["mean"] >= figures["channel"]["mean"],
            **{f"{name}_mean": figures[name]["mean"] for name in ("equal-products", "channel")},
            **{f"{name}_products": figures[name]["products"] for name in ("equal-products", "channel")},
        ),
        check(
            "stronger attacks on the integers (APGD-CE, Square) take at most 7 points more than PGD-20, as much as "
            "AutoAttack takes from the paper's own figure",
            attacked["worst"] >= attacked["pgd20"] - 0.07,
            **attacked,
        ),
    ]
