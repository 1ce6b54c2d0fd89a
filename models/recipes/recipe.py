"""Recipes: files that say how a network is made, from a data set to integers.

A recipe is a TOML file::

    name = "resnet8-sparse"             # of the network that comes out
    data = "cifar10"                    # digits, fashion-mnist or cifar10
    about = "one sentence"
    config = "base-85f"                 # accelerator whose cycles count; changes nothing of what is made
    train_images = 10000                # learn from the first so many only; all without it
    exit_loss = 0.005                   # validation accuracy that early exits may cost
    flagged = 0.05                      # of clean validation images: share whose margin is out of range; 0 without it
    teacher = "teacher.off"             # trained network of which distillation learns, relative to the recipe; without
                                        # it the dense network that compression began with
    levels = "ternary"                  # what weights end on (models.compression.levels), by a binary-relax piece

    [architecture]
    kind = "resnet8"                    # models.networks.architectures; the other keys are that architecture's
    widths = [16, 32, 64]

    [start]                             # without it: random weights, drawn by the seed
    weights = "official"                # MLPerf Tiny's float weights, from the data folder
    checkpoint = "trained.off"          # or a trained network's file, relative to the recipe

    [[train]]                           # stages of the dense float network, none if it comes trained
    [[compress]]                        # stages of a copy of it
    [quantize]                          # the copy's training as int8; a recipe of a float network only has none
    [dense]                             # the dense network's, for comparison; as [quantize] without pieces if not given
    name = "prune"
    epochs = 20                         # and the other settings of models.training.hyperparameters.Schedule
    pieces = [{kind = "gradual-pruning", densities = {"stem.conv.weight" = 0.5}}]   # models.recipes.registry.PIECES

    [[integer]]                         # changes of the integer network, models.recipes.registry.INTEGER
    kind = "thresholds"

Everything is checked before anything starts.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hw.config import preset
from hw.rules import shown
from hw.typed import call, checked, said, settled
from models.compression.fakequant import FakeQuantNet
from models.compression.levels import LEVELS
from models.datasets.splits import NAMES, SHAPES
from models.frontends.pytorch.merge import lowered
from models.networks import architectures
from models.networks.architectures import AnyArchitecture
from models.recipes.registry import INTEGER, PIECES, Context
from models.recipes.start import Start, starting_network, trained_teacher
from models.training.hyperparameters import Schedule

__all__ = [
    "FOLDER",
    "Recipe",
    "Stage",
    "builtin",
    "change_integers",
    "check",
    "load",
    "make_pieces",
]

#: Where the recipes of this project lie.
FOLDER = Path(__file__).parents[2] / "recipes"

#: Most bytes of a recipe.
_LARGEST = 1 << 20

#: What the dense network's training as int8 is called by default.
_UNPRUNED = "quantize unpruned"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training run.

    Parameters
    ----------
    name : str
    schedule : Schedule
    pieces : tuple of dict
        Each with its ``kind`` and settings, see :data:`models.recipes.registry.PIECES`.
    """

    name: str
    schedule: Schedule
    pieces: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is made; the module's text explains the file.

    Parameters
    ----------
    name, data, about, config : str
    architecture : dict
        Its kind and settings; shape and classes are the data set's.
    start : Start or None
    train, compress : tuple of Stage
    quantize, dense : Stage or None
        None where nothing but the float network is made.
    integer : tuple of dict
    train_images : int
        0 for all.
    teacher : str
        File of a trained network, of any architecture; empty for none.
    exit_loss : float
        Accuracy that early exits may cost on validation data, in 0..1.
    flagged : float
        Share of clean validation images that leave an exit with a margin out of its range
        (:func:`models.methods.detector.with_ranges`), in 0..1. With 0 exits have no ranges, and no image is flagged.
    levels : str or None
        One of :data:`models.compression.levels.LEVELS`; None for int8.

    Raises
    ------
    ValueError
        When a value is impossible.
    """

    name: str
    data: str
    about: str = ""
    config: str = "single"
    architecture: dict[str, Any]
    start: Start | None = None
    train: tuple[Stage, ...] = ()
    compress: tuple[Stage, ...] = ()
    quantize: Stage | None = None
    dense: Stage | None = None
    integer: tuple[dict[str, Any], ...] = ()
    train_images: int = 0
    teacher: str = ""
    exit_loss: float = 0.005
    flagged: float = 0.0
    levels: str | None = None

    def __post_init__(self) -> None:
        if self.data not in NAMES:
            raise ValueError(f"data must be one of {', '.join(NAMES)}, not {self.data!r}")
        if not self.name or not all(letter.isalnum() or letter in "-_." for letter in self.name):
            raise ValueError(f"name must be of letters, digits, '-', '_' and '.', not {self.name!r}")
        if not 0.0 <= self.exit_loss <= 1.0:
            raise ValueError(f"exit_loss must be in 0..1, not {self.exit_loss}")
        if not 0.0 <= self.flagged <= 1.0:
            raise ValueError(f"flagged must be in 0..1, not {self.flagged}")
        if self.train_images < 0:
            raise ValueError(f"train_images must not be negative, not {self.train_images}")
        if self.levels is not None:
            self._check_levels(self.levels)
        if self.start is None and not self.train:
            raise ValueError("a recipe without a start must have a [[train]] stage")
        if self.quantize is None and (self.compress or self.integer or self.dense):
            raise ValueError("quantize must be given where there is [[compress]], [dense] or [[integer]]")
        stages = (*self.train, *self.compress, *self.integer_stages)
        names = [stage.name for stage in stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"names of stages must differ, not both be {name!r}")
        side = min(SHAPES[self.data][0][:2])
        for stage in stages:
            shift = stage.schedule.shift
            if shift >= side:
                raise ValueError(f"{stage.name}: shift must be below the {side} pixels of an image's side, not {shift}")
        preset(self.config)
        _ = self.network_architecture

    def _check_levels(self, levels: str) -> None:
        if levels not in LEVELS:
            raise ValueError(f"levels must be one of {', '.join(LEVELS)}, not {levels!r}")
        last = (*self.train, *self.compress)[-1:]
        pieces = [piece for stage in last for piece in stage.pieces if piece.get("kind") == "binary-relax"]
        if [piece.get("levels", "ternary") for piece in pieces] != [levels]:
            raise ValueError(
                f"levels {levels} need a binary-relax piece of that kind in the last stage before quantize"
            )

    @property
    def integer_stages(self) -> tuple[Stage, ...]:
        """Training as int8: of the compressed network and of the dense one."""
        return tuple(stage for stage in (self.quantize, self.dense) if stage is not None)

    @property
    def network_architecture(self) -> AnyArchitecture:
        """The architecture, for the data set's images."""
        shape, classes = SHAPES[self.data]
        return architectures.from_dict({**self.architecture, "shape": shape, "classes": classes})

    def digest(self) -> str:
        """SHA-256 of all that the network depends on; what is as it is by default doesn't count, so new settings change
        nothing, nor do the folder of the teacher and the accelerator whose cycles count."""
        says = said(replace(self, teacher=Path(self.teacher).name, config=type(self).config))
        return hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()


def load(path: Path) -> Recipe:
    """A recipe's file.

    Raises
    ------
    ValueError
        When it can't be read, isn't TOML, or has a key or a value that is unknown or impossible; the message names it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise ValueError(f"{path}: must be at most {_LARGEST:,} bytes")
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be a text in UTF-8: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: must be TOML: {error}") from error
    try:
        return _parse(table, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def builtin(data: str) -> Recipe:
    """The recipe of the demo for a data set.

    Raises
    ------
    ValueError
        When there is none.
    """
    if data not in NAMES:
        raise ValueError(f"data must be one of {', '.join(NAMES)}, not {data!r}")
    return load(FOLDER / f"{data}.toml")


def _parse(table: dict[str, Any], folder: Path) -> Recipe:
    known = [entry.name for entry in fields(Recipe)]
    for key in table:
        if key not in known:
            raise ValueError(f"{shown(key)} is unknown: keys are {', '.join(known)}")
    for key in ("name", "data", "architecture"):
        if key not in table:
            raise ValueError(f"{key} must be given")
    for key in ("architecture", "start", "quantize", "dense"):
        if key in table and not isinstance(table[key], dict):
            raise ValueError(f"{key} must be a table, not {shown(table[key])}")
    quantize = _stage(table["quantize"], "quantize", "quantize") if "quantize" in table else None
    dense = _stage(table["dense"], "dense", _UNPRUNED) if "dense" in table else None
    if dense is None and quantize is not None:
        dense = Stage(name=_UNPRUNED, schedule=quantize.schedule)
    start = None
    if "start" in table:
        start = call(Start, table["start"], "start")
        if start.checkpoint:
            start = Start(checkpoint=str(folder / start.checkpoint))
    made: dict[str, Any] = {
        "architecture": table["architecture"],
        "start": start,
        "train": tuple(_stage(entry, "train", f"train {n + 1}") for n, entry in enumerate(_list(table, "train"))),
        "compress": tuple(
            _stage(entry, "compress", f"compress {n + 1}") for n, entry in enumerate(_list(table, "compress"))
        ),
        "quantize": quantize,
        "dense": dense,
        "integer": tuple(_list(table, "integer")),
    }
    if "teacher" in table:
        made["teacher"] = str(folder / checked(table["teacher"], str, "teacher"))
    for entry in made["integer"]:
        call(*_entry(INTEGER, entry, "integer"))

    return call(Recipe, {key: value for key, value in table.items() if key not in made}, "recipe", **made)


def _list(table: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError(f"{key} must be a list of tables, not {shown(found)}")
    return found


def _stage(table: dict[str, Any], key: str, name: str) -> Stage:
    values = dict(table)
    pieces = _list(values, "pieces")
    values.pop("pieces", None)
    name = checked(values.pop("name", name), str, f"{key}: name")
    for entry in pieces:
        settled(*_entry(PIECES, entry, _piece(name)), given=1)
    return Stage(name=name, schedule=call(Schedule, values, f"{key} {name!r}"), pieces=tuple(pieces))


def make_pieces(stage: Stage, context: Context) -> list[Any]:
    """The pieces of a stage.

    Raises
    ------
    ValueError
        When a kind is unknown, or a setting unknown or impossible.
    """
    return [call(*_entry(PIECES, entry, _piece(stage.name)), context) for entry in stage.pieces]


def _piece(stage: str) -> str:
    """What to call a piece of a stage."""
    return f"stage {stage!r}, piece"


def _entry(table: Mapping[str, Any], entry: Mapping[str, Any], what: str) -> tuple[Any, dict[str, Any], str]:
    """The maker of an entry's kind, its settings, and what to call it."""
    settings = dict(entry)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in table:
        raise ValueError(f"{what}: kind must be one of {', '.join(table)}, not {shown(kind)}")
    return table[kind], settings, f"{what} {kind!r}"


def change_integers(recipe: Recipe, network: Any, context: Any) -> Any:
    """The integer network after the recipe's ``[[integer]]`` changes.

    Raises
    ------
    ValueError
        When a setting doesn't fit the network.
    """
    for entry in recipe.integer:
        network = call(*_entry(INTEGER, entry, "integer")).change(network, context)
    return network


def check(recipe: Recipe, root: Path | None = None) -> None:
    """Make everything that a recipe asks for once, on a network of its architecture, without training.

    Raises
    ------
    ValueError
        When the start's file can't be read, or a stage, a piece or a change is unknown or impossible.
    """
    model = starting_network(recipe.start, recipe.network_architecture, 0, root)
    teacher = trained_teacher(recipe.teacher, recipe.data)
    shape = SHAPES[recipe.data][0]
    for stage in (*recipe.train, *recipe.compress):
        make_pieces(stage, Context(model=model, dataset=None, dense=model, stage=stage.name, teacher=teacher))
    if recipe.quantize is None:
        return
    twin = FakeQuantNet(lowered(model.eval(), shape))
    for stage in recipe.integer_stages:
        make_pieces(stage, Context(model=twin, dataset=None, dense=model, stage=stage.name, teacher=teacher))
    for entry in recipe.integer:
        maker, settings, what = _entry(INTEGER, entry, "integer")
        try:
            call(maker, settings, what).check(twin.weighted())
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error
