"""A serial port on which bytes are changed and lost and breaks come by themselves, to try what a host makes of it."""

import random

from fpga.host.serial_link import Port

__all__ = ["NoisyPort"]

#: Of the bytes that are hit, the share that is changed in one bit and the share that is lost; with the rest comes a
#: break, which resets the accelerator.
_CHANGED, _LOST = 0.45, 0.45


class NoisyPort:
    """A port, as :class:`fpga.host.serial_link.Port`, with noise in both directions.

    Parameters
    ----------
    port : Port
    share : float
        Of the bytes that are hit, 0..1.
    generator : random.Random
        Decides which.

    Attributes
    ----------
    hits : int
        Bytes hit so far.
    """

    def __init__(self, port: Port, share: float, generator: random.Random):
        self._port = port
        self._share = share
        self._random = generator
        self.hits = 0

    @property
    def break_condition(self) -> bool:
        """Of the port."""
        return self._port.break_condition

    @break_condition.setter
    def break_condition(self, low: bool) -> None:
        self._port.break_condition = low

    @property
    def in_waiting(self) -> int:
        """Of the port."""
        return self._port.in_waiting

    def read(self, size: int) -> bytes:
        """What has come, with noise; a break in this direction is a byte lost."""
        return b"".join(part or b"" for part in self._hit(self._port.read(size)))

    def write(self, data: bytes) -> int:
        """Hand bytes over, with noise."""
        waiting = bytearray()
        for part in self._hit(data):
            if part is not None:
                waiting += part
                continue
            self._port.write(bytes(waiting))
            waiting.clear()
            self._port.break_condition = True
            self._port.break_condition = False
        self._port.write(bytes(waiting))
        return len(data)

    def _hit(self, data: bytes) -> list[bytes | None]:
        """What becomes of each byte; None is a break."""
        found: list[bytes | None] = []
        for byte in data:
            if self._random.random() >= self._share:
                found.append(bytes([byte]))
                continue
            self.hits += 1
            kind = self._random.random()
            if kind < _CHANGED:
                found.append(bytes([byte ^ 1 << self._random.randrange(8)]))
            elif kind >= _CHANGED + _LOST:
                found.append(None)
        return found

    def reset_output_buffer(self) -> None:
        """As the port."""
        self._port.reset_output_buffer()

    def close(self) -> None:
        """As the port."""
        self._port.close()
