"""What tests of several packages share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The data folder: OFFRAMP_DATA, else ``shared/data`` beside the repository; without either the test is skipped."""
    named = os.environ.get("OFFRAMP_DATA")
    root = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no data folder {root}: set OFFRAMP_DATA")
    return root
