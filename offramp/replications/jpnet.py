"""JPnet's claims on ResNet-8: fewer multiplications by pruning weights, then activations."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from hw.network.layers import Conv2D, DepthwiseConv2D, Linear
from hw.network.network import Network
from hw.network.selection import Select
from models.compression import element_thresholds, prune
from models.compression.quantize import encode
from models.compression.winner_rates import WinnerRates
from models.methods import jpnet
from models.networks.winners import Winners, attach
from models.training.standard_pieces import FixedMask
from models.training.train import fit
from offramp.replications.start import Setting, check, final_accuracy, integer_accuracy, integers

__all__ = ["checks", "stage_rates", "train", "with_counts"]

_DENSITY, _FIRST_DENSITY = 0.4, 0.7
_SAME = 0.3  # density at which the dynamic threshold is compared with a static one


def stage_rates(model: nn.Module) -> dict[str, float]:
    """Winner rates 0.5, 0.4 and 0.3 by third of the hidden layers: the toy check's, not the sweep's."""
    layers = jpnet.hidden_layers(model)
    return {name: (0.5, 0.4, 0.3)[3 * number // len(layers)] for number, name in enumerate(layers)}


def with_counts(network: Network, share: float, layers: list[str]) -> Network:
    """An integer network whose layers multiply this share of their input, chosen exactly for every image."""
    tensors = network.tensors()

    def chosen(name: str) -> Select:
        size = int(np.prod(tensors[network.layer(name).inputs[0]].shape))
        return Select(kind="elements", count=int(np.ceil(share * size)))

    return replace(
        network,
        layers=tuple(
            replace(layer, select=chosen(layer.name))
            if layer.name in layers and isinstance(layer, Conv2D | DepthwiseConv2D | Linear)
            else layer
            for layer in network.layers
        ),
    )


def train(setting: Setting, *, rounds: int = 3) -> tuple[dict[str, Any], dict[str, Network]]:
    """Prune weights, then activations; returns figures and the integer networks."""
    data, test = setting.dataset, setting.dataset.test
    few = data.validation.images[:500]
    dense = setting.model
    figures: dict[str, Any] = {
        "dense_accuracy": final_accuracy(dense, test),
        "dense_relu_density": jpnet.relu_density(dense, few),
    }

    model = copy.deepcopy(dense)
    first = f"{next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))}.weight"
    shares = prune.densities(model, _DENSITY, {first: _FIRST_DENSITY})
    fit(
        model, data.train, setting.schedule(), seed=setting.seed, pieces=[jpnet.IterativePruning(shares, rounds)],
        progress=setting.progress, text="prune weights",
    )  # fmt: skip
    masks = {name: (weight.detach() != 0).to(weight.dtype) for name, weight in prune.prunable(model).items()}
    figures["pruned_accuracy"] = final_accuracy(model, test)
    figures["pruned_density"] = prune.density(model)
    figures["pruned_relu_density"] = jpnet.relu_density(model, few)
    before = integers(setting, model, "pruned")

    layers = jpnet.hidden_layers(model)
    swept = jpnet.winner_rates(model, data.validation.take(1000), layers, progress=setting.progress)
    rates = stage_rates(model)
    figures["swept_rates"], figures["rates"] = swept, rates
    attach(model, {name: Winners("elements", rate) for name, rate in rates.items()})
    figures["before_tuning_accuracy"] = final_accuracy(model, test)
    # Adadelta's rate is 1 by default; a tenth of it.
    tuning = setting.schedule(optimizer="adadelta", lr=0.1)
    fit(
        model, data.train, tuning, seed=setting.seed, pieces=[WinnerRates("elements", rates), FixedMask(masks)],
        progress=setting.progress, text="prune activations",
    )  # fmt: skip
    figures["joint_accuracy"] = final_accuracy(model, test)
    figures["predicted_accuracy"] = jpnet.predicted_accuracy(model, test, alpha=0.1, seed=setting.seed)
    network = integers(setting, model, "jpnet")
    figures["int8_accuracy"] = integer_accuracy(network, test)
    codes = encode(test.images[:200], network)
    figures["expected_share"] = jpnet.expected_share(network, codes)
    figures["before_expected_share"] = jpnet.expected_share(before, codes)
    names = [layer for layer in layers if layer in {found.name for found in before.layers}]
    dynamic = with_counts(before, _SAME, names)
    calibration = encode(data.validation.images[:500], before)
    static = element_thresholds.with_element_thresholds(
        before, element_thresholds.element_thresholds_for(before, calibration, dict.fromkeys(names, _SAME))
    )
    figures["dynamic_accuracy"] = integer_accuracy(dynamic, test)
    figures["static_accuracy"] = integer_accuracy(static, test)
    return figures, {"jpnet": network, "pruned": before}


def checks(figures: dict[str, Any], measured: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """The method's claims, by the figures of :func:`train` and what the accelerator does with its networks."""
    drop = figures["dense_accuracy"] - figures["joint_accuracy"]
    share = figures["expected_share"]
    skipped, counted = 1 - measured["jpnet"]["products_share"], 1 - share
    return [
        check(
            "60 % of the weights and 50 to 70 % of the activations pruned cost at most a point and leave at most 25 % "
            "of the multiplications",
            drop <= 0.01 and share <= 0.25,
            drop=drop,
            expected_share=share,
        ),
        check(
            f"at a density of {_SAME}, before fine-tuning, a threshold per image beats a fixed one by a point",
            figures["dynamic_accuracy"] - figures["static_accuracy"] >= 0.01,
            dynamic=figures["dynamic_accuracy"],
            static=figures["static_accuracy"],
        ),
        check(
            "pruning only weights makes activations denser",
            figures["pruned_relu_density"] > figures["dense_relu_density"],
            before=figures["dense_relu_density"],
            after=figures["pruned_relu_density"],
        ),
        check(
            "a threshold predicted from a tenth of the activations costs at most half a point",
            figures["joint_accuracy"] - figures["predicted_accuracy"] <= 0.005,
            exact=figures["joint_accuracy"],
            predicted=figures["predicted_accuracy"],
        ),
        check(
            "the accelerator skips at least 80 % of the multiplications that the paper's count promises to save",
            skipped >= 0.8 * counted,
            skipped=skipped,
            counted=counted,
        ),
    ]
