"""Images a second of a board: those of its core at its PLL's clock, or of its link if that is slower."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fpga.driver import command
from fpga.links import link_of
from fpga.runs import run_words
from hw.program.bits import words_of
from hw.program.protocol import HostCommand, ReplyHeader, RunResult

__all__ = ["Throughput", "throughput"]


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """What a host gets of a bitstream.

    Parameters
    ----------
    clock_mhz : float
        Clock of the accelerator.
    link : str
        As of :func:`fpga.links.link_of`.
    baud : int
        Bits per second, if the link is serial.
    words_sent, words_received : int
        That the link carries for an image: RUN's header, its options and the image; its result.
    core_images_per_second : float
        Of the core at that clock, if the link took no time.
    link_images_per_second : float
        Of the link; a serial one carries both ways at the same time.
    one_by_one_images_per_second : float
        If the host sends an image only when it has the result of the one before.
    """

    clock_mhz: float
    link: str
    baud: int
    words_sent: int
    words_received: int
    core_images_per_second: float
    link_images_per_second: float
    one_by_one_images_per_second: float

    @property
    def images_per_second(self) -> float:
        """Of the slower of the two: the most that images sent back to back can reach."""
        return min(self.core_images_per_second, self.link_images_per_second)

    @property
    def bottleneck(self) -> str:
        """``core`` or ``link``, whichever is slower."""
        return "core" if self.core_images_per_second < self.link_images_per_second else "link"

    def to_dict(self) -> dict[str, Any]:
        """Everything, for a result file."""
        return asdict(self) | {"images_per_second": self.images_per_second, "bottleneck": self.bottleneck}


def throughput(
    shape: tuple[int, int, int],
    cycles: float,
    *,
    back_to_back: float | None = None,
    clock_mhz: float,
    baud: int,
    link: str = "serial",
) -> Throughput:
    """What a host gets of a network on a board.

    Parameters
    ----------
    shape : tuple of 3 int
        Height, width, channels of an image.
    cycles : float
        Of an image on the core, mean.
    back_to_back : float, optional
        Cycles per image where the next one is loaded meanwhile (:func:`sim.time_batch`); ``cycles`` if nothing.
    clock_mhz : float
        Clock of the accelerator.
    baud : int
        Bits per second, if the link is serial.
    link : str
        As of :func:`fpga.links.link_of`.

    Raises
    ------
    ValueError
        When the clock is no positive number, or there is no such link.
    """
    if not (clock_mhz > 0 and math.isfinite(clock_mhz)):
        raise ValueError(f"the clock must be a positive number of MHz, not {clock_mhz}")
    sent = len(command(HostCommand.RUN, run_words(np.zeros(shape, np.int8))))
    received = words_of(ReplyHeader) + words_of(RunResult)
    carrier, hertz = link_of(link, baud), clock_mhz * 1e6
    rate = carrier.words_per_second
    return Throughput(
        clock_mhz=clock_mhz,
        link=link,
        baud=baud,
        words_sent=sent,
        words_received=received,
        core_images_per_second=hertz / (back_to_back or cycles),
        link_images_per_second=rate / (max(sent, received) if carrier.both_ways else sent + received),
        one_by_one_images_per_second=1 / ((sent + received) / rate + cycles / hertz),
    )
