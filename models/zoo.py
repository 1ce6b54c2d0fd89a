"""The zoo: trained integer networks, small files with their figures and checksums in one index.

``zoo/index.json`` lists the networks; each lies, pruned or unpruned, in the compressed network's file
(:mod:`models.recipes.checkpoint`) of the recipe that made it. A file is believed only when its SHA-256 is the index's.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from hw.network.network import Network
from hw.output import write_file
from hw.typed import call
from models.datasets.splits import NAMES
from models.recipes import checkpoint
from models.recipes.checkpoint import Compressed

__all__ = ["FOLDER", "PREFIX", "ZooEntry", "entries", "entry", "load", "part", "put"]

#: The zoo of this project.
FOLDER = Path(__file__).parents[1] / "zoo"
#: What names of its networks begin with where a file's name might stand.
PREFIX = "zoo:"

_INDEX = "index.json"
_PARTS = ("network", "dense")


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """What the index says of a network. Shares and accuracies are in 0..1 and of the integers unless said.

    Parameters
    ----------
    name, method, dataset : str
    recipe, recipe_digest : str
        Recipe that made it, in ``recipes/``, and what :meth:`models.recipes.recipe.Recipe.digest` was.
    seed : int
    config : str
        Accelerator that the cycles are of.
    file, sha256 : str
        File in the zoo, and its checksum.
    part : str
        ``network``, or ``dense``: the unpruned one of the file, without early exits.
    images : int
        Test images of ``accuracy_int8``, ``products_share``, cycles, ``exit_share`` and ``flagged``.
    accuracy_float, accuracy_int8 : float
        Of the float network that was quantized (final head, whole test set); of the integers, exits taken.
    accuracy_first : float
        Of the integers on the first ``first`` test images, for quick checks.
    first : int
    attacked : int
        The first test images, of which the next three are.
    accuracy_clean : float
        Not attacked.
    accuracy_pgd20 : float
        Under PGD-20 on the final head with L-infinity ``eps``.
    accuracy_worst : float
        Share that withstands every attack of :func:`models.attacks.robustness` with ``eps``, that PGD-20, exits and
        gradients past what isn't multiplied included.
    eps : float
    weights, nonzero_weights : int
    activation_density : float
        Share of activations that are multiplied, of all maps together.
    multiply_accumulates : int
        Of the network without early exits if nothing were zero.
    products_share : float
        Products of two nonzero factors up to the exit taken, mean over the images, by ``multiply_accumulates``.
    products_share_full : float
        The same if no image left early.
    mean_cycles : float
    share_of_limit : float
        Products by multipliers and cycles.
    routed : str or None
        Accelerator with a routed bitstream, whose clock is known; None where the network doesn't fit it, as of the next
        four.
    routed_cycles : float or None
        Mean cycles there.
    routed_worst : int or None
        Most that one of the images takes there; None where it wasn't measured yet, too, as of the next two.
    routed_bound : int or None
        Most that any image can take there (:func:`sim.worst_case`).
    routed_back_to_back : float or None
        Cycles per image there where the next one is loaded meanwhile (:func:`sim.time_batch`).
    exit_share : float
        Of images that leave early.
    flagged : float
        Of images that leave with a margin out of its exit's range, as the accelerator flags them.
    """

    name: str
    method: str
    dataset: str
    recipe: str
    recipe_digest: str
    seed: int
    config: str
    file: str
    sha256: str
    part: str
    images: int
    accuracy_float: float
    accuracy_int8: float
    accuracy_first: float
    first: int
    attacked: int
    accuracy_clean: float
    accuracy_pgd20: float
    accuracy_worst: float
    eps: float
    weights: int
    nonzero_weights: int
    activation_density: float
    multiply_accumulates: int
    products_share: float
    products_share_full: float
    mean_cycles: float
    share_of_limit: float
    routed: str | None
    routed_cycles: float | None
    routed_worst: int | None
    routed_bound: int | None
    routed_back_to_back: float | None
    exit_share: float
    flagged: float

    def __post_init__(self) -> None:
        for text in (self.name, self.file):
            if not text.strip(".") or not all(letter.isalnum() or letter in "-_." for letter in text):
                raise ValueError(f"name and file must be of letters, digits, '-', '_' and '.', not {text!r}")
        for name, known in (("part", _PARTS), ("dataset", NAMES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{self.name}: {name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for entry in fields(self):
            value, share = getattr(self, entry.name), entry.name.startswith("accuracy") or "share" in entry.name
            if isinstance(value, int | float) and not 0 <= value <= (1 if share else math.inf):
                raise ValueError(
                    f"{self.name}: {entry.name} must be {'in 0..1' if share else '0 or more'}, not {value}"
                )


def entries(folder: Path = FOLDER) -> list[ZooEntry]:
    """All networks of a zoo, by name.

    Raises
    ------
    ValueError
        When the index can't be read or is no index.
    """
    path = folder / _INDEX
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        found = [call(ZooEntry, each, f"network {number}") for number, each in enumerate(table["networks"])]
        return sorted(found, key=lambda each: each.name)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: must be the index of a zoo: {error}") from error


def entry(name: str, folder: Path = FOLDER) -> ZooEntry:
    """The network of that name, with or without ``zoo:``.

    Raises
    ------
    ValueError
        When there is none.
    """
    wanted = name.removeprefix(PREFIX)
    every = {found.name: found for found in entries(folder)}
    if wanted not in every:
        raise ValueError(f"the zoo has {', '.join(every) or 'no network'}, not {wanted!r}")
    return every[wanted]


def load(found: ZooEntry, folder: Path = FOLDER) -> Compressed:
    """The file of a network, after its checksum was compared.

    Raises
    ------
    ValueError
        When it is missing, altered or no compressed network.
    """
    path = folder / found.file
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if digest != found.sha256:
        raise ValueError(f"{path}: altered: its SHA-256 must be {found.sha256}, not {digest}")
    return checkpoint.load_compressed(path)


def part(found: ZooEntry, compressed: Compressed) -> tuple[Network, dict[str, np.ndarray]]:
    """The network that an entry is about, named after its data set, and its activity
    (:mod:`models.integer.activity`).
    """
    network, activity = compressed.network, compressed.activity
    if found.part == "dense":
        network, activity = compressed.dense, compressed.dense_activity
    return network, activity


def put(compressed: Compressed, described: list[dict[str, Any]], folder: Path = FOLDER) -> list[ZooEntry]:
    """Write a file and the entries of its networks, in place of those of the same names.

    Parameters
    ----------
    described : list of dict
        Fields of the entries, but for the checksum; all with one ``file``.

    Raises
    ------
    ValueError
        When a field is missing, unknown or impossible, or the index can't be read.
    """
    try:
        made = [ZooEntry(**fields, sha256="") for fields in described]
    except TypeError as error:
        raise ValueError(f"an entry of the zoo is incomplete or has unknown fields: {error}") from error
    if len({found.file for found in made}) != 1:
        raise ValueError("entries that are put into the zoo together must be of one file")
    others = entries(folder) if (folder / _INDEX).exists() else []
    path = folder / made[0].file
    checkpoint.save_compressed(path, compressed)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    made = [ZooEntry(**{**asdict(found), "sha256": digest}) for found in made]
    gone = {found.name for found in made}
    kept = [found for found in others if found.name not in gone and found.file != made[0].file]
    table = {"networks": [asdict(found) for found in sorted([*kept, *made], key=lambda found: found.name)]}
    write_file(folder / _INDEX, (json.dumps(table, indent=1) + "\n").encode())
    return made
