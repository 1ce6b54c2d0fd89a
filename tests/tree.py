"""A small tree of processes that runs for ever, and whether any of it is left."""

import os
import time
from pathlib import Path

_PATIENCE = 60  # seconds; a busy machine needs some


class Tree:
    """A script that tells through a named pipe that it runs; its child holds the pipe, too.

    Parameters
    ----------
    folder : Path
        Where the script and the pipe are made.
    first : str
        What the script does before it tells.
    """

    def __init__(self, folder: Path, first: str = ":") -> None:
        pipe = folder / "alive"
        os.mkfifo(pipe)
        self._reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.script = folder / "tree.sh"
        self.script.write_text(f"#!/bin/sh\nexec 3>'{pipe}'\n{first}\necho runs >&3\nsleep 1000 &\nsleep 1000\n")
        self.script.chmod(0o755)

    def _read(self) -> bytes | None:
        """What came through the pipe; nothing when nobody holds it; None when it is held."""
        try:
            return os.read(self._reader, 100)
        except BlockingIOError:
            return None

    def _becomes(self, expected: bytes) -> bool:
        deadline = time.monotonic() + _PATIENCE
        while (found := self._read()) != expected and time.monotonic() < deadline:
            time.sleep(0.02)
        return found == expected

    def runs(self) -> bool:
        """Wait until it has started."""
        return self._becomes(b"runs\n")

    def gone(self) -> bool:
        """Wait until none of its processes is left."""
        return self._becomes(b"")
