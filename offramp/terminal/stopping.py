"""A command that is told to stop cleans up, says what it kept, and ends with the exit code that shells expect."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

__all__ = ["Stopped", "kept", "stoppable"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds in which further signals are the same request: a terminal and timeout(1) send more than one.
_SAME = 1.0


class Stopped(BaseException):
    """A signal asked the command to end; no ``except Exception`` may stand in the way.

    Parameters
    ----------
    number : signal.Signals
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.code = 128 + number
        self.number = number

    def unless_noted(self, note: str) -> None:
        """Say what is kept and how to go on, unless that is said already."""
        if not getattr(self, "__notes__", None):
            self.add_note(note)

    def __str__(self) -> str:
        notes = [*getattr(self, "__notes__", []), "files written before are whole and stay"]
        return f"stopped by {self.number.name}: {'; '.join(notes)}"


@contextmanager
def stoppable() -> Iterator[None]:
    """Signals that end a command raise :class:`Stopped` in the block; ignored ones (nohup) stay ignored.

    Only for the main thread.
    """
    last = -_SAME

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= _SAME:
            raise Stopped(signal.Signals(number))

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def kept(folder: Path, note: str) -> Iterator[None]:
    """When the block is stopped, say what is kept of its work, if there is anything in the folder.

    Parameters
    ----------
    folder : Path
        Where it is kept.
    note : str
        What to say; {} stands for the folder.
    """
    try:
        yield
    except Stopped as stop:
        if any(folder.glob("*")):
            stop.add_note(note.format(folder))
        raise
