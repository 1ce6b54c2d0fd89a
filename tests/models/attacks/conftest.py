"""The demo network as attackers see it, and some images."""

import pytest

from models.checkpoint import Compressed
from models.data import Dataset, Split
from models.surrogate import Surrogate


@pytest.fixture(scope="package")
def target(compressed: Compressed) -> Surrogate:
    return Surrogate(compressed.network)


@pytest.fixture(scope="package")
def some(digits: Dataset) -> Split:
    return digits.test.take(120)
