"""The one way in which processes are started: they end with the process that started them, however that ends.

Between both stands a keeper, this file run as a script. It starts the command in a process group and waits for it;
beside that it reads a pipe that nobody writes into and whose other end only the parent holds. When that end closes,
because the parent wants it or because it was killed, the keeper ends the whole group.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["run", "started"]

#: Seconds that a group has to clean up after SIGTERM before SIGKILL ends it.
_PATIENCE = 10.0
#: Exit code for a command that can't be started, as shells have it.
_NOT_STARTED = 127
#: Signals for the keeper that mean the command.
_MEANT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def started(
    command: Sequence[str | Path], *, patience: float = _PATIENCE, **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Run a command beside what the block does; leaving the block ends it and everything it started.

    Parameters
    ----------
    command : sequence of str or Path
        Program and arguments.
    patience : float
        Seconds between SIGTERM and SIGKILL.
    **options
        Of :class:`subprocess.Popen`; standard input is empty by default.

    Yields
    ------
    Popen
        Its exit code is the command's, 128 + N when signal N ended that, 127 when it couldn't be started.
    """
    reading, writing = os.pipe()
    keeper = [sys.executable, "-IS", __file__, str(reading), str(patience), *map(str, command)]
    options = {"stdin": subprocess.DEVNULL} | options
    try:
        process = subprocess.Popen(keeper, pass_fds=(reading,), process_group=0, **options)
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    with process:
        try:
            yield process
        finally:
            os.close(writing)


def run(
    command: Sequence[str | Path], *, given: str | None = None, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a command to its end, as :func:`started` does.

    Parameters
    ----------
    given : str, optional
        Its standard input.
    timeout : float, optional
        Seconds after which it is ended.

    Raises
    ------
    subprocess.TimeoutExpired
    """
    if given is not None:
        options |= {"stdin": subprocess.PIPE, "text": True}
    with started(command, **options) as process:
        output, errors = process.communicate(given, timeout)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _keep(pipe: int, patience: float, command: list[str]) -> int:
    """Run a command until it ends or the pipe closes; its exit code."""
    early: list[int] = []  # signals that come before there is a command
    for number in _MEANT:
        if signal.getsignal(number) is not signal.SIG_IGN:  # what is ignored, the command ignores as well
            signal.signal(number, lambda number, _: early.append(number))
    try:
        process = subprocess.Popen(command, process_group=0)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return _NOT_STARTED
    ended = threading.Event()

    def watch() -> None:
        os.read(pipe, 1)
        _signal_group(process.pid, signal.SIGTERM)
        if not ended.wait(patience):
            _signal_group(process.pid, signal.SIGKILL)

    for number in _MEANT:
        signal.signal(number, lambda number, _: _signal_group(process.pid, number))
    for missed in early:
        _signal_group(process.pid, missed)
    threading.Thread(target=watch, daemon=True).start()
    code = process.wait()
    ended.set()
    # What the command left running ends as well.
    _signal_group(process.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(_keep(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
