"""What tests of several packages share.

Hypothesis draws the same examples on every run, and takes the time that a busy machine needs.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

#: Files that take longest come first: no worker is left alone with them in the end.
_FIRST = ("tests/rtl/", "tests/offramp/test_demo.py", "tests/fpga/", "tests/hw/compiler/")

settings.register_profile("offramp", derandomize=True, deadline=None)
settings.load_profile("offramp")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(_FIRST))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The data folder: OFFRAMP_DATA, else ``shared/data`` beside the repository; without either the test is skipped.

    A folder that is named and isn't there is a mistake: then the test fails.
    """
    named = os.environ.get("OFFRAMP_DATA")
    root = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if root.is_dir():
        return root
    if named:
        pytest.fail(f"OFFRAMP_DATA must name a folder, not {named!r}")
    pytest.skip(f"no data folder {root}: set OFFRAMP_DATA")
