"""Figures of a network for the zoo: everything measured, nothing taken on trust."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw.compiler.compile import balanced_compilation, compile_balanced
from hw.config import AcceleratorConfig, preset
from hw.network.dense_products import final_products
from hw.network.network import NEVER, Network
from hw.rules import MisfitError
from models import zoo
from models.attacks import Strength, robustness
from models.compression.quantize import encode
from models.datasets.sources import Progress
from models.datasets.splits import Dataset
from models.integer import golden
from models.integer.activity import activity as measure_activity
from models.integer.exit_calibration import with_exit_thresholds
from models.methods import detector
from models.recipes.checkpoint import Compressed, load_compressed
from sim import simulate, time_batch, worst_case

__all__ = ["DEFAULT", "Sample", "add", "figures", "measure", "timing"]

#: The accelerator whose routed bitstream has memories for most networks of the zoo (``baselines/build-NAME.json``).
_ROUTED = "small-85f"
#: What unpruned networks are counted on that don't fit the config of the pruned ones.
_ROOMIER = (_ROUTED, f"{_ROUTED},loader=4")
_EPS = 8 / 255
_FIRST = 200  # test images of the quick check, and of the activations' density
_STRENGTH = Strength(steps=20, queries=300, samples=(50,) * 6)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How many of the first test images are run clean, and under PGD-20 and all other attacks in turn at 8/255."""

    images: int = 10_000
    attacked: int = 100


#: What the committed figures are of.
DEFAULT = Sample()


def _activation_density(network: Network, codes: np.ndarray) -> float:
    """Share of activations that are multiplied, of all maps together."""
    tensors = network.tensors()
    shares = measure_activity(network, codes)
    sizes = [int(np.prod(tensors[name].shape)) for name in shares]
    return float(np.average([share.mean() for share in shares.values()], weights=sizes))


def figures(
    network: Network,
    source: Dataset,
    *,
    sample: Sample,
    seed: int,
    parent: Network | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What an integer network does on the first test images, on any accelerator, as :class:`models.zoo.ZooEntry` says.

    Parameters
    ----------
    seed : int
        Of the attacks.
    parent : Network, optional
        Attacks on it are tried on the network, too.
    """
    test, few = source.test.take(sample.images), source.test.take(sample.attacked)
    codes = encode(test.images, network)
    report = None if progress is None else lambda done, total: progress(done, total, "golden")
    found = golden.run(network, codes, keep=False, progress=report)
    right = found.classes == test.labels
    withstood = robustness(network, few, eps=_EPS, parent=parent, strength=_STRENGTH, seed=seed, progress=progress)
    weights = [array for name, array in network.arrays() if name.endswith("/weight")]
    return {
        "images": len(test),
        "accuracy_int8": float(right.mean()),
        "accuracy_first": float(right[:_FIRST].mean()),
        "first": len(right[:_FIRST]),
        "attacked": len(few),
        "accuracy_clean": withstood["clean"],
        "accuracy_pgd20": withstood["pgd"],
        "accuracy_worst": withstood["worst"],
        "eps": _EPS,
        "weights": sum(array.size for array in weights),
        "nonzero_weights": sum(int(np.count_nonzero(array)) for array in weights),
        "activation_density": _activation_density(network, codes[:_FIRST]),
        "multiply_accumulates": final_products(network),
        "exit_share": float((found.exit_index < len(network.exits) - 1).mean()),
        "flagged": float(detector.flags(detector.decided(network, found)).mean()),
    }


def timing(
    network: Network,
    activity: dict[str, np.ndarray],
    source: Dataset,
    config: AcceleratorConfig,
    *,
    images: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What an accelerator does with an integer network on the first test images: the other fields.

    Raises
    ------
    ValueError
        When the network doesn't fit the accelerator.
    """
    codes = encode(source.test.take(images).images, network)
    runs = [simulate(compile_balanced(network, config, activity), codes, progress=progress)]
    if len(network.exits) > 1:
        whole = with_exit_thresholds(network, *[NEVER] * (len(network.exits) - 1))
        runs.append(simulate(compile_balanced(whole, config, activity), codes, progress=progress))
    dense = final_products(network)
    shares = [float(run.products.sum(axis=1).mean()) / dense for run in runs]
    return {
        "products_share": shares[0],
        "products_share_full": shares[-1],
        "mean_cycles": float(runs[0].cycles.mean()),
        "share_of_limit": runs[0].share_of_limit,
        **_routed_timing(network, activity, codes, progress),
    }


def _routed_timing(
    network: Network, activity: dict[str, np.ndarray], codes: np.ndarray, progress: Progress | None
) -> dict[str, Any]:
    """The fields of the accelerator that was routed, all None where the network doesn't fit it."""
    try:
        program = compile_balanced(network, preset(_ROUTED), activity)
    except MisfitError:
        names = ("cycles", "worst", "bound", "back_to_back")
        return {"routed": None} | {f"routed_{name}": None for name in names}
    found = simulate(program, codes, progress=progress)
    return {
        "routed": _ROUTED,
        "routed_cycles": float(found.cycles.mean()),
        "routed_worst": int(found.cycles.max()),
        "routed_bound": int(worst_case(program)),
        "routed_back_to_back": time_batch(program, found).cycles_per_image,
    }


def add(
    path: Path,
    result: dict[str, Any],
    source: Dataset,
    *,
    method: str = "",
    config: str | None = None,
    folder: Path = zoo.FOLDER,
    sample: Sample = DEFAULT,
    progress: Progress | None = None,
) -> list[zoo.ZooEntry]:
    """Measure a recipe's network and the unpruned one beside it, and put both into the zoo, the latter as NAME-dense.

    If the unpruned one doesn't fit the config, its cycles are those of the first of ``small-85f`` and
    ``small-85f,loader=4`` that it fits.

    Parameters
    ----------
    path : Path
        Compressed network.
    result : dict
        What ``offramp train RECIPE`` wrote beside it.
    method : str
        What the table calls it; what the recipe is about if nothing.
    config : str, optional
        Accelerator whose cycles count; the recipe's if nothing.
    sample : Sample
        How many of the test images.

    Raises
    ------
    ValueError
        When the result isn't a recipe's, or one of the networks doesn't fit the accelerator.
    """
    for key in ("recipe", "recipe_digest", "metrics", "seed"):
        if key not in result:
            raise ValueError(f"{path}: the result beside it must hold {key!r}: a recipe's, from offramp train RECIPE")
    compressed, recipe = load_compressed(path), result["recipe"]
    common = {
        "dataset": compressed.data,
        "recipe": recipe["name"],
        "recipe_digest": result["recipe_digest"],
        "seed": result["seed"],
        "config": config or recipe["config"],
        "file": f"{recipe['name']}.off",
    }
    described = [
        {"name": recipe["name"], "method": method or recipe["about"], "part": "network"}
        | {"accuracy_float": result["metrics"]["pruned_final"], **common},
        {"name": f"{recipe['name']}-dense", "method": "dense int8", "part": "dense"}
        | {"accuracy_float": result["metrics"]["float_final"], **common},
    ]
    return _put(compressed, described, source, folder, sample, progress)


def measure(
    name: str,
    source: Dataset,
    *,
    config: str | None = None,
    folder: Path = zoo.FOLDER,
    sample: Sample | None = DEFAULT,
    progress: Progress | None = None,
) -> list[zoo.ZooEntry]:
    """Measure a network of the zoo anew, and the other one of its file: the accelerator may have changed.

    Parameters
    ----------
    config : str, optional
        Accelerator whose cycles count, as of :func:`add`; those they were counted on if nothing.
    sample : Sample, optional
        How many of the test images. If nothing, :func:`timing` is measured, on as many as before, and the rest stays.

    Raises
    ------
    ValueError
        When there is no such network, its file is altered, or it doesn't fit the accelerator.
    """
    found = zoo.entry(name, folder)
    described = [
        {key: value for key, value in asdict(entry).items() if key != "sha256"} | ({"config": config} if config else {})
        for entry in sorted(zoo.entries(folder), key=lambda entry: entry.part, reverse=True)
        if entry.file == found.file
    ]
    return _put(zoo.load(found, folder), described, source, folder, sample, progress)


def _fitting(network: Network, activity: dict[str, np.ndarray], config: str) -> str:
    """The config, or if an unpruned network doesn't fit it, one that it fits; the config if there is none."""
    tried = (config, *_ROOMIER)
    fits = (name for name in tried if balanced_compilation(network, preset(name), activity).refusal is None)
    return next(fits, config)


def _put(
    compressed: Compressed,
    described: list[dict[str, Any]],
    source: Dataset,
    folder: Path,
    sample: Sample | None,
    progress: Progress | None,
) -> list[zoo.ZooEntry]:
    """Put the networks of a file into the zoo, with their figures: all, or if there is no sample, the timing anew."""
    made = []
    for entry in described:
        config = entry["config"]
        if entry["part"] == "network":
            network, activity, parent = compressed.network, compressed.activity, compressed.dense
        else:
            network, activity, parent = compressed.dense, compressed.dense_activity, None
            config = _fitting(network, activity, config)
        images = sample.images if sample else entry["images"]
        measured = {"config": config}
        measured |= timing(network, activity, source, preset(config), images=images, progress=progress)
        if sample:
            measured |= figures(network, source, sample=sample, seed=entry["seed"], parent=parent, progress=progress)
        made.append(entry | measured)
    return zoo.put(compressed, made, folder)
