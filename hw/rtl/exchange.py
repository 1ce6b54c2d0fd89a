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

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import EXCHANGE_ROUND, AcceleratorConfig
from hw.rtl.interfaces import ImageWords
from hw.rtl.records import ArrivingWord, WordWrite

__all__ = ["Exchange"]

#: Who reads in each cycle of a round of neighbours' words, counted from the core that made the word; in the last one
#: nobody does.
_READERS = (0, 1, -1)


class _HeldWords:
    """Registers that the exchange's parts share."""

    def __init__(self, cores):
        self.turn = Signal(range(max(cores, 2)))  # of the core that has the bus
        self.hold = [Signal(WordWrite, name=f"hold_{core}", reset_less=True) for core in range(cores)]
        self.waits = [Signal(name=f"waits_{core}") for core in range(cores)]  # for the bus
        self.readers = [Signal(len(_READERS), name=f"readers_{core}") for core in range(cores)]  # that it waits for
        self.bus, self.bus_valid, self.bus_of_image = Signal(WordWrite, reset_less=True), Signal(), Signal()


class Exchange(wiring.Component):
    """Gives every core the words that it may have to keep; each core's window decides what it does keep.

    Members
    -------
    everywhere : In(1)
        Words go to all cores; else to the core that made them, the one before and the one after. Stable from the
        cycle behind ``start`` on. Below four cores words always go everywhere.
    start : In(1)
        The cycle that the turns are counted from: core ``c`` has the bus where ``cycle % cores == c``.
    i : In(stream of WordWrite), one per core, always ready
        Words made. Those of one core at least ``cores`` cycles apart where they go everywhere, four cycles else.
    image : In(ImageWords)
        Words of the next image, in :attr:`IMAGE_LATENCY` cycles; with ``layer`` in :attr:`IMAGE_DISTANCE` more at most.
    o : Out(stream of ArrivingWord), one per core, always ready
        Words for the core; one of the image comes to all cores at once.

    Parts, as in the picture: words are held; the bus; the choice in front of each core.

    Latency: at most :meth:`longest` cycles. Throughput: a word a cycle that goes everywhere, or one of each core in
    four cycles. Takes no back-pressure. Reset: drops the words that wait.
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
                "everywhere": In(1),
                "start": In(1),
                "i": In(words).array(config.cores),
                "image": In(ImageWords()),
                "o": Out(stream.Signature(ArrivingWord, always_ready=True)).array(config.cores),
            }
        )

    @staticmethod
    def longest(config: AcceleratorConfig, everywhere: bool) -> int:
        """Most cycles from ``i`` to ``o``: hold, wait for the turn, bus (if there is one), register before the core."""
        return config.cores + 2 if everywhere or not config.neighbour_exchange else EXCHANGE_ROUND + 1

    def elaborate(self, platform):
        m = Module()
        cores = self._config.cores
        words = _HeldWords(cores)
        if cores > 1:
            m.d.sync += words.turn.eq(Mux(self.start, 1, words.turn + 1))
        self._hold(m, words)
        self._drive_bus(m, words)
        self._deliver(m, words)
        return m

    def _hold(self, m, words):
        """A word waits for the bus, or for its three readers."""
        neighbours, turn = self._config.neighbour_exchange, words.turn
        for core, source in enumerate(self.i):
            with m.If(turn == core):
                m.d.sync += words.waits[core].eq(0)
            if neighbours:
                m.d.sync += words.readers[core].eq(words.readers[core] & ~(1 << turn[:2]))
            with m.If(source.valid):
                m.d.sync += [
                    words.hold[core].eq(source.payload),
                    words.waits[core].eq(self.everywhere if neighbours else 1),
                    words.readers[core].eq(Mux(self.everywhere, 0, ~0)),
                ]

    def _drive_bus(self, m, words):
        """The word of the core whose turn it is, or one of the image. Neighbours leave it a cycle of their round."""
        neighbours, turn = self._config.neighbour_exchange, words.turn
        image, image_waits, image_goes = Signal(WordWrite, reset_less=True), Signal(), Signal()
        taken = _select(words.waits, turn)
        room = ~taken
        if neighbours:
            room &= ~self.image.layer | self.everywhere | (turn[:2] == len(_READERS) - 1)
        m.d.comb += [
            image_goes.eq(image_waits & room),
            self.image.room.eq(~(self.image.layer & self.everywhere) if neighbours else 1),
        ]
        with m.If(image_goes):
            m.d.sync += image_waits.eq(0)
        with m.If(self.image.words.valid):
            m.d.sync += [image_waits.eq(1), image.eq(self.image.words.payload)]
        m.d.sync += [
            words.bus_valid.eq(image_goes | taken),
            words.bus_of_image.eq(image_goes),
            words.bus.eq(Mux(image_goes, image.as_value(), _select(words.hold, turn))),
        ]

    def _deliver(self, m, words):
        """The choice in front of each core: in the cycle that no reader has, the bus."""
        cores, bus, bus_valid = self._config.cores, words.bus, words.bus_valid
        choice, of_image = Signal(range(EXCHANGE_ROUND)), Signal()
        m.d.sync += of_image.eq(words.bus_of_image)
        m.d.comb += choice.eq(Mux(bus_valid, len(_READERS), words.turn[:2]))
        for core, target in enumerate(self.o):
            word = Signal(WordWrite, name=f"word_{core}", reset_less=True)
            m.d.comb += [target.payload.word.eq(word), target.payload.of_image.eq(of_image)]
            if not self._config.neighbour_exchange:
                m.d.sync += [target.valid.eq(bus_valid), word.eq(bus)]
                continue
            makers = [core - reader for reader in _READERS]
            valids = [words.readers[maker][slot] if 0 <= maker < cores else 0 for slot, maker in enumerate(makers)]
            held = [words.hold[maker] if 0 <= maker < cores else bus for maker in makers]
            m.d.sync += [
                target.valid.eq(_select([*valids, bus_valid], choice)),
                word.eq(_select([*held, bus], choice)),
            ]


def _select(values, index):
    """One of as many values as the index has, as a tree of multiplexers."""
    values = [Value.cast(value) for value in values]
    for bit in index:
        if len(values) > 1:
            values = [Mux(bit, high, low) for low, high in zip(values[::2], values[1::2], strict=True)]
    return values[0]
