"""From a data set to a network the accelerator runs: training and compression, with settings that were tried."""

import copy
from dataclasses import dataclass

import numpy as np
from torch import nn

from hw.network import Network
from models import golden, prune
from models.activity import activity
from models.architectures import initial
from models.checkpoint import Checkpoint, Compressed
from models.data import Dataset, Split
from models.exits import calibrate, curve, with_thresholds
from models.nets import Architecture
from models.quantize import encode, quantize, to_network
from models.sources import Progress
from models.standard import FixedMask
from models.train import Schedule, accuracy, fit, predict

__all__ = ["RECIPES", "Recipe", "compress", "recipe", "train"]

_CURVE_POINTS = 200
#: Validation images that the activity of channels is measured on.
_ACTIVITY_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings for one data set.

    Parameters
    ----------
    data : str
    widths : tuple of 2 int
        Channels before and behind the branch.
    branch_width : int
    stem_stride : int
    training, tuning, quantizing : Schedule
        Of the dense float network, of the pruned one, and of quantization-aware training.
    density : float
        Share of weights that stay.
    stem_density, head_density : float
        Lowest density of the first layer, of the linear heads.
    exit_loss : float
        Accuracy that early exits may cost on validation data, in 0..1.

    Raises
    ------
    ValueError
        When a share is outside its range.
    """

    data: str
    widths: tuple[int, int]
    branch_width: int
    stem_stride: int = 1
    training: Schedule
    tuning: Schedule
    quantizing: Schedule
    density: float = 0.25
    stem_density: float = 0.7
    head_density: float = 0.6
    exit_loss: float = 0.005

    def __post_init__(self) -> None:
        if not 0.0 < self.density <= 1.0:
            raise ValueError(f"density must be above 0 and at most 1, not {self.density}")
        for name in ("stem_density", "head_density", "exit_loss"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in 0..1, not {getattr(self, name)}")


#: By data set. The widths are such that the unpruned network fits the ``single`` accelerator as well.
RECIPES = {
    "digits": Recipe(
        data="digits",
        widths=(8, 16),
        branch_width=4,
        training=Schedule(epochs=80, lr=0.01, shift=1),
        tuning=Schedule(epochs=80, lr=0.01, shift=1),
        quantizing=Schedule(epochs=30, lr=0.001, shift=1),
        density=0.3,
        exit_loss=0.0025,  # on 359 images: none may be lost; a threshold fitted to so few promises too much
    ),
    "fashion-mnist": Recipe(
        data="fashion-mnist",
        widths=(8, 16),
        branch_width=8,
        stem_stride=2,
        training=Schedule(epochs=6, lr=0.01, batch=128, flip=True),
        tuning=Schedule(epochs=4, lr=0.005, batch=128, flip=True),
        quantizing=Schedule(epochs=2, lr=0.001, batch=128, flip=True),
        density=0.4,
    ),
    "cifar10": Recipe(
        data="cifar10",
        widths=(8, 16),
        branch_width=8,
        stem_stride=2,
        training=Schedule(epochs=8, lr=0.01, batch=128, flip=True, shift=2),
        tuning=Schedule(epochs=4, lr=0.005, batch=128, flip=True, shift=2),
        quantizing=Schedule(epochs=2, lr=0.001, batch=128, flip=True, shift=2),
        density=0.4,
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe of a data set.

    Raises
    ------
    ValueError
        When there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, not {name!r}")
    return RECIPES[name]


def _check_data(chosen: Recipe, dataset: Dataset) -> None:
    if chosen.data != dataset.name:
        raise ValueError(f"the recipe is for {chosen.data}, the data set is {dataset.name}")


def _float_metrics(model: nn.Module, prefix: str, test: Split) -> dict[str, float]:
    branch, final = predict(model, test.images)
    return {f"{prefix}_branch": accuracy(branch, test.labels), f"{prefix}_final": accuracy(final, test.labels)}


def train(chosen: Recipe, dataset: Dataset, seed: int = 0, progress: Progress | None = None) -> Checkpoint:
    """Train a recipe's dense float network.

    Returns
    -------
    Checkpoint
        With the metrics ``float_branch`` and ``float_final``: test accuracy of the two heads, in 0..1.

    Raises
    ------
    ValueError
        When the data set isn't the recipe's.
    FloatingPointError
        When training diverges.
    """
    _check_data(chosen, dataset)
    architecture = Architecture(
        shape=dataset.shape,
        classes=len(dataset.classes),
        widths=chosen.widths,
        branch_width=chosen.branch_width,
        stem_stride=chosen.stem_stride,
    )
    model = initial(architecture, seed)
    fit(model, dataset.train, chosen.training, seed=seed, progress=progress, text="train")
    return Checkpoint.of(model, data=dataset.name, seed=seed, metrics=_float_metrics(model, "float", dataset.test))


def compress(
    chosen: Recipe, checkpoint: Checkpoint, dataset: Dataset, seed: int = 0, progress: Progress | None = None
) -> Compressed:
    """Prune, fine-tune, quantize and calibrate a trained network; quantize the dense one for comparison.

    Returns
    -------
    Compressed
        With the metrics (accuracies and shares on test data unless said, in 0..1) ``float_branch``, ``float_final``,
        ``pruned_branch``, ``pruned_final``, ``int8_branch``, ``int8_final``, ``int8_exits``, ``exit_share``,
        ``dense_int8_final``, ``density`` (of the integer weights), ``validation_final``, ``validation_exits``,
        ``validation_exit_share``, and ``threshold``.

    Raises
    ------
    ValueError
        When the data set isn't the recipe's, or a weight is no number; the message names the layer.
    FloatingPointError
        When training diverges.
    """
    _check_data(chosen, dataset)
    dense = checkpoint.model()
    model = copy.deepcopy(dense)
    least = {"stem.conv.weight": chosen.stem_density}
    least |= {f"{head}.linear.weight": chosen.head_density for head in ("branch_head", "head")}
    masks = prune.masks(model, prune.densities(model, chosen.density, least))
    prune.apply(model, masks)
    fit(model, dataset.train, chosen.tuning, seed=seed, pieces=[FixedMask(masks)], progress=progress, text="prune")
    metrics = _float_metrics(dense, "float", dataset.test) | _float_metrics(model, "pruned", dataset.test)

    twin = quantize(model, dataset.train, chosen.quantizing, seed=seed, progress=progress, text="quantize")
    network = to_network(twin, dataset.name)
    plain = quantize(
        dense, dataset.train, chosen.quantizing, seed=seed, exits=False, progress=progress, text="quantize unpruned"
    )
    reference = to_network(plain, f"{dataset.name}-dense")

    branch, final = _logits(network, dataset.validation)
    labels = dataset.validation.labels
    threshold = calibrate(branch, final, labels, chosen.exit_loss)
    network = with_thresholds(network, threshold)
    found = curve(branch, final, labels)
    place = int(np.searchsorted(found.thresholds, threshold))
    metrics |= {
        "threshold": threshold,
        "validation_final": float(found.accuracy[-1]),
        "validation_exits": float(found.accuracy[place]),
        "validation_exit_share": float(found.exit_share[place]),
    }
    return Compressed(
        data=dataset.name,
        seed=seed,
        network=network,
        dense=reference,
        metrics=metrics | _integer_metrics(network, reference, dataset.test),
        curve=found.thinned(_CURVE_POINTS).to_dict(),
        activity=_activity(network, dataset.validation),
        dense_activity=_activity(reference, dataset.validation),
    )


def _activity(network: Network, split: Split) -> dict[str, np.ndarray]:
    return activity(network, encode(split.images[:_ACTIVITY_IMAGES], network))


def _logits(network: Network, split: Split) -> list[np.ndarray]:
    return golden.run(network, encode(split.images, network), keep=False).logits


def _integer_metrics(network: Network, reference: Network, test: Split) -> dict[str, float]:
    result = golden.run(network, encode(test.images, network), keep=False)
    branch, final = result.logits
    weights = [array for name, array in network.arrays() if name.endswith("/weight")]
    return {
        "int8_branch": accuracy(branch, test.labels),
        "int8_final": accuracy(final, test.labels),
        "int8_exits": result.accuracy(test.labels),
        "exit_share": float(result.exit_share()[0]),
        "dense_int8_final": accuracy(_logits(reference, test)[0], test.labels),
        "density": sum(int(np.count_nonzero(array)) for array in weights) / sum(array.size for array in weights),
    }
