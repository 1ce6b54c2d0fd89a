"""Reads consecutive words of the program memory into a register."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.program.bits import bits_of, words_of
from hw.rtl.interfaces import ReadPort

__all__ = ["Fetcher"]


class Fetcher(wiring.Component):
    """Collects words; the last ones fetched stay in view.

    Parameters
    ----------
    words : int
        Most words that are fetched at once.

    Members
    -------
    start : In(1), first : In(12), count : In
        Begin at an address; ``count`` words, at least 1. Not before ``done``.
    read : Out(ReadPort)
        Of the memory.
    done : Out(1)
        For one cycle: the words are in view.
    words : Out(32 * words)
        The words fetched, the last one on top.

    Latency: :meth:`cycles` from ``start`` to ``done``. Throughput: a word a cycle. Takes no back-pressure. Reset: idle.
    """

    def __init__(self, words: int):
        self._words = words
        super().__init__(
            {
                "start": In(1),
                "first": In(12),
                "count": In(range(words + 1)),
                "read": Out(ReadPort(32)),
                "done": Out(1),
                "words": Out(32 * words),
            }
        )

    @staticmethod
    def cycles(count: int) -> int:
        """Cycles from ``start``, it excluded, to ``done``, it included."""
        return count + 3

    def top(self, layout):
        """The words fetched last, as a layout."""
        start = 32 * (self._words - words_of(layout))
        return data.View(layout, self.words[start : start + bits_of(layout)])

    def elaborate(self, platform):
        m = Module()
        wanted = Signal.like(self.count)
        asked, arrived, registered = Signal(), Signal(), Signal()
        word = Signal(32)
        last = [Signal(name=f"last_{n}") for n in range(3)]
        m.d.comb += asked.eq(wanted != 0)
        m.d.sync += [
            arrived.eq(asked),
            registered.eq(arrived),
            word.eq(self.read.data),
            last[1].eq(last[0]),
            last[2].eq(last[1]),
            self.done.eq(last[2]),
        ]
        m.d.comb += last[0].eq(wanted == 1)
        with m.If(self.start):
            m.d.sync += [self.read.address.eq(self.first), wanted.eq(self.count)]
        with m.Elif(asked):
            m.d.sync += [self.read.address.eq(self.read.address + 1), wanted.eq(wanted - 1)]
        with m.If(registered):
            m.d.sync += self.words.eq(Cat(self.words[32:], word))
        return m
