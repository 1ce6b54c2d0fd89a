"""A small trained and compressed network, and a demo's result, for the tests of the front door."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hw.config import preset
from hw.program.program import Program, load
from models.datasets.splits import Dataset
from models.recipes import recipe
from models.recipes.checkpoint import Compressed, load_compressed
from models.training.train import Schedule
from offramp import stages
from offramp.files import paths
from offramp.files.program_files import compiled
from tests.conftest import made_once
from tests.offramp.results import result_of

#: Settings that take seconds and still learn something.
_DIGITS = recipe.builtin("digits")
QUICK = replace(
    _DIGITS,
    train=(replace(_DIGITS.train[0], schedule=Schedule(epochs=8, lr=0.01)),),
    compress=(replace(_DIGITS.compress[0], schedule=Schedule(epochs=4, lr=0.01)),),
    quantize=replace(_DIGITS.quantize, schedule=Schedule(epochs=2, lr=0.001)),
    dense=replace(_DIGITS.dense, schedule=Schedule(epochs=2, lr=0.001)),
)


@dataclass(frozen=True)
class Small:
    """What the stages made of the quick recipe, and the folder with their files."""

    folder: Path
    source: Dataset
    network: Compressed
    program: Program
    dense: Program


@pytest.fixture
def quick_recipe(monkeypatch):
    """The recipe of digits is the quick one while a test asks for it."""
    monkeypatch.setattr(recipe, "builtin", lambda data: QUICK)
    return QUICK


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Small:
    source = stages.dataset("digits", None)
    with made_once(tmp_path_factory, "small") as (folder, first), pytest.MonkeyPatch.context() as patch:
        if first:
            patch.setattr(recipe, "builtin", lambda data: QUICK)
            network = stages.compressed(
                stages.trained(source, folder, seed=0), source, folder / paths.COMPRESSED, seed=0
            )
            compiled(network.network, preset("tiny"), folder / paths.PROGRAM, network.activity)
            stages.unpruned(network.dense, preset("tiny"), folder / paths.UNPRUNED)
    made = load_compressed(folder / paths.COMPRESSED)
    return Small(folder, source, made, load(folder / paths.PROGRAM), load(folder / paths.UNPRUNED))


@pytest.fixture(scope="session")
def finished(small) -> dict:
    """What the demo would deliver of them; not to be changed."""
    return result_of(small, QUICK)
