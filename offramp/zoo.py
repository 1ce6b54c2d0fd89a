"""Figures of a network for the zoo: everything measured, nothing taken on trust."""

from pathlib import Path
from typing import Any

import numpy as np

from hw.compile import compile_balanced
from hw.config import AcceleratorConfig, preset
from hw.network import Conv2D, DepthwiseConv2D, Linear, Network
from models import golden, zoo
from models.attacks import pgd
from models.checkpoint import load_compressed
from models.data import Dataset
from models.exits import with_thresholds
from models.quantize import NEVER, encode
from models.sources import Progress
from models.surrogate import Surrogate
from sim import simulate

__all__ = ["add", "figures", "multiply_accumulates"]

_EPS = 8 / 255
_STEPS = 20
_FIRST = 200  # test images of the quick check
#: Words of the largest list memory that a config can have, for networks that are compared but not built.
_WIDEST_LISTS = 8192


def multiply_accumulates(network: Network) -> int:
    """Products of the network without early exits if nothing were zero."""
    needed, total = {network.exits[-1].logits}, 0
    for layer in reversed(network.layers):
        if layer.name in needed:
            needed.update(layer.inputs)
            if isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
                total += layer.weight.size * int(np.prod(layer.output.shape[:2]))
    return total


def figures(
    network: Network,
    activity: dict[str, np.ndarray],
    source: Dataset,
    config: AcceleratorConfig,
    *,
    images: int,
    attacked: int,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What an integer network does on the first test images: fields of :class:`models.zoo.Entry`.

    Parameters
    ----------
    images, attacked : int
        How many test images, clean and under PGD-20 at 8/255.
    seed : int
        Of the attack's random start.

    Raises
    ------
    ValueError
        When the network doesn't fit the accelerator.
    """
    test, some = source.test.take(images), source.test.take(attacked)
    codes = encode(test.images, network)
    runs = [simulate(compile_balanced(network, config, activity), codes, progress=progress)]
    if len(network.exits) > 1:
        whole = with_thresholds(network, *[NEVER] * (len(network.exits) - 1))
        runs.append(simulate(compile_balanced(whole, config, activity), codes, progress=progress))
    dense = multiply_accumulates(network)
    shares = [float(run.products.sum(axis=1).mean()) / dense for run in runs]
    right = runs[0].classes == test.labels
    changed = pgd(
        Surrogate(network), some.images, some.labels, eps=_EPS, steps=_STEPS, seed=seed, progress=progress,
        text="PGD-20",
    )  # fmt: skip
    weights = [array for name, array in network.arrays() if name.endswith("/weight")]
    return {
        "images": len(test),
        "accuracy_int8": float(right.mean()),
        "accuracy_first": float(right[:_FIRST].mean()),
        "first": len(right[:_FIRST]),
        "accuracy_pgd20": golden.run(network, encode(changed, network), keep=False).accuracy(some.labels),
        "eps": _EPS,
        "attacked": len(some),
        "weights": sum(array.size for array in weights),
        "nonzero_weights": sum(int(np.count_nonzero(array)) for array in weights),
        "multiply_accumulates": dense,
        "products_share": shares[0],
        "products_share_full": shares[-1],
        "mean_cycles": float(runs[0].cycles.mean()),
        "exit_share": float((runs[0].exit_index < len(network.exits) - 1).mean()),
    }


def add(
    path: Path,
    result: dict[str, Any],
    source: Dataset,
    *,
    method: str = "",
    folder: Path = zoo.FOLDER,
    images: int = 10_000,
    attacked: int = 500,
    progress: Progress | None = None,
) -> list[zoo.Entry]:
    """Measure a recipe's network and the unpruned one beside it, and put both into the zoo, the latter as NAME-dense.

    Parameters
    ----------
    path : Path
        Compressed network.
    result : dict
        What ``offramp train RECIPE`` wrote beside it.
    method : str
        What the table calls it; what the recipe is about if nothing.

    Raises
    ------
    ValueError
        When the result isn't a recipe's, or the network doesn't fit the recipe's accelerator, the unpruned one not even
        with the widest list memories.
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
        "config": recipe["config"],
        "file": f"{recipe['name']}.off",
    }
    config = preset(recipe["config"])
    options: dict[str, Any] = {
        "images": images, "attacked": attacked, "seed": result["seed"], "progress": progress,
    }  # fmt: skip
    pruned = figures(compressed.network, compressed.activity, source, config, **options)
    while True:
        try:
            dense = figures(compressed.dense, compressed.dense_activity, source, config, **options)
            break
        except ValueError:
            if config.list_words >= _WIDEST_LISTS:
                raise
            config = config.replace(list_words=2 * config.list_words)
    described = [
        {"name": recipe["name"], "method": method or recipe["about"], "part": "network"}
        | {"accuracy_float": result["metrics"]["pruned_final"], **common, **pruned},
        {"name": f"{recipe['name']}-dense", "method": "dense int8", "part": "dense"}
        | {"accuracy_float": result["metrics"]["float_final"], **common, **dense},
    ]
    return zoo.put(compressed, described, folder)
