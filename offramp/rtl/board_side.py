"""The cocotb side of a simulated board: its serial line, bit by bit, behind a pseudo-terminal.

What no terminal can carry is asked for over a socket, one line each: ``break`` resets the accelerator over its line,
``unplug`` replaces the terminal by another one, ``taken`` waits until all bytes have gone over the line, ``cycles``
asks for the clock. Each is answered by a line when it is done, with the clock cycle; when the socket closes, the
simulation ends. See :mod:`offramp.rtl.simulated_board`.
"""

import json
import os
import select
import socket
import time
import tty
from contextlib import suppress
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, Timer
from cocotb.utils import get_sim_time

from offramp.rtl.simulated_board import BIT_CYCLES, BOARD, CONTROL, TERMINAL

__all__ = ["SimulatedLine", "serve"]

#: Clock period, nanoseconds.
_PERIOD = 10
_BIT = BIT_CYCLES * _PERIOD
#: Bits that a break lasts: two frames.
_BREAK_BITS = 20
#: Clock cycles whose time is taken, to know how fast the simulation is.
_TIMED = 20_000
#: Clock cycles without a byte after which the simulation waits for the host, how many go by then at a time, and how
#: many seconds it waits between.
_IDLE, _STEP, _PAUSE = 200_000, 2_000, 0.01
_CHUNK = 4096


class SimulatedLine:
    """Between the pins of a serial line and a pseudo-terminal.

    Parameters
    ----------
    dut : handle
        :class:`fpga.gateware.top.SerialShell`.
    folder : Path
        Where the terminal gets a name, and the socket has its own.
    """

    def __init__(self, dut: Any, folder: Path):
        self._dut = dut
        self._name = folder / TERMINAL
        self._ends: tuple[int, ...] = ()
        self._plug()
        self._control = socket.socket(socket.AF_UNIX)
        self._control.connect(str(folder / CONTROL))
        self._asked: list[bytes] = []
        self._idle = 0  # clock cycles without a byte either way

    def _plug(self) -> None:
        """Another terminal under the name."""
        for end in self._ends:
            os.close(end)
        # Its other end stays open here as well: it is there whether a host has it open or not.
        self._ends = os.openpty()
        self._terminal, other = self._ends
        tty.setraw(other)
        os.set_blocking(self._terminal, False)
        new = self._name.with_suffix(".new")
        new.symlink_to(os.ttyname(other))
        new.replace(self._name)

    def answer(self, text: str) -> None:
        """Say a line over the socket."""
        self._control.sendall(f"{text}\n".encode())

    async def send(self) -> None:
        """Take what comes from the host, bytes and requests, until the socket closes."""
        listening = cocotb.start_soon(self._listen())
        data = b""
        while True:
            if select.select([self._control], [], [], 0)[0]:
                found = self._control.recv(_CHUNK)
                if not found:
                    return
                self._asked += found.split()
            data = data or self._read()
            if self._asked and not (data and self._asked[0] == b"taken"):
                request = self._asked.pop(0)
                if request == b"break":
                    listening.cancel()
                    while data:
                        data = self._read()
                    await self._break()
                    listening = cocotb.start_soon(self._listen())
                elif request == b"unplug":
                    data = b""
                    self._plug()
                self.answer(str(_cycle()))
            elif data:
                self._idle = 0
                await self._frame(data[0])
                data = data[1:]
            else:
                await self._wait()

    def _read(self) -> bytes:
        """What the host has sent."""
        with suppress(BlockingIOError):
            return os.read(self._terminal, _CHUNK)
        return b""

    async def _frame(self, byte: int) -> None:
        for bit in (0, *(byte >> n & 1 for n in range(8)), 1):
            self._dut.receive.value = bit
            await Timer(_BIT, "ns")

    async def _break(self) -> None:
        self._dut.receive.value = 0
        await Timer(_BREAK_BITS * _BIT, "ns")
        self._dut.receive.value = 1
        await Timer(_BREAK_BITS * _BIT, "ns")

    async def _wait(self) -> None:
        """Let time go by; where it leads to nothing, slowly."""
        cycles = 10 * BIT_CYCLES
        if self._idle > _IDLE:
            cycles = _STEP
            select.select([self._terminal, self._control.fileno()], [], [], _PAUSE)
        self._idle += cycles
        await Timer(cycles * _PERIOD, "ns")

    async def _listen(self) -> None:
        """Hand over what the board sends; what the host has no room for is lost."""
        while True:
            await FallingEdge(self._dut.transmit)
            await Timer(_BIT // 2, "ns")
            byte = 0
            for bit in range(8):
                await Timer(_BIT, "ns")
                byte |= int(self._dut.transmit.value) << bit
            await Timer(_BIT, "ns")
            self._idle = 0
            with suppress(BlockingIOError):
                os.write(self._terminal, bytes([byte]))


def _cycle() -> int:
    return round(get_sim_time("ns")) // _PERIOD


@cocotb.test()
async def serve(dut: Any) -> None:
    """Be a board until the host has enough."""
    Clock(dut.clk, _PERIOD, unit="ns", impl="gpi").start()
    dut.receive.value = 1
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    begun = time.monotonic()
    await Timer(_TIMED * _PERIOD, "ns")
    speed = _TIMED / (time.monotonic() - begun)
    line = SimulatedLine(dut, Path(os.environ[BOARD]))
    line.answer(json.dumps({"cycles_per_second": speed}))
    await line.send()
