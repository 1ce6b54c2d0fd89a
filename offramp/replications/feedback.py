"""Feedback learning's claims on ResNet-8 of half the width: boundaries farther away and more even."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from hw.network.network import Network
from models.attacks import fgsm
from models.datasets.splits import Split
from models.methods.boundary import BoundaryDistances, Probe, probe
from models.methods.feedback import Feedback
from models.networks.residual_net import to_torch
from models.training.train import accuracy, fit, predict
from offramp.replications.start import Setting, check, integers
from offramp.replications.toy import EPS, robustness, under_attack

__all__ = ["checks", "train"]

_ROUNDS, _ROUND_EPOCHS = 3, 2


def train(setting: Setting) -> tuple[dict[str, Any], dict[str, Network]]:
    """Train, then three rounds of feedback, once with examples in proportion and once alike for every class; attack;
    returns figures and integer networks."""
    data, test, eps = setting.dataset, setting.dataset.test, EPS[setting.dataset.name]
    plain = copy.deepcopy(setting.model)
    fit(plain, data.train, setting.schedule(), seed=setting.seed, progress=setting.progress, text="train")
    before = _boundary(plain, test, setting.seed)
    figures: dict[str, Any] = {
        "eps": eps,
        "classes": list(data.classes),
        "plain": _figures(plain, before, test, eps, setting.seed),
    }
    # The radius that every class shall reach: twice the mean distance there is.
    target = 2 * before.score
    kept: dict[str, nn.Module] = {}
    tuning = setting.schedule(_ROUNDS * _ROUND_EPOCHS, lr=setting.tuning.lr / 10)
    for name, gamma in (("feedback", 1.0), ("uniform", None)):
        model = kept[name] = copy.deepcopy(plain)
        piece = Feedback(
            target=target, round_epochs=_ROUND_EPOCHS, beyond=0.1 * before.score, gamma=gamma, probed=1000,
            settings=Probe(draws=1, steps=6),
        )  # fmt: skip
        metrics = fit(
            model, data.train, tuning, seed=setting.seed, pieces=[piece], progress=setting.progress, text=name
        )
        figures[name] = {
            **_figures(model, _boundary(model, test, setting.seed), test, eps, setting.seed),
            "rounds": [{key: epoch[key] for key in _KEYS} for epoch in metrics if "distance" in epoch],
        }
    network = integers(setting, kept["feedback"], "feedback")
    figures["int8"] = {
        "robustness": robustness(network, test, eps, seed=setting.seed),
    }
    return figures, {"feedback": network}


_KEYS = ("distance", "inequality", "generated")


def _boundary(model: nn.Module, test: Split, seed: int) -> BoundaryDistances:
    images, labels = to_torch(test.images), torch.from_numpy(test.labels)
    return probe(model, images, labels, classes=int(labels.max()) + 1, settings=Probe(draws=2), seed=seed)


def _figures(model: nn.Module, boundary: BoundaryDistances, test: Split, eps: float, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def on(images: np.ndarray) -> float:
        return accuracy(predict(model, images.clip(0.0, 1.0).astype(np.float32))[-1], test.labels)

    return {
        "clean": on(test.images),
        "noise": on(test.images + rng.normal(0.0, 0.1, test.images.shape)),
        "brightness": on(test.images + 0.2),
        "fgsm": on(fgsm(model, test.images, test.labels, eps=0.05)),
        "pgd40": under_attack(model, test, eps, steps=40, seed=seed),
        "adversarial": boundary.adversarial.tolist(),
        "random": boundary.random.tolist(),
        "least": boundary.least.tolist(),
        "distance": boundary.score,
        "inequality": boundary.inequality,
    }


def checks(figures: dict[str, Any], measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What is claimed, and whether it holds by these figures."""
    plain, fed, uniform = (figures[name] for name in ("plain", "feedback", "uniform"))
    ratio = max(plain["adversarial"]) / max(min(plain["adversarial"]), 1e-9)
    changes = {key: fed[key] - plain[key] for key in ("clean", "noise", "brightness", "fgsm")}
    return [
        check(
            "classes are unequal before feedback: the farthest boundary is 1.3 times as far as the nearest, at least",
            ratio >= 1.3,
            ratio=ratio,
            distances=dict(zip(figures["classes"], plain["adversarial"], strict=True)),
        ),
        check(
            "three rounds raise the mean distance by a fifth and cost less than half a point of clean accuracy",
            fed["distance"] >= 1.2 * plain["distance"] and changes["clean"] > -0.005,
            distance=fed["distance"] / plain["distance"],
            clean=changes["clean"],
        ),
        check(
            "what isn't adversarial gets no worse, nor does FGSM of 0.05: Gaussian noise, brightness",
            min(changes[key] for key in ("noise", "brightness", "fgsm")) >= 0,
            **changes,
        ),
        check(
            "examples in proportion make classes more equal than as many for each class",
            fed["inequality"] < uniform["inequality"] and fed["inequality"] < plain["inequality"],
            plain=plain["inequality"],
            proportional=fed["inequality"],
            uniform=uniform["inequality"],
            distance_proportional=fed["distance"],
            distance_uniform=uniform["distance"],
        ),
    ]
