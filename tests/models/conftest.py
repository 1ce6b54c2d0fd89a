"""The demo's network for all tests that need a real one: trained briefly, and compressed as the zoo has it.

And what a process may have told PyTorch, setting by setting.
"""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from models import zoo
from models.datasets.splits import Dataset, load
from models.recipes import checkpoint
from models.recipes.checkpoint import Checkpoint, Compressed
from models.recipes.pipeline import train
from models.recipes.recipe import builtin
from tests.conftest import made_once
from tests.models.settings import SETTINGS

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


@pytest.fixture(params=list(SETTINGS))
def setting(request) -> Iterator[AbstractContextManager]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN")  # of flags itself
        warnings.filterwarnings("ignore", "In CPU autocast, but the target dtype")
        yield SETTINGS[request.param]()
