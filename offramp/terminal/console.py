"""What a person sees while something runs: bars on a terminal, lines elsewhere."""

import re
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console

from offramp.terminal.errors import named_stream
from offramp.terminal.stopping import Stopped

if TYPE_CHECKING:
    from models.datasets.sources import Progress

__all__ = ["Terminal", "diverted", "folded", "results"]

_INTERVAL = 5.0  # seconds between lines where bars can't be drawn
_PATIENCE = 25.0  # seconds after which a line is a sign of life
_WIDTH = 10_000  # of lines in files and pipes, where nothing says how wide they may be
#: Columns of a bar, on terminals from so many columns on; of the times beside it; of spinner and share.
_BAR, _WIDE, _TIMES, _SHARE = 24, 100, 32, 7
_MEMORY = 600.0  # seconds whose steps a bar's speed is of: a step may take minutes


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
    """A console whose errors say what can't be written to; what it prints stands on lines of its own.

    In a pipe no line ends in spaces, which tables are filled up with.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        with named_stream("standard error" if self.stderr else "standard output"):
            if self.is_terminal:
                super().print(*objects, sep="\n", **options)
                return
            with self.capture() as printed:
                super().print(*objects, sep="\n", **options)
            self.file.write("\n".join(line.rstrip(" ") for line in printed.get().split("\n")))
            self.file.flush()


def results() -> Console:
    """Standard output, for tables: as wide as the terminal, or as wide as they are. Text is taken as it is."""
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "stderr": _diverted.get()}
    console = _Results(**plain)
    return console if console.is_terminal else _Results(**plain, width=_WIDTH)


def folded(text: str, width: int) -> str:
    """A listing whose long lines go on below their first field, ``name=value``; words stay whole."""
    return "\n".join(_folded(line, width) for line in text.split("\n"))


def _folded(line: str, width: int) -> str:
    field = re.search(r"\S+=", line)
    indent = " " * min(field.start() if field else 0, width // 2)
    whole: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return line if len(line) <= width else textwrap.fill(line, width, subsequent_indent=indent, **whole)


def _cut(text: str, room: int) -> str:
    """A text that fits beside a bar: of a longer one the end, which says what is going on now."""
    return text if len(text) <= room else f"…{text[len(text) - room + 1 :]}"


def _described(stage: str, text: str) -> str:
    """A stage and what goes on in it; the stage's name, with which a text may begin, isn't said again."""
    name = re.sub(r"^\d+/\d+ ", "", stage)  # those of the demo are numbered
    rest = "" if text == name else text.removeprefix(f"{name}: ")
    return f"{stage}: {rest}" if rest else stage


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(timedelta(seconds=int(seconds)))


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
        self.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator["Progress"]:
        """Show a stage while it runs and how long it took when it is over.

        Stopped, it says how to go on, unless what it did says so.
        """
        start = time.monotonic()
        with self._bar(name) if self.console.is_terminal else self._lines(name) as step:
            try:
                yield step
            except Stopped as stop:
                stop.unless_noted(f"{name} was not finished, the same command begins it anew")
                raise
        self.say(f"✓ {name} ({time.monotonic() - start:.1f} s)")

    @contextmanager
    def _bar(self, name: str) -> Iterator["Progress"]:
        from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskProgressColumn, TextColumn
        from rich.progress import Progress as ProgressBars
        from rich.text import Text

        class Times(ProgressColumn):
            """How long the stage runs already and, where its speed is known, how long it will go on."""

            def render(self, task: Task) -> Text:
                times = [_clock(task.elapsed or 0.0)]
                if task.time_remaining is not None:
                    times.append(f"{_clock(task.time_remaining)} left")
                return Text(", ".join(times))

        bar = _BAR if self.console.width >= _WIDE else _BAR // 2
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        room = self.console.width - bar - _TIMES
        if room >= bar:
            columns += [BarColumn(bar_width=bar), TaskProgressColumn(), Times()]
        else:  # no room for more than what is going on, and the share of it
            columns += [TaskProgressColumn()]
            room = max(1, self.console.width - _SHARE)
        how: dict[str, Any] = {"console": self.console, "transient": True, "speed_estimate_period": _MEMORY}
        with ProgressBars(*columns, **how) as progress:
            task = progress.add_task(_cut(name, room), total=None)

            def step(done: int, total: int, text: str = "") -> None:
                described = _cut(_described(name, text), room)
                shown = progress.tasks[0]
                if not total or done < shown.completed:
                    shown.total = None  # another part: for update() its whole is new, and its speed not yet known
                progress.update(task, completed=done, total=total or None, description=described)

            yield step

    @contextmanager
    def _lines(self, name: str) -> Iterator["Progress"]:
        start = shown = time.monotonic()
        said, last, lock, over = "", f"  {name}", threading.Lock(), threading.Event()
        self.say(f"… {name}")

        def step(done: int, total: int, text: str = "") -> None:
            nonlocal shown, said, last
            share = f" ({100 * done // total} %)" if total else ""
            with lock:
                last = f"  {_described(name, text)}{share}"
                if last != said and time.monotonic() - shown >= _INTERVAL:
                    shown, said = time.monotonic(), last
                    self.say(last)

        def live() -> None:
            """Say the last line again where nothing else is said, and since when the stage runs."""
            nonlocal shown
            while not over.wait(_PATIENCE / 5):
                with lock:
                    if time.monotonic() - shown >= _PATIENCE:
                        shown = time.monotonic()
                        self.say(f"{last}, {shown - start:.0f} s")

        thread = threading.Thread(target=live, daemon=True)
        thread.start()
        try:
            yield step
        finally:
            over.set()
            thread.join()
