"""Shows how far another process is that says nothing of itself, by what it leaves in files."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.datasets.sources import Progress

__all__ = ["compiled_files", "watched", "written_files"]

_INTERVAL = 0.5  # seconds
#: How the makefile of a module ends that lists its C++ files, and what a makefile's variables look like.
_CLASSES = "_classes.mk"
_VARIABLE = re.compile(r"^(VM_\w+) *\+?= *(.*)$", re.MULTILINE)


@contextmanager
def watched(seen: Callable[[], tuple[int, int, str] | None], progress: Progress | None) -> Iterator[None]:
    """Pass on what is seen while the block runs.

    Parameters
    ----------
    seen : function
        What is done, what there is in all, 0 if that is unknown, and what is being done; None if nothing can be seen
        yet.
    """
    stop = threading.Event()

    def watch() -> None:
        while progress is not None and not stop.wait(_INTERVAL):
            if (found := seen()) is not None:
                progress(*found)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def written_files(folder: Path) -> int:
    """How many C++ files Verilator has written into a folder."""
    return sum(name.endswith((".cpp", ".h")) for _, _, names in os.walk(folder) for name in names)


def compiled_files(folder: Path) -> tuple[int, int] | None:
    """How many files of a build of Verilator are compiled, and how many will be; None before its makefiles are there.

    By its makefiles the C++ files of a module are compiled one by one, or all as one; with those of Verilator's library
    and of the simulation's frame, which come from elsewhere.
    """
    # Not Path.rglob, which raises where a folder is gone before it is looked into.
    needed = [object for inside, _, names in os.walk(folder) for object in _objects(Path(inside), names)]
    return (sum(object.exists() for object in needed), len(needed)) if needed else None


def _objects(inside: Path, names: list[str]) -> Iterator[Path]:
    """The objects that the makefile of a module will have made, in the folder of its C++ files."""
    for name in names:
        if not name.endswith(_CLASSES):
            continue
        module = name.removesuffix(_CLASSES)
        lists = _lists(inside / name)
        own = {
            each for key, entries in lists.items() if key.startswith(("VM_CLASSES", "VM_SUPPORT")) for each in entries
        }
        library = {each for key, entries in lists.items() if key.startswith("VM_GLOBAL") for each in entries}
        frame = set(_lists(inside / f"{module}.mk").get("VM_USER_CLASSES", ()))
        others = {each.removesuffix(".cpp") for each in names if each.endswith(".cpp")} - own - {f"{module}__ALL"}
        whole = own if lists.get("VM_PARALLEL_BUILDS") == ["1"] else {f"{module}__ALL"}
        yield from (inside / f"{each}.o" for each in sorted(whole | library | frame | others))


def _lists(makefile: Path) -> dict[str, list[str]]:
    """The variables of a makefile; none where it isn't there yet."""
    try:
        text = makefile.read_text()
    except OSError:
        return {}
    return {name: words.split() for name, words in _VARIABLE.findall(text.replace("\\\n", " "))}
