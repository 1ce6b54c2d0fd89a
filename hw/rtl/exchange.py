"""Carries the words that cores make to the cores that read them.

::

    core c ──► hold c ──┬──────────────────────────────────► own ───┐
                        ├──► cores c - 1, c + 1 ───────────────────►├──► choice ──► core
                        └──► turn of core c ──► bus ──► all cores ──┘
    image ──► hold ───────────────────────────►

A core's word waits in its hold until it has had its turn. Every core takes at most one word a cycle: what goes
everywhere has the bus in the cycle of the core that made it; what only neighbours read goes around in four cycles.
A word of an image waits for a cycle in which no core takes another one, so it changes nothing for the layer at work.
"""

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import EXCHANGE_ROUND, WORD_CHANNELS, AcceleratorConfig

__all__ = ["Exchange", "WordWrite"]

#: Who reads in each cycle of a round of neighbours' words, counted from the core that made the word; in the last one
#: nobody does.
_READERS = (0, 1, -1)


class WordWrite(data.Struct):
    """A word of a map, by its number in the map."""

    index: 16
    values: data.ArrayLayout(signed(9), WORD_CHANNELS)


class Exchange(wiring.Component):
    """Gives every core the words that it may have to keep; each core's window decides what it does keep.

    Members
    -------
    layer : In(1)
        Cores may make words.
    everywhere : In(1)
        Words go to all cores; else to the core that made them, the one before and the one after. Stable from ``start``
        on. Below four cores words always go everywhere.
    start : In(1)
        The cycle that the turns are counted from: core ``c`` has the bus where ``cycle % cores == c``.
    i : In(stream of WordWrite), one per core, always ready
        Words made. Those of one core at least ``cores`` cycles apart where they go everywhere, four cycles else.
    image : In(stream of WordWrite), always ready
        Words of the next image, for all cores. Without ``layer`` one a cycle, in :attr:`IMAGE_LATENCY` cycles; with it
        :attr:`IMAGE_DISTANCE` cycles apart, in as many more at most.
    o : Out(stream of WordWrite), one per core, always ready
    of_image : Out(1)
        What every core gets in this cycle is a word of the image.
    room : Out(1)
        Words of an image may come; those that came before find their way. From four cores on there is no room in a
        layer whose words go everywhere, for these may take every cycle.

    Latency: at most :meth:`longest` cycles. Reset: drops the words that wait.
    """

    #: Cycles from ``image`` to ``o`` while no layer runs.
    IMAGE_LATENCY = 3
    #: Cycles between two words of an image while a layer runs.
    IMAGE_DISTANCE = EXCHANGE_ROUND

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        words = stream.Signature(WordWrite, always_ready=True)
        super().__init__(
            {
                "layer": In(1),
                "everywhere": In(1),
                "start": In(1),
                "i": In(words).array(config.cores),
                "image": In(words),
                "o": Out(words).array(config.cores),
                "of_image": Out(1),
                "room": Out(1),
            }
        )

    @staticmethod
    def longest(config: AcceleratorConfig, everywhere: bool) -> int:
        """Most cycles from ``i`` to ``o``: hold, wait for the turn, bus (if there is one), register before the core."""
        return config.cores + 2 if everywhere or not config.neighbour_exchange else EXCHANGE_ROUND + 1

    def elaborate(self, platform):
        m = Module()
        cores = self._config.cores
        neighbours = self._config.neighbour_exchange
        turn = Signal(range(max(cores, 2)))
        if cores > 1:
            m.d.sync += turn.eq(Mux(self.start, 1, turn + 1))

        # A word waits for the bus, or for its three readers.
        hold = [Signal(WordWrite, name=f"hold_{core}", reset_less=True) for core in range(cores)]
        waits = [Signal(name=f"waits_{core}") for core in range(cores)]
        readers = [Signal(len(_READERS), name=f"readers_{core}") for core in range(cores)]
        for core, source in enumerate(self.i):
            with m.If(turn == core):
                m.d.sync += waits[core].eq(0)
            if neighbours:
                m.d.sync += readers[core].eq(readers[core] & ~(1 << turn[:2]))
            with m.If(source.valid):
                m.d.sync += [
                    hold[core].eq(source.payload),
                    waits[core].eq(self.everywhere if neighbours else 1),
                    readers[core].eq(Mux(self.everywhere, 0, ~0)),
                ]

        # The bus. Neighbours leave it the last cycle of their round.
        bus, bus_valid, bus_of_image = Signal(WordWrite, reset_less=True), Signal(), Signal()
        image, image_waits, image_goes = Signal(WordWrite, reset_less=True), Signal(), Signal()
        taken = _select(waits, turn)
        room = ~taken & (~self.layer | self.everywhere | (turn[:2] == len(_READERS) - 1)) if neighbours else ~taken
        m.d.comb += [
            image_goes.eq(image_waits & room),
            self.room.eq(~(self.layer & self.everywhere) if neighbours else 1),
        ]
        with m.If(image_goes):
            m.d.sync += image_waits.eq(0)
        with m.If(self.image.valid):
            m.d.sync += [image_waits.eq(1), image.eq(self.image.payload)]
        m.d.sync += [
            bus_valid.eq(image_goes | taken),
            bus_of_image.eq(image_goes),
            bus.eq(Mux(image_goes, image.as_value(), _select(hold, turn))),
            self.of_image.eq(bus_of_image),
        ]

        # In front of each core. In the cycle that no reader has, the bus.
        choice = Signal(range(EXCHANGE_ROUND))
        m.d.comb += choice.eq(Mux(bus_valid, len(_READERS), turn[:2]))
        for core, target in enumerate(self.o):
            word = Signal(WordWrite, name=f"word_{core}", reset_less=True)
            m.d.comb += target.payload.eq(word)
            if not neighbours:
                m.d.sync += [target.valid.eq(bus_valid), word.eq(bus)]
                continue
            makers = [core - reader for reader in _READERS]
            valids = [readers[maker][slot] if 0 <= maker < cores else 0 for slot, maker in enumerate(makers)]
            words = [hold[maker] if 0 <= maker < cores else bus for maker in makers]
            m.d.sync += [
                target.valid.eq(_select([*valids, bus_valid], choice)),
                word.eq(_select([*words, bus], choice)),
            ]
        return m


def _select(values, index):
    """One of as many values as the index has, as a tree of multiplexers."""
    values = [Value.cast(value) for value in values]
    for bit in index:
        if len(values) > 1:
            values = [Mux(bit, high, low) for low, high in zip(values[::2], values[1::2], strict=True)]
    return values[0]
