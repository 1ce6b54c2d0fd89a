"""A generated core for the tests of its files and of what takes them."""

import pytest

from hw.config import preset
from offramp.ip_core.files import core_files
from tests.conftest import made_once


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, str]:
    """Files of a core of ``tiny`` that is called mine."""
    with made_once(tmp_path_factory, "core") as (folder, first):
        if first:
            for name, text in core_files(preset("tiny"), "mine").items():
                (folder / name).write_text(text)
    return {path.name: path.read_text() for path in folder.iterdir()}
