"""A command of our own that runs beside another one and ends with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Background", "background"]

_PATIENCE = 10  # seconds to clean up after an interrupt


class Background:
    """An ``offramp`` command in a process of its own.

    Parameters
    ----------
    arguments : list of str
        Command and options.
    log : Path
        Where its output goes.
    """

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._name = arguments[0]
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as file:
            # A session of its own, so that its tools can be ended together with it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "offramp", *arguments], stdout=file, stderr=file, start_new_session=True
            )

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

    def stop(self) -> None:
        """End it and what it started, if it still runs."""
        for number in (signal.SIGINT, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def background(arguments: list[str], log: Path) -> Iterator[Background]:
    """Run a command beside what the block does; leaving the block ends it."""
    process = Background(arguments, log)
    try:
        yield process
    finally:
        process.stop()
