"""A small network, trained and compressed once for all tests that need a real one."""

from dataclasses import replace

import pytest

from models.checkpoint import Checkpoint, Compressed
from models.data import Dataset, load
from models.recipe import Recipe, compress, recipe, train
from models.train import Schedule


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def quick() -> Recipe:
    """The digits recipe with a few of its epochs."""
    return replace(
        recipe("digits"),
        training=Schedule(epochs=25, lr=0.01, shift=1),
        tuning=Schedule(epochs=20, lr=0.01, shift=1),
        quantizing=Schedule(epochs=4, lr=0.001, shift=1),
    )


@pytest.fixture(scope="session")
def trained(digits: Dataset, quick: Recipe) -> Checkpoint:
    return train(quick, digits)


@pytest.fixture(scope="session")
def compressed(digits: Dataset, quick: Recipe, trained: Checkpoint) -> Compressed:
    return compress(quick, trained, digits)
