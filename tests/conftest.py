"""What tests of several packages share.

Hypothesis draws the same examples on every run, and takes the time that a busy machine needs.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

#: Files that take longest come first: no worker is left alone with them in the end. Of those that build a simulator,
#: first one for each: others, which wait for such a build, come when it is there. The second one, the demo's, comes
#: when the first has compiled Verilator's library.
_FIRST = (
    *(
        "tests/rtl/test_layers.py",
        "tests/test_fuzz.py",
        "tests/test_wheel.py",
        "tests/rtl/test_streaming.py",
        "tests/offramp/test_demo.py",
        "tests/rtl/test_waves.py",
    ),
    *("tests/rtl/", "tests/fpga/", "tests/hw/compiler/"),
)

#: Tests make millions of short-lived objects beside the hundreds of thousands of PyTorch, which are looked through
#: again and again by default: it takes a third of the time.
gc.set_threshold(100_000, 50, 100)

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker has a core of its own; threads of PyTorch, which reads this when it is imported, would take the others'.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("offramp", derandomize=True, deadline=None)
settings.load_profile("offramp")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gc.freeze()
    items.sort(key=lambda item: next((n for n, name in enumerate(_FIRST) if item.nodeid.startswith(name)), len(_FIRST)))


@contextmanager
def made_once(factory: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """A folder of this run that all of its workers see, and whether it's for this one to fill; the others wait."""
    base = factory.getbasetemp()
    # A worker's lies in the run's.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        first = not folder.exists()
        folder.mkdir(exist_ok=True)
        yield folder, first


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
