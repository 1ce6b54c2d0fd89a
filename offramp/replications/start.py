"""What the replications begin with, and how they report."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hw.compiler.compile import compile_balanced
from hw.config import AcceleratorConfig
from hw.network.layers import multiply_accumulates
from hw.network.network import Network
from models.compression.quantize import encode, quantize, to_network
from models.datasets.sources import Progress, data_folder
from models.datasets.splits import Dataset, Split, load
from models.integer import golden
from models.integer.activity import activity
from models.networks.resnet8 import WEIGHTS, ResNet8, ResNet8Architecture, official_state
from models.training.hyperparameters import Schedule
from models.training.train import accuracy, predict
from sim import simulate

__all__ = [
    "Setting",
    "check",
    "dense_products",
    "final_accuracy",
    "integer_accuracy",
    "integers",
    "official",
    "on_accelerator",
]

_CALIBRATION = 256  # images that a program is balanced for


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a replication runs on.

    Parameters
    ----------
    model : Module
        Trained; without early exits.
    dataset : Dataset
    tuning : Schedule
        Of one stage of fine-tuning; stages take it with epochs of their own.
    epochs : int
        Of a stage of fine-tuning.
    quantize_epochs : int
        Of quantization-aware training.
    seed : int
    progress : function or None
    """

    model: nn.Module
    dataset: Dataset
    tuning: Schedule
    epochs: int
    quantize_epochs: int = 1
    seed: int = 0
    progress: Progress | None = None

    def schedule(self, epochs: int | None = None, **changes: Any) -> Schedule:
        """The schedule of a stage."""
        return replace(self.tuning, epochs=self.epochs if epochs is None else epochs, **changes)


def official(
    *,
    images: int = 10_000,
    test: int = 10_000,
    epochs: int = 6,
    seed: int = 0,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Setting:
    """ResNet-8 with its official weights, and the first images of each part of CIFAR-10.

    Raises
    ------
    ValueError
        When the official weights aren't in the data folder, or a file is damaged.
    ConnectionError
        When the data set is missing and can't be fetched.
    """
    dataset = load("cifar10", root, seed, progress).take(train=images, validation=2000, test=test)
    model = ResNet8(ResNet8Architecture(shape=dataset.shape, classes=len(dataset.classes)))
    model.load_state_dict(official_state(data_folder(root) / WEIGHTS))
    tuning = Schedule(
        epochs=1, lr=0.01, batch=128, optimizer="sgd", policy="cosine", flip=True, shift=2, channels_last=True
    )
    return Setting(model=model.eval(), dataset=dataset, tuning=tuning, epochs=epochs, seed=seed, progress=progress)


def final_accuracy(model: nn.Module, split: Split) -> float:
    """Accuracy of the final head in float, 0..1."""
    return accuracy(predict(model, split.images)[-1], split.labels)


def integers(setting: Setting, model: nn.Module, name: str, levels: str | None = None, **options: Any) -> Network:
    """The integer network of a float one, after quantization-aware training at a tenth of the rate.

    Parameters
    ----------
    options
        For :func:`models.compression.quantize.quantize`: its ``pieces`` keep a robust network robust meanwhile.
    """
    schedule = setting.schedule(setting.quantize_epochs, lr=setting.tuning.lr / 10, channels_last=False)
    twin = quantize(
        model, setting.dataset.train, schedule, seed=setting.seed, levels=levels, progress=setting.progress,
        text=f"quantize {name}", **options,
    )  # fmt: skip
    return to_network(twin, name)


def integer_accuracy(network: Network, split: Split) -> float:
    """Accuracy of the integers, 0..1, with the exits' thresholds as they are."""
    return golden.run(network, encode(split.images, network), keep=False).accuracy(split.labels)


def dense_products(network: Network) -> int:
    """Multiply-accumulates of an integer network if nothing were zero."""
    return sum(map(multiply_accumulates, network.layers))


def on_accelerator(network: Network, config: AcceleratorConfig, split: Split) -> dict[str, float]:
    """What the accelerator does on images, by the simulator.

    Returns
    -------
    dict
        ``products`` and ``cycles`` (means), ``products_share`` of the dense multiply-accumulates, ``share_of_limit``,
        ``cycles_spread`` (largest less smallest over the mean).

    Raises
    ------
    ValueError
        When the network doesn't fit the config, or selects activations and the config has no selector.
    """
    codes = encode(split.images, network)
    program = compile_balanced(network, config, activity(network, codes[:_CALIBRATION]))
    found = simulate(program, codes)
    products, cycles = float(found.products.sum(axis=1).mean()), float(found.cycles.mean())
    return {
        "products": products,
        "cycles": cycles,
        "products_share": products / dense_products(network),
        "share_of_limit": found.share_of_limit,
        "cycles_spread": float(np.ptp(found.cycles) / cycles),
    }


def check(claim: str, holds: bool, **figures: Any) -> dict[str, Any]:
    """One claim, whether it holds here, and by which figures."""
    return {"claim": claim, "holds": bool(holds), "figures": figures}
