"""The demo network, trained and compressed once for all tests that need a real one."""

import pytest

from models.datasets.splits import Dataset, load
from models.recipes.checkpoint import Checkpoint, Compressed
from models.recipes.pipeline import compress, train
from models.recipes.recipe import builtin


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> Checkpoint:
    return train(builtin("digits"), digits)


@pytest.fixture(scope="session")
def compressed(digits: Dataset, trained: Checkpoint) -> Compressed:
    return compress(builtin("digits"), trained, digits)
