"""Activation memory of a core: two banks of words, and the windows of the map and the image that are being written."""

from amaranth import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.rtl.records import WORD, ArrivingWord
from hw.rtl.structs import Window

__all__ = ["ActivationMemory"]


class ActivationMemory(wiring.Component):
    """Two banks of activations, each read at one place and written at one place a cycle.

    Members
    -------
    write : In(stream of ArrivingWord), always ready
        Words of the map that is being made, from any core, and of the next image.
    window, image_window : In(Window)
        Which words of the map and of the image are kept, and where; stable from the first word's ``write`` until
        :attr:`LATENCY` cycles after the last one's.
    bank : In(1), address : In(12), word : Out(WORD)
        Read of a word, two cycles later.
    other_address : In(12), other : Out(WORD)
        The same of the other bank.

    Latency: two cycles from an address to its word, :attr:`LATENCY` from a word's write to its address. Throughput: in
    each cycle a word written, and one read of either bank. Takes no back-pressure. Reset: memories keep their contents.
    """

    #: Cycles from ``write`` to the first ``address`` that reads the word.
    LATENCY = 3

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "write": In(stream.Signature(ArrivingWord, always_ready=True)),
                "window": In(Window),
                "image_window": In(Window),
                "bank": In(1),
                "address": In(12),
                "word": Out(WORD),
                "other_address": In(12),
                "other": Out(WORD),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Cycle 1: place in the window. Cycle 2: address. Then the memory writes.
        arriving = self.write.payload
        of_image, window, former = Signal(), Signal(Window), Signal(Window)
        m.d.comb += [
            window.eq(Mux(arriving.of_image, self.image_window.as_value(), self.window.as_value())),
            former.eq(Mux(of_image, self.image_window.as_value(), self.window.as_value())),
        ]
        bank = Signal()
        offset, place = Signal(17), Signal(12)  # one bit more than an index: words before the window are far behind it
        arrived, inside = Signal(), Signal()
        value, value_inside = Signal(WORD), Signal(WORD)
        m.d.sync += [
            arrived.eq(self.write.valid),
            of_image.eq(arriving.of_image),
            offset.eq(arriving.word.index - window.low),
            value.eq(arriving.word.values),
            inside.eq(arrived & (offset < former.count)),
            place.eq(former.base + offset),
            bank.eq(former.bank),
            value_inside.eq(value),
        ]

        words = []
        for number, depth in enumerate(self._config.bank_words):
            ram = memory.Memory(shape=WORD, depth=depth, init=[], attrs={"no_rw_check": 1})
            m.submodules[f"bank_{number}"] = ram
            write, read = ram.write_port(), ram.read_port()
            mine = self.bank == number
            m.d.comb += [
                write.addr.eq(place),
                write.data.eq(value_inside),
                write.en.eq(inside & (bank == number)),
                read.addr.eq(Mux(mine, self.address, self.other_address)),
                read.en.eq(1),
            ]
            words.append(read.data)
        # Registered at once: the RAMs take most of a cycle.
        m.d.sync += [self.word.eq(Mux(self.bank, *reversed(words))), self.other.eq(Mux(self.bank, *words))]
        return m
