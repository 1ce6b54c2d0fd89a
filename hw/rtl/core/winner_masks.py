"""Which channels of a word are winners of the selections before, and from which threshold on they are multiplied."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.isa import MAX_MASKS
from hw.rtl.interfaces import WinnerLookup
from hw.rtl.records import MaskWrite, Order, OrderKind
from hw.rtl.structs import Selection, SelectUse, Source
from hw.rtl.verilog_platform import memory_attributes

__all__ = ["WinnerMasks"]


class WinnerMasks(wiring.Component):
    """Keeps what selections have found, and says of each word which channels are winners.

    A winner is multiplied from one threshold on, any other activation from a higher one on. Of equal magnitudes the
    largest of which wins up to a certain place, those up to there are winners. Channels outside the masks have a
    threshold that no activation reaches.

    Members
    -------
    order : In(Order), selection : In(Selection)
        From the selector; the selection is stable when there is an order.
    mask : In(stream of MaskWrite), always ready
        From the core's scanner.
    source : In(Source)
        The layer; stable from three cycles before the first word.
    lookup : In(WinnerLookup)
        The dispatcher's question.

    Latency: two cycles from a word to its winners. Throughput: a word each cycle. Takes no back-pressure. Reset: masks
    keep their contents.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__(
            {
                "order": In(Order),
                "selection": In(Selection),
                "mask": In(stream.Signature(MaskWrite, always_ready=True)),
                "source": In(Source),
                "lookup": In(WinnerLookup()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        source, lookup = self.source, self.lookup
        order = Signal(Order)
        magnitude, limit, upto = Signal(8), Signal(signed(18)), Signal(WORD_CHANNELS)
        m.d.sync += order.eq(self.order)
        with m.If(order.kind == OrderKind.LIMIT):
            m.d.sync += [
                magnitude.eq(order.prefix),
                limit.eq(order.value.word + self.selection.shift),
                upto.eq(Cat(order.index >= channel for channel in range(WORD_CHANNELS))),
            ]
        mask = self._mask(m)
        below, equal = Signal(), Signal()
        m.d.sync += [below.eq(lookup.address < limit), equal.eq(lookup.address == limit)]
        least, other = Signal(8), Signal(9)
        m.d.sync += [
            least.eq(source.threshold),
            other.eq(magnitude + 1),
            lookup.complement.eq(-least),
            lookup.other_complement.eq(-other),
            lookup.winners.eq(0xFF),
        ]
        with m.Switch(source.select):
            with m.Case(SelectUse.ELEMENTS):
                m.d.sync += [
                    least.eq(Mux(source.threshold > magnitude, source.threshold, magnitude)),
                    other.eq(Mux(source.threshold > magnitude, source.threshold, magnitude + 1)),
                    lookup.winners.eq(Mux(below, 0xFF, Mux(equal, upto, 0))),
                ]
            with m.Case(SelectUse.CHANNELS):
                m.d.sync += [other.eq(0), lookup.winners.eq(mask)]
        return m

    def _mask(self, m):
        """The memory of masks; returns that of the word asked for, a cycle later."""
        attributes = memory_attributes(MAX_MASKS)
        m.submodules.masks = masks = memory.Memory(shape=WORD_CHANNELS, depth=MAX_MASKS, init=[], attrs=attributes)
        write, read = masks.write_port(), masks.read_port()
        m.d.comb += [
            write.addr.eq(self.mask.payload.word),
            write.data.eq(self.mask.payload.channels),
            write.en.eq(self.mask.valid),
            read.addr.eq(self.source.first_mask + self.lookup.word),
            read.en.eq(1),
        ]
        return read.data
