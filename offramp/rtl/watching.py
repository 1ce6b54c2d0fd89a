"""Shows how far another process is that says nothing of itself, by what it leaves in files."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.datasets.sources import Progress

__all__ = ["compiled_files", "watched"]

_INTERVAL = 0.5  # seconds


@contextmanager
def watched(seen: Callable[[], tuple[int, int] | None], text: str, progress: Progress | None) -> Iterator[None]:
    """Pass on what is seen while the block runs.

    Parameters
    ----------
    seen : function
        What is done and what there is in all; None if nothing can be seen yet.
    text : str
        What is being done.
    """
    stop = threading.Event()

    def watch() -> None:
        while progress is not None and not stop.wait(_INTERVAL):
            if (found := seen()) is not None:
                progress(*found, text)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def compiled_files(folder: Path) -> tuple[int, int] | None:
    """How many of the C++ files in a folder have their object beside them, and how many there are.

    Folders in it may come and go meanwhile.
    """
    # Not Path.rglob, which raises where a folder is gone before it is looked into.
    sources = [Path(place, name) for place, _, names in os.walk(folder) for name in names if name.endswith(".cpp")]
    return (sum(source.with_suffix(".o").exists() for source in sources), len(sources)) if sources else None
