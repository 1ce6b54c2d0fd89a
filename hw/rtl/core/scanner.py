"""A core's part in a selection: scans its slice of a map for the selector, and keeps the masks of channels.

::

    Order ──► address counter ──► magnitudes ──► digits ──► counts ──► accumulators ──► tally
              (memory, 2 cycles)  (one stage each)               └───► the tie wanted ──► place
"""

from itertools import pairwise
from typing import NamedTuple

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.rtl.adders import popcount
from hw.rtl.interfaces import ReadPort, ScanControl
from hw.rtl.records import TALLY_BITS, WORD, MaskWrite, Order, OrderKind
from hw.rtl.structs import Selection

__all__ = ["Scanner"]

_MAGNITUDES = data.ArrayLayout(8, WORD_CHANNELS)


class _Digits(NamedTuple):
    """Of each channel of a word."""

    inside: Signal  #: whether its magnitude begins with the prefix
    digits: data.View  #: the digit behind that
    magnitudes: data.View


class Scanner(wiring.Component):
    """Scans and counts.

    Members
    -------
    selector : In(ScanControl)
        The selector's orders.
    selection : In(Selection)
        Stable as long as there are orders.
    begins, reads : Out(1), words : Out(ReadPort)
        In this cycle a scan begins; from the next on it reads words of the bank.
    fills : Out(1), table : Out(ReadPort)
        Reads masks from the layer memory.
    mask : Out(stream of MaskWrite), always ready
        Masks to be kept.

    Parts, as in the picture: the address counter; ``valid`` travels with a word; magnitudes, digits; the accumulators;
    the tie wanted; masks to be kept.

    Latency: :attr:`LATENCY` cycles and one for each word of a scan, :attr:`FIND_LATENCY` more where a place is found.
    Throughput: a word each cycle. Takes no back-pressure. Reset: idle.
    """

    #: Cycles from the order of a scan of no word to the first in which ``tally`` and ``place`` are complete, if the
    #: index is there by then; each word of the scan is one more.
    LATENCY = 8
    #: Further cycles to find a channel in a word.
    FIND_LATENCY = WORD_CHANNELS - 1
    #: Cycles from FILL of no mask to the last write of a mask.
    FILL_LATENCY = 4

    def __init__(self, config: AcceleratorConfig):
        self._digit = config.selector
        super().__init__(
            {
                "selector": In(ScanControl()),
                "selection": In(Selection),
                "begins": Out(1),
                "reads": Out(1),
                "words": Out(ReadPort(WORD)),
                "fills": Out(1),
                "table": Out(ReadPort(32)),
                "mask": Out(stream.Signature(MaskWrite, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        order, called, selection = Signal(Order), Signal(), self.selection
        m.d.sync += [order.eq(self.selector.order), called.eq(self.selector.called)]
        kind, level, first = self._count_addresses(m, order, selection)
        valid = self._valid(m)
        found = self._digits(m, order, level)
        self._accumulate(m, order, kind, found, valid[5])
        self._find(m, order, called, first, found.inside, valid[5])
        self._masks(m, order)
        return m

    def _count_addresses(self, m, order, selection):
        """A word of the slice a cycle.

        Returns
        -------
        tuple
            Kind of the scan, digits that its prefix has, and the number of the slice's first word in the map.
        """
        digit = self._digit
        left = Signal(13)
        kind, level = Signal(OrderKind), Signal(range(8 // digit + 1))
        first = Signal(16)
        m.d.sync += first.eq(selection.base - selection.shift.as_unsigned())
        m.d.comb += [
            self.begins.eq(
                (order.kind == OrderKind.COUNT) | (order.kind == OrderKind.SUM) | (order.kind == OrderKind.FIND)
            ),
            self.reads.eq(left != 0),
        ]
        with m.If(self.begins):
            m.d.sync += [
                kind.eq(order.kind),
                left.eq(selection.words),
                self.words.address.eq(selection.base + Mux(order.kind == OrderKind.SUM, order.value.block, 0)),
                level.eq(Mux(order.kind == OrderKind.FIND, 8 // digit, order.index)),
            ]
        with m.Elif(self.reads):
            m.d.sync += [left.eq(left - 1), self.words.address.eq(self.words.address + selection.pitch)]
        return kind, level, first

    def _valid(self, m):
        """``valid[n]``: a word was read n cycles ago."""
        valid = [Signal(name=f"valid_{stage}") for stage in range(6)]
        m.d.comb += valid[0].eq(self.reads)
        m.d.sync += [later.eq(before) for before, later in pairwise(valid)]
        return valid

    def _digits(self, m, order, level):
        """Two stages: the word's magnitudes, their next digits."""
        digit = self._digit
        values, magnitudes = self.words.data, Signal(_MAGNITUDES)
        # Magnitudes that begin with the prefix; its bits in their place, and which they are.
        inside, wanted, shown = Signal(WORD_CHANNELS), Signal(8), Signal(8)
        with m.Switch(level):
            for decided in range(8 // digit + 1):
                with m.Case(decided):
                    rest = 8 - decided * digit
                    m.d.sync += [wanted.eq(order.prefix << rest), shown.eq((0xFF << rest) & 0xFF)]
        digits, carried = Signal(data.ArrayLayout(digit, WORD_CHANNELS)), Signal(_MAGNITUDES)
        m.d.sync += carried.eq(magnitudes)
        for channel in range(WORD_CHANNELS):
            value, magnitude = values[channel], magnitudes[channel]
            m.d.sync += [
                magnitude.eq(Mux(value[8], -value[:8], value[:8])),
                inside[channel].eq(((magnitude ^ wanted) & shown) == 0),
            ]
            with m.Switch(level):
                for decided in range(8 // digit):
                    with m.Case(decided):
                        rest = 8 - (decided + 1) * digit
                        m.d.sync += digits[channel].eq(magnitude[rest : rest + digit])
        return _Digits(inside, digits, carried)

    def _accumulate(self, m, order, kind, found, valid):
        """Counts of each digit, or the magnitudes, are added up in a cycle; the accumulator asked for is the tally."""
        bins = 1 << self._digit
        inside, digits, carried = found
        summing = Signal()
        m.d.comb += summing.eq(kind == OrderKind.SUM)
        accumulators = Signal(data.ArrayLayout(TALLY_BITS, max(bins, WORD_CHANNELS)))
        for number in range(max(bins, WORD_CHANNELS)):
            of_digit = (
                popcount([inside[c] & (digits[c] == number) for c in range(WORD_CHANNELS)]) if number < bins else 0
            )
            added = Signal(8, name=f"added_{number}")
            magnitude = carried[number] if number < WORD_CHANNELS else 0
            m.d.sync += added.eq(Mux(summing, magnitude, of_digit))
            with m.If(self.begins):
                m.d.sync += accumulators[number].eq(0)
            with m.Elif(valid):
                m.d.sync += accumulators[number].eq(accumulators[number] + added)
        m.d.sync += self.selector.tally.eq(accumulators[order.index])

    def _find(self, m, order, called, first, inside, valid):
        """Find: the word in which the count of ties reaches the one wanted, then the channel, one a cycle."""
        ties, tied = Signal(WORD_CHANNELS), Signal(range(WORD_CHANNELS + 1))
        # Ties still to pass, number of the word, whether the word is still to be found.
        rank, number, finding = Signal(16), Signal(16), Signal()
        bits, bits_left = Signal(WORD_CHANNELS), Signal(range(WORD_CHANNELS + 1))
        looking, channel = Signal(), Signal(range(WORD_CHANNELS))
        m.d.sync += [ties.eq(inside), tied.eq(popcount(list(inside)))]
        with m.If(self.begins):
            m.d.sync += [
                finding.eq((order.kind == OrderKind.FIND) & called),
                looking.eq(0),
                rank.eq(order.value.rank),
                number.eq(first),
            ]
        with m.Elif(finding & valid):
            with m.If(rank <= tied):
                m.d.sync += [finding.eq(0), looking.eq(1), bits.eq(ties), bits_left.eq(rank), channel.eq(0)]
            with m.Else():
                m.d.sync += [rank.eq(rank - tied), number.eq(number + 1)]
        with m.If(looking):
            with m.If(bits[0] & (bits_left == 1)):
                m.d.sync += looking.eq(0)
            with m.Else():
                m.d.sync += [bits.eq(bits >> 1), bits_left.eq(bits_left - bits[0]), channel.eq(channel + 1)]
        place = self.selector.place
        m.d.comb += [place.word.eq(Mux(called, number, 0)), place.channel.eq(Mux(called, channel, 0))]

    def _masks(self, m, order):
        """Masks that the selector sends, or that the layer memory holds."""
        left, number = Signal(8), Signal(6)
        arrives, arriving, sent = Signal(), Signal(6), order.value.mask
        m.d.comb += self.fills.eq(left != 0)
        m.d.sync += [
            arrives.eq(self.fills),
            arriving.eq(number),
            self.mask.valid.eq(arrives | (order.kind == OrderKind.MASK)),
            self.mask.payload.channels.eq(Mux(arrives, self.table.data, sent.channels)),
            self.mask.payload.word.eq(Mux(arrives, arriving, sent.word)),
        ]
        with m.If(order.kind == OrderKind.FILL):
            m.d.sync += [left.eq(self.selection.pitch), number.eq(0), self.table.address.eq(self.selection.table)]
        with m.Elif(self.fills):
            m.d.sync += [left.eq(left - 1), number.eq(number + 1), self.table.address.eq(self.table.address + 1)]
