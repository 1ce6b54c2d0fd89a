"""The demo network as attackers see it, and some images."""

import pytest

from models.datasets.splits import Dataset, Split
from models.integer.surrogate import Surrogate
from models.recipes.checkpoint import Compressed


@pytest.fixture(scope="package")
def target(compressed: Compressed) -> Surrogate:
    return Surrogate(compressed.network)


@pytest.fixture(scope="package")
def some(digits: Dataset) -> Split:
    return digits.test.take(120)
