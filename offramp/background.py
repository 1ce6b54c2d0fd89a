"""A command of our own that runs beside another one and ends with it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    result : Path
        Its result file.
    """

    def __init__(self, name: str, process: subprocess.Popen[Any], log: Path, result: Path) -> None:
        self._name = name
        self._process = process
        self._log = log
        self._result = result

    def last_line(self) -> str:
        """What it said last."""
        lines = [line.strip() for line in self._log.read_text().splitlines() if line.strip()]
        return lines[-1] if lines else "no output"

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; whether it has ended.

        It is done when it ends with 0, or with 1 and a result: something differs then, or timing is not met.

        Raises
        ------
        ValueError
            When it failed; the message is its own.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if code not in (0, 1) or not self._result.exists():
            raise ValueError(f"{self._name} in the background failed: {self.last_line()}")
        return True

    def result(self) -> dict[str, Any]:
        """What its result file holds, once it has ended."""
        return dict(json.loads(self._result.read_text()))


@contextmanager
def background(arguments: list[str], log: Path, result: Path) -> Iterator[Background]:
    """Run a command with a result file beside what the block does; leaving the block ends it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    result.unlink(missing_ok=True)  # of an earlier one
    command = [sys.executable, "-m", "offramp", *arguments, "--json", str(result)]
    with log.open("w") as file, started(command, stdout=file, stderr=file) as process:
        yield Background(arguments[0], process, log, result)
