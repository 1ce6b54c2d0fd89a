"""A command of our own that runs beside another one and ends with it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hw.processes import started

__all__ = ["Background", "background"]


class Background:
    """An ``offramp`` command in a process of its own.

    Parameters
    ----------
    name : str
        Of the command.
    process : subprocess.Popen
    log : Path
        Where its output goes.
    """

    def __init__(self, name: str, process: subprocess.Popen, log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    def last_line(self) -> str:
        """What it said last."""
        lines = [line.strip() for line in self._log.read_text().splitlines() if line.strip()]
        return lines[-1] if lines else "no output"

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; whether it has ended.

        Raises
        ------
        ValueError
            When it failed; the message is its own.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if code:
            raise ValueError(f"{self._name} in the background failed: {self.last_line()}")
        return True


@contextmanager
def background(arguments: list[str], log: Path) -> Iterator[Background]:
    """Run a command beside what the block does; leaving the block ends it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "offramp", *arguments]
    with log.open("w") as file, started(command, stdout=file, stderr=file) as process:
        yield Background(arguments[0], process, log)
