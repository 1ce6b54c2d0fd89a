"""A serial port as the transport of the host protocol: words go out while replies come in, and nothing waits for ever.

A serial line can't hold a host back: no more is sent than the line carries and the other end can take.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, cast

import numpy as np

from fpga.baud import WORD_BYTES, words_per_second
from fpga.driver import Answer, HostOperation, reply_length
from hw.extras import SERIAL, need

if sys.platform != "win32":
    import termios

    _PORT_ERRORS: tuple[type[Exception], ...] = (OSError, termios.error)
else:
    _PORT_ERRORS = (OSError,)

__all__ = ["LinkError", "LinkTime", "Port", "PortLostError", "SerialLink", "open_port"]

#: Seconds that a read waits for a byte: an adapter may hold bytes back for 16 ms.
_READ_TIME = 0.025
#: Bytes that are handed over at once, and seconds that the line may need for what was handed over and isn't sent yet.
_CHUNK, _BACKLOG = 1024, 0.05
#: Seconds that a break lasts, and in which the line must fall silent after it.
_BREAK_TIME, _SILENCE_TIME = 0.01, 1.0
#: Seconds after which a port that takes no byte is given up.
_WRITE_TIME = 5.0


class LinkError(OSError):
    """The other end of the line doesn't answer as it must."""


class PortLostError(LinkError):
    """The port itself is gone."""


class Port(Protocol):
    """What a link needs of a serial port, as :class:`serial.Serial` has it."""

    #: Whether the line is held low.
    break_condition: bool

    @property
    def in_waiting(self) -> int:
        """Bytes that have come."""

    def read(self, size: int) -> bytes:
        """Up to so many bytes, those that come within a moment."""

    def write(self, data: bytes) -> int | None:
        """Hand bytes over."""

    def reset_output_buffer(self) -> None:
        """Forget what hasn't gone yet."""

    def close(self) -> None:
        """Give the port back."""


def open_port(name: str, baud: int) -> Port:
    """A serial port of this machine, or what pyserial takes for one (``socket://``, ``rfc2217://``).

    Raises
    ------
    LinkError
        When it can't be opened, or another program has it.
    """
    need("a serial port", SERIAL)
    import serial

    try:
        options = {} if "://" in name else {"exclusive": True}
        port = serial.serial_for_url(name, baud, timeout=_READ_TIME, write_timeout=_WRITE_TIME, **options)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise LinkError(f"{name}: the port must be there, and free: {said}") from error
    # Adapters that can are told not to hold bytes back; others, and pseudo-terminals, refuse.
    with suppress(AttributeError, NotImplementedError, ValueError):
        port.set_low_latency_mode(True)
    return cast(Port, port)


class LinkTime:
    """The time that passes while a link waits."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


@contextmanager
def _kept() -> Iterator[None]:
    """What the operating system says of a port means that it is gone."""
    try:
        yield
    except LinkError:
        raise
    except _PORT_ERRORS as error:
        raise PortLostError(f"the port was lost: {error}") from error


class SerialLink:
    """Carries protocol operations out over a serial port.

    Parameters
    ----------
    port : Port
    baud : int
        Bits per second.
    patience : float
        Seconds without a byte either way after which no answer comes any more.
    time : LinkTime

    Attributes
    ----------
    patience : float
    """

    def __init__(self, port: Port, *, baud: int, patience: float, time: LinkTime | None = None):
        self.patience = patience
        self._port = port
        self._byte_time = 1 / (WORD_BYTES * words_per_second(baud))
        self._time = time or LinkTime()
        self._unsent = bytearray()
        self._received = bytearray()
        self._sent_by = self._moved = self._time.now()  # when the line has sent all, and when a byte went or came

    def restart(self) -> None:
        """Reset the accelerator by a break; nothing that was said before is left.

        Raises
        ------
        LinkError
            When the line doesn't fall silent.
        PortLostError
        """
        self._unsent.clear()
        with _kept():
            self._port.reset_output_buffer()
            self._port.break_condition = True
            self._time.wait(_BREAK_TIME)
            self._port.break_condition = False
            until = self._time.now() + _SILENCE_TIME
            while self._port.read(_CHUNK):
                if self._time.now() > until:
                    raise LinkError("after a break the board must fall silent, but it goes on sending")
        self._received.clear()
        self._sent_by = self._moved = self._time.now()

    def perform(self, operation: HostOperation) -> Any:
        """Carry out a protocol operation; returns its outcome when all its words are sent.

        Raises
        ------
        LinkError
            When no answer comes.
        PortLostError
        ReplyError, DeviceError
            As the operation has it.
        """
        try:
            transaction = next(operation)
            while True:
                self._unsent += np.array(transaction.words, "<u4").tobytes()
                self._moved = max(self._moved, self._time.now())
                answers = [self._receive() for _ in range(transaction.replies)]
                transaction = operation.send(answers)
        except StopIteration as finished:
            while self._unsent:
                self._move()
            return finished.value

    def close(self) -> None:
        """Give the port back."""
        with suppress(*_PORT_ERRORS):
            self._port.close()

    def _receive(self) -> Answer:
        """The next reply."""
        (header,) = self._words(1)
        return Answer.from_words([header, *self._words(reply_length(header))])

    def _words(self, count: int) -> list[int]:
        size = WORD_BYTES * count
        while len(self._received) < size:
            self._move()
        words: list[int] = np.frombuffer(bytes(self._received[:size]), "<u4").tolist()
        del self._received[:size]
        return words

    def _move(self) -> None:
        """Hand bytes over if the line has room, and take what has come; without either, wait a moment."""
        now = self._time.now()
        with _kept():
            free = bool(self._unsent) and self._sent_by - now < _BACKLOG
            if free:
                chunk = bytes(self._unsent[:_CHUNK])
                self._port.write(chunk)
                del self._unsent[: len(chunk)]
                self._sent_by = max(now, self._sent_by) + len(chunk) * self._byte_time
                self._moved = self._sent_by
            found = self._port.read(max(self._port.in_waiting, int(not free)))
        if found:
            self._received += found
            self._moved = max(self._moved, now)
        elif not free and now - self._moved > self.patience:
            raise LinkError(f"the board must answer within {self.patience:.2g} s, and says nothing")
