"""What a person sees while something runs: bars on a terminal, lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBars

from models.datasets.sources import Progress

__all__ = ["Terminal", "diverted", "results"]

_INTERVAL = 5.0  # seconds between lines where bars can't be drawn
_PATIENCE = 30.0  # seconds between equal lines
_WIDTH = 10_000  # of lines in files and pipes, where nothing says how wide they may be


#: Whether tables go to standard error, because a file goes to standard output.
_diverted = ContextVar("diverted", default=False)


@contextmanager
def diverted() -> Iterator[None]:
    """Tables go to standard error while a command runs that writes a file to standard output."""
    token = _diverted.set(True)
    try:
        yield
    finally:
        _diverted.reset(token)


class _Results(Console):
    """A console whose errors say what can't be written to."""

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as error:
            where = "standard error" if self.stderr else "standard output"
            raise OSError(error.errno, error.strerror, where) from error


def results() -> Console:
    """Standard output, for tables: as wide as the terminal, or as wide as they are. Text is taken as it is."""
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "stderr": _diverted.get()}
    console = _Results(**plain)
    return console if console.is_terminal else _Results(**plain, width=_WIDTH)


class Terminal:
    """Progress and results on one console.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where progress goes; standard error by default, so that standard output holds results only.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Show a stage while it runs and how long it took when it is over."""
        start = time.monotonic()
        with self._bar(name) if self.console.is_terminal else self._lines(name) as step:
            yield step
        self.say(f"✓ {name} ({time.monotonic() - start:.1f} s)")

    @contextmanager
    def _bar(self, name: str) -> Iterator[Progress]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
        with ProgressBars(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(name, total=None)

            def step(done: int, total: int, text: str = "") -> None:
                described = f"{name}: {text}" if text else name
                progress.update(task, completed=done, total=total or None, description=described)

            yield step

    @contextmanager
    def _lines(self, name: str) -> Iterator[Progress]:
        shown, last = time.monotonic(), ""
        self.say(f"… {name}")

        def step(done: int, total: int, text: str = "") -> None:
            nonlocal shown, last
            share = f" ({100 * done // total} %)" if total else ""
            line = f"  {name}{f': {text}' if text else ''}{share}"
            quiet = time.monotonic() - shown
            # The same line again only as a sign of life.
            if quiet >= (_INTERVAL if line != last else _PATIENCE):
                shown, last = time.monotonic(), line
                self.say(line)

        yield step
