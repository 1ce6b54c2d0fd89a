"""Which channels of a word a layer multiplies above which threshold, by the selections made before it."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.isa import MAX_MASKS
from hw.rtl.interfaces import Order, OrderKind
from hw.rtl.structs import Selection, SelectUse, Source
from hw.rtl.verilog_platform import memory_attributes

__all__ = ["Favour"]


class Favour(wiring.Component):
    """Keeps what selections have found, and says of each word which channels it favours.

    A favoured activation is multiplied from one threshold on, any other from a higher one on. Of equal magnitudes the
    largest of which wins up to a certain place, those up to there are favoured. Channels outside the masks have a
    threshold that no activation reaches.

    Members
    -------
    order : In(Order), selection : In(Selection)
        From the selector; the selection is stable when there is an order.
    mask, mask_number, mask_write : In
        From the core's scanner.
    source : In(Source)
        The layer; stable from three cycles before the first word.
    address : In(12), word : In(8)
        Where a word lies, and its number at its position.
    favoured : Out(8)
        Its channels that are, two cycles later.
    complement, other_complement : Out(8)
        256 less the threshold of favoured activations, and of others; 0 where none reaches it.

    Throughput: a word each cycle; no back-pressure. Reset: masks keep their contents.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__(
            {
                "order": In(Order),
                "selection": In(Selection),
                "mask": In(WORD_CHANNELS),
                "mask_number": In(6),
                "mask_write": In(1),
                "source": In(Source),
                "address": In(12),
                "word": In(8),
                "favoured": Out(WORD_CHANNELS),
                "complement": Out(8),
                "other_complement": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        source = self.source
        order = Signal(Order)
        magnitude, limit, upto = Signal(8), Signal(signed(18)), Signal(WORD_CHANNELS)
        m.d.sync += order.eq(self.order)
        with m.If(order.kind == OrderKind.LIMIT):
            m.d.sync += [
                magnitude.eq(order.prefix),
                limit.eq(order.value + self.selection.shift),
                upto.eq(Cat(order.index >= channel for channel in range(WORD_CHANNELS))),
            ]

        attributes = memory_attributes(MAX_MASKS)
        m.submodules.masks = masks = memory.Memory(shape=WORD_CHANNELS, depth=MAX_MASKS, init=[], attrs=attributes)
        write, read = masks.write_port(), masks.read_port()
        below, equal = Signal(), Signal()
        m.d.comb += [
            write.addr.eq(self.mask_number),
            write.data.eq(self.mask),
            write.en.eq(self.mask_write),
            read.addr.eq(source.first_mask + self.word),
            read.en.eq(1),
        ]
        m.d.sync += [below.eq(self.address < limit), equal.eq(self.address == limit)]
        least, other = Signal(8), Signal(9)
        m.d.sync += [
            least.eq(source.threshold),
            other.eq(magnitude + 1),
            self.complement.eq(-least),
            self.other_complement.eq(-other),
            self.favoured.eq(0xFF),
        ]
        with m.Switch(source.select):
            with m.Case(SelectUse.ELEMENTS):
                m.d.sync += [
                    least.eq(Mux(source.threshold > magnitude, source.threshold, magnitude)),
                    other.eq(Mux(source.threshold > magnitude, source.threshold, magnitude + 1)),
                    self.favoured.eq(Mux(below, 0xFF, Mux(equal, upto, 0))),
                ]
            with m.Case(SelectUse.CHANNELS):
                m.d.sync += [other.eq(0), self.favoured.eq(read.data)]
        return m
