"""The demo network, trained and compressed once for all tests that need a real one."""

import pytest

from models.checkpoint import Checkpoint, Compressed
from models.data import Dataset, load
from models.recipe import compress, recipe, train


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> Checkpoint:
    return train(recipe("digits"), digits)


@pytest.fixture(scope="session")
def compressed(digits: Dataset, trained: Checkpoint) -> Compressed:
    return compress(recipe("digits"), trained, digits)
