"""The demo's network for all tests that need a real one: trained briefly, and compressed as the zoo has it."""

from dataclasses import replace

import pytest

from models import zoo
from models.datasets.splits import Dataset, load
from models.recipes import checkpoint
from models.recipes.checkpoint import Checkpoint, Compressed
from models.recipes.pipeline import train
from models.recipes.recipe import builtin
from tests.conftest import made_once

#: A fifth of the recipe's.
_EPOCHS = 16


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def trained(digits: Dataset, tmp_path_factory) -> Checkpoint:
    with made_once(tmp_path_factory, "trained") as (folder, first):
        if first:
            recipe = builtin("digits")
            (stage,) = recipe.train
            brief = replace(stage, schedule=replace(stage.schedule, epochs=_EPOCHS))
            checkpoint.save(folder / "trained.off", train(replace(recipe, train=(brief,)), digits))
    return checkpoint.load(folder / "trained.off")


@pytest.fixture(scope="session")
def compressed() -> Compressed:
    """What the whole recipe made."""
    return zoo.load(zoo.entry("digits"))
