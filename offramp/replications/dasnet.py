"""DASNet's claims on ResNet-8: winners take all channels inside blocks, against channels that always are the same."""

import copy
from typing import Any

from torch import nn

from hw.network.network import Network
from models.compression import prune
from models.compression.winner_rates import WinnerRates
from models.methods import dasnet
from models.methods.jpnet import IterativePruning
from models.networks.winners import attach
from models.training.train import fit
from offramp.replications.start import Setting, check, final_accuracy, integer_accuracy, integers

__all__ = ["RATES", "checks", "train"]

#: Winner rates that are compared.
RATES = (0.5, 0.25)

_HALF = "0.5"  # the rate that most claims are about
_DENSITY = 0.4  # of the weights, where winners and weight pruning are composed


def _winners(setting: Setting, start: nn.Module, rate: float, text: str) -> nn.Module:
    """Annealed winners take all, fine-tuned."""
    model = copy.deepcopy(start)
    rates = dict.fromkeys(dasnet.inner_layers(model), rate)
    pieces = [WinnerRates("channels", rates, dasnet.ANNEAL)]
    fit(
        model, setting.dataset.train, setting.schedule(), seed=setting.seed, pieces=pieces,
        progress=setting.progress, text=text,
    )  # fmt: skip
    return model


def train(setting: Setting) -> tuple[dict[str, Any], dict[str, Network]]:
    """Winners, static channels, normalised scores, similarity of winners, composition: figures and networks."""
    data, test, dense = setting.dataset, setting.dataset.test, setting.model
    layers = dasnet.inner_layers(dense)
    figures: dict[str, Any] = {"dense_accuracy": final_accuracy(dense, test)}
    tuned = copy.deepcopy(dense)
    fit(
        tuned, data.train, setting.schedule(), seed=setting.seed, progress=setting.progress, text="tune dense"
    )  # fmt: skip
    figures["tuned_dense_accuracy"] = final_accuracy(tuned, test)
    figures["winners_accuracy"], figures["static_accuracy"], figures["normalised_accuracy"] = {}, {}, {}
    even = copy.deepcopy(dense)
    dasnet.equalise(even, data.train.images[:1000])
    half: nn.Module = dense
    for rate in RATES:
        model = _winners(setting, dense, rate, f"winners {rate}")
        if str(rate) == _HALF:
            half = model
        figures["winners_accuracy"][str(rate)] = final_accuracy(model, test)
        static = copy.deepcopy(dense)
        attach(static, dasnet.static_channels(static, data.train.images[:1000], dict.fromkeys(layers, rate)))
        fit(
            static, data.train, setting.schedule(), seed=setting.seed, progress=setting.progress, text=f"static {rate}"
        )  # fmt: skip
        figures["static_accuracy"][str(rate)] = final_accuracy(static, test)
        normalised = _winners(setting, even, rate, f"normalised {rate}")
        figures["normalised_accuracy"][str(rate)] = final_accuracy(normalised, test)

    few = test.take(500)
    masks = dasnet.winner_masks(half, few.images)
    figures["jaccard"] = {name: dasnet.jaccard(found, few.labels) for name, found in masks.items()}
    network = integers(setting, half, "dasnet")
    figures["int8_accuracy"] = integer_accuracy(network, test)
    pruned = copy.deepcopy(half)
    shares = prune.densities(pruned, _DENSITY, {"stem.conv.weight": 0.7} if hasattr(pruned, "stem") else None)
    fit(
        pruned, data.train, setting.schedule(), seed=setting.seed, pieces=[IterativePruning(shares)],
        progress=setting.progress, text="prune weights",
    )  # fmt: skip
    figures["pruned_accuracy"] = final_accuracy(pruned, test)
    return figures, {
        "dasnet": network,
        "dasnet-pruned": integers(setting, pruned, "dasnet-pruned"),
        "dense": integers(setting, tuned, "dense"),
    }


def checks(figures: dict[str, Any], measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """The method's claims, by the figures of :func:`train` and what the accelerator does with its networks."""
    winners, static, normalised = (figures[f"{name}_accuracy"] for name in ("winners", "static", "normalised"))
    drop = figures["dense_accuracy"] - winners[_HALF]
    similar = figures["jaccard"]
    return [
        check("half of the channels inside the blocks cost at most a point", drop <= 0.01, drop=drop),
        check(
            "at equal rates, winners are at least as accurate as static channels",
            all(winners[rate] >= static[rate] for rate in winners),
            winners=winners,
            static=static,
        ),
        check(
            "at equal rates, winners by normalised score are at least as accurate as static channels",
            all(normalised[rate] >= static[rate] for rate in normalised),
            normalised=normalised,
            static=static,
        ),
        check(
            "winners of a class are more alike than those of different classes",
            all(within > between for within, between in similar.values()),
            jaccard=similar,
        ),
        check(
            "int8 changes the accuracy by less than half a point",
            abs(figures["int8_accuracy"] - winners[_HALF]) < 0.005,
            float=winners[_HALF],
            int8=figures["int8_accuracy"],
        ),
        check(
            "60 % of the weights pruned as well change it by less than a point",
            winners[_HALF] - figures["pruned_accuracy"] < 0.01,
            before=winners[_HALF],
            pruned=figures["pruned_accuracy"],
        ),
        check(
            "the accelerator multiplies less than in the dense network",
            measured["dasnet"]["products"] < measured["dense"]["products"],
            products={name: found["products"] for name, found in measured.items()},
            cycles={name: found["cycles"] for name, found in measured.items()},
        ),
    ]
