"""Links between host and board in numbers: the words that each carries at most."""

from dataclasses import dataclass

from fpga.baud import WORD_BYTES, words_per_second

__all__ = ["HOST_LINKS", "Link", "link_of"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """What a link carries.

    Parameters
    ----------
    name : str
        One of :data:`HOST_LINKS`.
    title : str
        In words, with its rate.
    words_per_second : float
        At most; of USB the bound that its specification gives for the bus, which no host reaches.
    both_ways : bool
        Whether it carries so many in each direction at the same time, or in both together.
    held : bool
        Whether the board can hold the host back: nothing is lost then that it has no room for.
    """

    name: str
    title: str
    words_per_second: float
    both_ways: bool
    held: bool


def _usb(name: str, speed: str, *, packets: int, packet_bytes: int, seconds: float) -> Link:
    """USB with so many bulk packets in a frame of so many seconds."""
    rate = packets * packet_bytes / seconds
    title = f"USB at {speed}, whose bus carries at most {rate / 1e6:.3g} MB/s"
    return Link(name=name, title=title, words_per_second=rate / WORD_BYTES, both_ways=False, held=True)


#: USB by name: most packets of the largest size in a frame of 1 ms, or a microframe of 125 µs, where nothing else is on
#: the bus (USB 2.0, tables 5-9 and 5-10).
_USB = {
    "usb-full": _usb("usb-full", "full speed", packets=19, packet_bytes=64, seconds=1e-3),
    "usb-high": _usb("usb-high", "high speed", packets=13, packet_bytes=512, seconds=125e-6),
}
#: Names of links, as a host needs to know them.
HOST_LINKS = ("serial", *_USB)


def link_of(name: str, baud: int) -> Link:
    """The named link; the baud rate is that of a serial one.

    Raises
    ------
    ValueError
        When there is no such link.
    """
    if name in _USB:
        return _USB[name]
    if name != "serial":
        raise ValueError(f"link must be one of {', '.join(HOST_LINKS)}, not {name!r}")
    title = f"a serial link of {baud:,} baud"
    return Link(name=name, title=title, words_per_second=words_per_second(baud), both_ways=True, held=False)
