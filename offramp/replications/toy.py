"""A network small enough to be trained in a minute, and how robust one is: for methods that train from scratch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from hw.network.network import Network
from models.attacks import apgd, integer_score, pgd, square
from models.compression.quantize import encode
from models.datasets.sources import Progress
from models.datasets.splits import Split, load
from models.integer import golden
from models.integer.surrogate import Surrogate
from models.networks.architectures import initial
from models.networks.resnet8 import ResNet8Architecture
from models.training.hyperparameters import Schedule
from models.training.train import accuracy, predict
from offramp.replications.start import Setting

__all__ = ["EPS", "answers", "half_width", "robustness", "under_attack"]

#: Largest change of a pixel by data set: what the literature attacks images of this kind with.
EPS = {"digits": 0.15, "fashion-mnist": 0.1, "cifar10": 8 / 255}

_ATTACKED = 500  # test images of a float network that PGD is tried on
_WITHSTOOD = 200  # those of the integers that every attack is tried on


def half_width(
    *,
    data: str = "fashion-mnist",
    images: int = 2000,
    test: int = 1000,
    epochs: int = 10,
    seed: int = 0,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Setting:
    """ResNet-8 of half the width, untrained, and the first images of each part of a data set.

    Raises
    ------
    ValueError
        When there is no such data set, or a file is damaged.
    ConnectionError
        When the data set is missing and can't be fetched.
    """
    dataset = load(data, root, seed, progress).take(train=images, validation=1000, test=test)
    architecture = ResNet8Architecture(shape=dataset.shape, classes=len(dataset.classes), widths=(8, 16, 32))
    return Setting(
        model=initial(architecture, seed),
        dataset=dataset,
        tuning=Schedule(epochs=epochs, lr=0.01, batch=64, flip=data != "digits"),
        epochs=epochs,
        quantize_epochs=2,
        seed=seed,
        progress=progress,
    )


def answers(network: nn.Module | Network) -> Callable[[np.ndarray], np.ndarray]:
    """Of images (N, height, width, channels) in 0..1, the classes (N,) that a network answers, in float or integers."""

    def classes(images: np.ndarray) -> np.ndarray:
        if isinstance(network, Network):
            return golden.run(network, encode(images, network), keep=False).classes
        return predict(network, images)[-1].argmax(axis=1)

    return classes


def under_attack(model: nn.Module, split: Split, eps: float, *, steps: int = 20, seed: int = 0) -> float:
    """Accuracy of a float network under PGD with so many steps, on up to 500 images."""
    some = split.take(_ATTACKED)
    attacked = pgd(model, some.images, some.labels, eps=eps, steps=steps, seed=seed)
    return accuracy(predict(model, attacked)[-1], some.labels)


def robustness(network: Network, split: Split, eps: float, *, seed: int = 0) -> dict[str, float]:
    """Accuracies of the integers on the first images (up to 200, ``attacked``), the same of all: clean, under PGD-20,
    APGD-CE of 50 steps, and Square of 300 queries, which asks the integers themselves; ``worst`` is that of all three
    together, image by image.
    """
    classes, twin, some = answers(network), Surrogate(network), split.take(_WITHSTOOD)
    tried = {
        "clean": some.images,
        "pgd20": pgd(twin, some.images, some.labels, eps=eps, steps=20, restarts=2, seed=seed),
        "apgd": apgd(twin, some.images, some.labels, eps=eps, steps=50, seed=seed),
        "square": square(integer_score(network), some.images, some.labels, eps=eps, queries=300, seed=seed),
    }
    right = {name: classes(images) == some.labels for name, images in tried.items()}
    return {
        "attacked": len(some),
        **{name: float(kept.mean()) for name, kept in right.items()},
        "worst": float(np.logical_and.reduce(list(right.values())).mean()),
    }
