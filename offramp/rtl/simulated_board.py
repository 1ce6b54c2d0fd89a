"""A board without a board: the RTL of accelerator and serial line on Verilator, behind a pseudo-terminal.

It is a process of its own, which ends with the one that started it. A host uses its terminal as any serial port; the
line is in simulated time, as fast as the simulation is.
"""

import json
import shutil
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import serial

from fpga.host.serial_link import LinkError
from hw.config import AcceleratorConfig
from hw.processes import started
from models.datasets.sources import Progress

__all__ = ["BIT_CYCLES", "BOARD", "CONTROL", "TERMINAL", "SimulatedBoard", "SimulatedPort"]

#: Clock cycles of a bit: the fewest that the receiver can follow.
BIT_CYCLES = 8
#: Environment variable that names the board's folder, and what lies there: its terminal, and the socket for the rest.
BOARD, TERMINAL, CONTROL = "OFFRAMP_SIMULATED_BOARD", "port", "control"
#: Shares of the speed of an idle simulation: what it is believed to keep on a busy machine, and with bytes on its line.
_LEAST_SPEED, _LINE_SPEED = 1 / 8, 1 / 2
#: Seconds until a simulation has begun, and until it has done what it is asked for.
_START_TIME, _ANSWER_TIME = 300.0, 120.0
_READ_TIME, _WRITE_TIME = 0.025, 30.0
_SIMULATOR = "verilator"


class SimulatedPort(serial.Serial):
    """The terminal of a simulated board: a serial port whose breaks, which no terminal carries, go another way.

    What is handed over has gone over the line: else nobody could say how long an answer may take.
    """

    def __init__(self, board: "SimulatedBoard", name: str, baud: int) -> None:
        self._board = board
        # The terminal has no speed; any that it knows will do.
        super().__init__(name, timeout=_READ_TIME, write_timeout=_WRITE_TIME, exclusive=True)

    def write(self, data: bytes) -> int | None:
        """Hand bytes over, and wait until the board has them."""
        written = super().write(data)
        self._board.ask("taken")
        return written

    def _update_break_state(self) -> None:
        if self._break_state:
            self._board.ask("break")


class SimulatedBoard:
    """A simulated board, from the beginning of a ``with`` block to its end.

    Parameters
    ----------
    config : AcceleratorConfig
    progress : function, optional
        Called with files compiled, files in all, and what is going on.

    Attributes
    ----------
    clock_mhz : float
        Clock cycles that it can be relied on to simulate in a microsecond.
    baud : int
        Bits that its line carries in a second, about.
    """

    def __init__(self, config: AcceleratorConfig, progress: Progress | None = None):
        self._config = config
        self._progress = progress
        self._opened = ExitStack()
        self.clock_mhz = 0.0
        self.baud = 0

    def __enter__(self) -> Self:
        """Build it, unless it is built already, and start it.

        Raises
        ------
        RuntimeError
            When the simulation doesn't begin.
        """
        from offramp.rtl.simulators import build

        directory = build(self._config, _SIMULATOR, serial=BIT_CYCLES, progress=self._progress)
        with ExitStack() as opened:
            # Names of sockets are short: no folder of the cache.
            self._folder = Path(tempfile.mkdtemp(prefix="offramp-"))
            opened.callback(shutil.rmtree, self._folder, ignore_errors=True)
            listening = opened.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(self._folder / CONTROL))
            listening.listen(1)
            listening.settimeout(0.2)
            log = opened.enter_context((self._folder / "process.log").open("w+"))
            command: list[str | Path] = [sys.executable, "-m", "offramp.rtl.simulated_board", directory, self._folder]
            self._process = opened.enter_context(started(command, stdout=log, stderr=log))
            self._control = opened.enter_context(self._accepted(listening))
            self._control.settimeout(_ANSWER_TIME)
            self._lines = opened.enter_context(self._control.makefile("r"))
            speed = json.loads(self._lines.readline())["cycles_per_second"]
            self.clock_mhz = speed * _LEAST_SPEED / 1e6
            self.baud = round(speed * _LINE_SPEED / BIT_CYCLES)
            self._opened = opened.pop_all()
        return self

    def _accepted(self, listening: socket.socket) -> socket.socket:
        """The simulation's socket."""
        for _ in range(round(_START_TIME / 0.2)):
            try:
                return listening.accept()[0]
            except TimeoutError:
                if self._process.poll() is not None:
                    break
        text = (self._folder / "process.log").read_text()
        raise RuntimeError(f"the simulated board did not start:\n{text[-2000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def connect(self) -> SimulatedPort:
        """Open its port."""
        try:
            return SimulatedPort(self, str(self._folder / TERMINAL), self.baud)
        except OSError as error:
            raise LinkError(f"the simulated board's port must be there, and free: {error}") from error

    def cycles(self) -> int:
        """Clock cycles since it began."""
        return self.ask("cycles")

    def ask(self, what: str) -> int:
        """Ask for what no terminal carries; returns the clock cycle in which it was done.

        Raises
        ------
        RuntimeError
            When the simulation is gone.
        """
        self._control.sendall(f"{what}\n".encode())
        answer = self._lines.readline()
        if not answer:
            raise RuntimeError("the simulated board has ended")
        return int(answer)


def _simulate(directory: str, folder: str) -> None:
    """Run the simulation until its host has enough."""
    from offramp.rtl.simulators import run_test

    variables: dict[str, Any] = {BOARD: folder}
    run_test(Path(directory), _SIMULATOR, "offramp.rtl.board_side", "serve", Path(folder), variables=variables)


if __name__ == "__main__":
    _simulate(*sys.argv[1:])
