"""Which channels of a word are nonzero, and which comes first: logic without carry chains, for one cycle."""

from amaranth import Cat, Mux, Signal
from amaranth.lib import data

from hw.config import WORD_CHANNELS

__all__ = ["Nonzeros", "groups", "lowest_bit", "reaches", "split"]


class Nonzeros(data.Struct):
    """The nonzero channels of a word, or its nonzero groups, each by its lowest channel: nothing about them has to be
    computed in the cycle that decides.
    """

    channel: range(WORD_CHANNELS)  # the lowest one
    rest: WORD_CHANNELS  # one bit for each of the others
    single: 1  # there are no others
    empty: 1  # there is none


def split(m, mask, name: str):
    """The parts of a word's nonzero mask."""
    parts = Signal(Nonzeros, name=f"{name}_parts")
    # Bits above the lowest, without a carry chain.
    rest = Cat(mask[channel] & mask[:channel].any() for channel in range(WORD_CHANNELS))
    m.d.comb += [
        parts.channel.eq(lowest_bit(mask)),
        parts.rest.eq(rest),
        parts.single.eq(rest == 0),
        parts.empty.eq(mask == 0),
    ]
    return parts


def groups(mask, pes: int):
    """Of a word's nonzero mask: the lowest bit of every group of ``pes`` channels with a nonzero one."""
    return Cat(mask[n : n + pes].any() if n % pes == 0 else 0 for n in range(WORD_CHANNELS))


def lowest_bit(word):
    """Index of the lowest set bit, as a tree of halves: log2 levels of logic."""
    halves = [(word[i], ()) for i in range(len(word))]
    while len(halves) > 1:
        level = []
        for low, high in zip(halves[::2], halves[1::2], strict=True):
            index = [Mux(low[0], a, b) for a, b in zip(low[1], high[1], strict=True)]
            level.append((low[0] | high[0], (*index, ~low[0])))
        halves = level
    return Cat(*halves[0][1])


def reaches(value, complement):
    """Whether the magnitude of a value is at least a threshold: the carry of one addition.

    Parameters
    ----------
    value : 9 bits
        Two's complement of -255..255.
    complement : 8 bits
        256 less the threshold, which is 1..255.
    """
    negative = value[8]
    # |value| + complement >= 256, where |value| is the one's complement and a carry from the bit below.
    magnitude = Cat(negative, value[:8] ^ negative.replicate(8))
    return (magnitude + Cat(negative, complement))[9]
