"""From a data set to a network the accelerator runs, as a recipe says: training and compression."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from hw.network.network import Network
from hw.numerics import top2
from hw.typed import said
from models.compression.quantize import encode, quantize, to_network
from models.datasets.sources import Progress
from models.datasets.splits import Dataset, Split
from models.integer import golden
from models.integer.activity import activity
from models.integer.exit_calibration import calibrate_each, curve, with_exit_thresholds
from models.methods.detector import with_ranges
from models.recipes.checkpoint import DENSE, Checkpoint, Compressed
from models.recipes.recipe import Recipe, Stage, change_integers, make_pieces
from models.recipes.registry import Context, IntegerContext
from models.recipes.start import starting_network, trained_teacher
from models.training.pieces import Piece
from models.training.train import accuracy, fit, predict

__all__ = ["Log", "compress", "train"]

_CURVE_POINTS = 200
#: Validation images that the activity of channels is measured on, and that changes of the integers may look at.
_ACTIVITY_IMAGES = 256


@dataclass(kw_only=True)
class Log:
    """Where a recipe's runs are kept.

    Parameters
    ----------
    folder : Path or None
        For the state after every epoch, and within one, so that a run that was stopped goes on; None keeps nothing.
    metrics : dict
        By stage, the metrics of every epoch; filled as stages are done.
    """

    folder: Path | None = None
    metrics: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def file(self, recipe: Recipe, stage: Stage, networks: Sequence[nn.Module]) -> Path | None:
        """The file of a stage's state: another one for all that the stage depends on, its settings, its data and the
        networks, those it begins with and learns from. A recipe that changes in a later stage goes on from the earlier
        ones.
        """
        if self.folder is None:
            return None
        settings = [recipe.data, recipe.train_images, recipe.architecture, recipe.levels, said(stage)]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for network in networks:
            for name, value in network.state_dict().items():
                digest.update(name.encode() + value.numpy().tobytes())
        return self.folder / f"{stage.name.replace(' ', '-')}-{digest.hexdigest()[:16]}.off"


def _names(exits: int) -> list[str]:
    """What the heads are called in metrics."""
    early = ["branch"] if exits == 2 else [f"branch{number + 1}" for number in range(exits - 1)]
    return [*early, "final"]


def _float_metrics(model: nn.Module, prefix: str, test: Split) -> dict[str, float]:
    heads = predict(model, test.images)
    return {
        f"{prefix}_{name}": accuracy(logits, test.labels)
        for name, logits in zip(_names(len(heads)), heads, strict=True)
    }


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What all stages of a recipe share."""

    recipe: Recipe
    dataset: Dataset
    seed: int
    progress: Progress | None
    log: Log
    teacher: nn.Module | None

    @classmethod
    def of(cls, chosen: Recipe, dataset: Dataset, seed: int, progress: Progress | None, log: Log | None) -> "_Work":
        if chosen.data != dataset.name:
            raise ValueError(f"the recipe is for {chosen.data}, the data set is {dataset.name}")
        teacher = trained_teacher(chosen.teacher, chosen.data)
        return cls(recipe=chosen, dataset=dataset, seed=seed, progress=progress, log=log or Log(), teacher=teacher)

    @property
    def few(self) -> Dataset:
        """The data set with the images that the recipe learns from."""
        count = self.recipe.train_images
        return replace(self.dataset, train=self.dataset.train.take(count)) if count else self.dataset

    def _file(self, stage: Stage, model: nn.Module, dense: nn.Module) -> Path | None:
        networks = [model, dense] if self.teacher is None else [model, dense, self.teacher]
        return self.log.file(self.recipe, stage, networks)

    def _pieces(self, stage: Stage, model: nn.Module, dense: nn.Module) -> list[Piece]:
        context = Context(
            model=model, dataset=self.few, dense=dense, stage=stage.name, teacher=self.teacher, folder=self.log.folder
        )
        return make_pieces(stage, context)

    def float_stages(self, stages: tuple[Stage, ...], model: nn.Module, dense: nn.Module) -> None:
        """Train the model in place, stage by stage."""
        for stage in stages:
            self.log.metrics[stage.name] = fit(
                model, self.few.train, stage.schedule, seed=self.seed, pieces=self._pieces(stage, model, dense),
                progress=self.progress, text=stage.name, checkpoint=self._file(stage, model, dense),
            )  # fmt: skip

    def integers(
        self, stage: Stage, model: nn.Module, dense: nn.Module, name: str, exits: bool, levels: str | None = None
    ) -> Network:
        """The integer network that training the model on as int8 gives."""
        history: list[dict[str, float]] = []
        twin = quantize(
            model, self.few.train, stage.schedule, seed=self.seed, exits=exits, levels=levels,
            pieces=lambda twin: self._pieces(stage, twin, dense), checkpoint=self._file(stage, model, dense),
            history=history, progress=self.progress, text=stage.name,
        )  # fmt: skip
        self.log.metrics[stage.name] = history
        return to_network(twin, name)


def train(
    chosen: Recipe,
    dataset: Dataset,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    root: Path | None = None,
    log: Log | None = None,
) -> Checkpoint:
    """The recipe's dense float network: its start and its ``[[train]]`` stages.

    Returns
    -------
    Checkpoint
        With the metrics ``float_branch`` and ``float_final``: test accuracy of the heads, in 0..1.

    Raises
    ------
    ValueError
        When the data set isn't the recipe's or the start's file can't be read.
    FloatingPointError
        When training diverges.
    """
    work = _Work.of(chosen, dataset, seed, progress, log)
    model = starting_network(chosen.start, chosen.network_architecture, seed, root)
    work.float_stages(chosen.train, model, model)
    metrics = _float_metrics(model, "float", dataset.test)
    return Checkpoint.of(model.eval(), data=dataset.name, seed=seed, metrics=metrics)


def compress(
    chosen: Recipe,
    checkpoint: Checkpoint,
    dataset: Dataset,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    log: Log | None = None,
) -> Compressed:
    """Run the recipe's ``[[compress]]`` stages, quantize and calibrate; quantize the dense network for comparison.

    Returns
    -------
    Compressed
        With the metrics (accuracies and shares on test data unless said, in 0..1; ``branch1``, ``branch2`` where there
        are two early exits) ``float_branch``, ``float_final``, ``pruned_branch``, ``pruned_final``, ``int8_branch``,
        ``int8_final``, ``int8_exits``, ``exit_share``, ``dense_int8_final``, ``density`` (of the integer weights),
        ``validation_final``, ``validation_exits``, ``validation_exit_share``, and ``threshold`` (of the first exit).

    Raises
    ------
    ValueError
        When the data set isn't the recipe's, the recipe has no ``[quantize]``, or a weight is no number; the message
        names the layer.
    FloatingPointError
        When training diverges.
    """
    if chosen.quantize is None or chosen.dense is None:
        raise ValueError(f"the recipe {chosen.name} must have a [quantize] stage to make a compressed network")
    work = _Work.of(chosen, dataset, seed, progress, log)
    dense = checkpoint.model()
    model = copy.deepcopy(dense)
    work.float_stages(chosen.compress, model, dense)
    metrics = _float_metrics(dense, "float", dataset.test) | _float_metrics(model, "pruned", dataset.test)
    network = work.integers(chosen.quantize, model, dense, dataset.name, True, chosen.levels)
    few = dataset.validation.take(_ACTIVITY_IMAGES)
    network = change_integers(chosen, network, IntegerContext(codes=encode(few.images, network), labels=few.labels))
    reference = work.integers(chosen.dense, dense, dense, f"{dataset.name}{DENSE}", False)
    network, found, points = _calibrated(network, dataset.validation, chosen.exit_loss)
    if chosen.flagged:
        network = with_ranges(network, encode(dataset.validation.images, network), chosen.flagged)
    return Compressed(
        data=dataset.name,
        seed=seed,
        network=network,
        dense=reference,
        metrics=metrics | found | _integer_metrics(network, reference, dataset.test),
        curve=points,
        activity=_activity(network, dataset.validation),
        dense_activity=_activity(reference, dataset.validation),
    )


def _calibrated(
    network: Network, validation: Split, loss: float
) -> tuple[Network, dict[str, float], dict[str, list[float]]]:
    """The network with thresholds, what they do on validation data, and the first exit's curve."""
    heads, labels = _logits(network, validation), validation.labels
    final = float((top2(heads[-1])[0] == labels).mean())
    if len(heads) == 1:
        return network, {"validation_final": final}, {}
    thresholds = calibrate_each(heads, labels, loss)
    network = with_exit_thresholds(network, *thresholds)
    result = golden.run(network, encode(validation.images, network), keep=False)
    share = float(result.exit_share()[:-1].sum())
    metrics = {
        "threshold": thresholds[0],
        "validation_final": final,
        "validation_exits": result.accuracy(labels),
        "validation_exit_share": share,
    }
    return network, metrics, curve(heads[0], heads[-1], labels).thinned(_CURVE_POINTS).to_dict()


def _activity(network: Network, split: Split) -> dict[str, np.ndarray]:
    return activity(network, encode(split.images[:_ACTIVITY_IMAGES], network))


def _logits(network: Network, split: Split) -> list[np.ndarray]:
    return golden.run(network, encode(split.images, network), keep=False).logits


def _integer_metrics(network: Network, reference: Network, test: Split) -> dict[str, float]:
    result = golden.run(network, encode(test.images, network), keep=False)
    weights = [array for name, array in network.arrays() if name.endswith("/weight")]
    metrics = {
        f"int8_{name}": accuracy(logits, test.labels)
        for name, logits in zip(_names(len(result.logits)), result.logits, strict=True)
    }
    return metrics | {
        "int8_exits": result.accuracy(test.labels),
        "exit_share": float(result.exit_share()[:-1].sum()),
        "dense_int8_final": accuracy(_logits(reference, test)[0], test.labels),
        "density": sum(int(np.count_nonzero(array)) for array in weights) / sum(array.size for array in weights),
    }
