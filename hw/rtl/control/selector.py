"""Finds the largest activations or the strongest channels of a map that lies in all cores, in a fixed time.

Elements: the magnitude of the last winner is found digit by digit, each by a scan in which the cores count how often
the digits occur, and a walk over the counts from the largest digit down. How many activations of exactly that magnitude
win follows; the core in which the last of them lies finds its place in one more scan.

Channels: the cores add up the magnitudes of eight channels at a time; then each sum is compared with all others. A
channel wins if fewer than ``count`` beat it.
"""

from functools import reduce
from operator import or_

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, enum, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.isa import MAX_MASKS, Selection, SelectKind
from hw.rtl.core.scanner import PLACE, TALLY_BITS, Order, OrderKind, Scanner
from hw.rtl.sums import pipelined_sum

__all__ = ["Selector"]

#: Bits of a channel's sum over all cores.
_SUM_BITS = TALLY_BITS + 3
_SUMS = MAX_MASKS * WORD_CHANNELS


class _Scan(enum.Enum, shape=2):
    """What is read when a scan is done."""

    DIGITS = 0
    SUMS = 1
    PLACE = 2
    NOTHING = 3


class Selector(wiring.Component):
    """Conducts a selection in all cores.

    Members
    -------
    start : In(1), selection : In(Selection)
        Begin; the selection is stable until the end.
    done : Out(1)
        Low from the cycle after ``start`` until masks, limits and magnitudes hold in all cores.
    order : Out(Order), called : Out(1 for each core)
        To the cores' scanners.
    tally, place : In, of each core
        From them.

    Latency: :meth:`cycles`, whatever the activations. Reset: idle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "selection": In(Selection),
                "done": Out(1),
                "order": Out(Order),
                "called": Out(config.cores),
                "tally": In(TALLY_BITS).array(config.cores),
                "place": In(PLACE).array(config.cores),
            }
        )

    @staticmethod
    def tally_cycles(config: AcceleratorConfig) -> int:
        """Cycles from an index in the order to the sum of the tallies."""
        return 2 + (config.cores - 1).bit_length()

    @classmethod
    def cycles(cls, config: AcceleratorConfig, kind: SelectKind, length: int, pitch: int) -> int:
        """Cycles in which ``done`` is low, by fields of the selection."""
        if kind is SelectKind.MASK:
            return pitch + Scanner.FILL_LATENCY + 1
        scan, behind = length + Scanner.LATENCY - 2, cls.tally_cycles(config) + 1
        if kind is SelectKind.CHANNELS:
            return pitch * (scan + WORD_CHANNELS + behind) + pitch * (WORD_CHANNELS * (pitch + 1) + 3)
        digits = 8 // config.selector * (scan + (1 << config.selector) + behind)
        return digits + behind + config.cores + 2 + scan + 1 + Scanner.FIND_LATENCY + 2

    def elaborate(self, platform):
        m = Module()
        config = self._config
        selection, order = self.selection, self.order
        digit, bins, cores = config.selector, 1 << config.selector, config.cores
        behind = self.tally_cycles(config)
        step, waiting = Signal(10), Signal(14)
        scan = Signal(_Scan)
        remaining, found = Signal(20), Signal()
        prefix, level = Signal(8), Signal(range(8 // digit + 1))
        block = Signal(range(MAX_MASKS))
        last_block, end = Signal(), Signal(10)  # end: of the comparisons of a block
        total = pipelined_sum(m, "tally", self.tally)
        m.d.comb += order.prefix.eq(prefix)
        m.d.sync += [order.kind.eq(OrderKind.NONE), last_block.eq(block == selection.pitch - 1)]
        m.d.sync += end.eq((selection.pitch << 3) + WORD_CHANNELS + 2)

        sums = memory.Memory(shape=_SUM_BITS, depth=_SUMS, init=[], attrs={"no_rw_check": 1})
        m.submodules.sums = sums
        write, read = sums.write_port(), sums.read_port()
        m.d.comb += read.en.eq(1)

        def order_scan(kind, then, latency, index=None, value=None):
            """Give an order that takes as many cycles as the longest share has words, and ``latency`` more."""
            m.d.sync += [order.kind.eq(kind), waiting.eq(selection.length + latency), scan.eq(then), step.eq(0)]
            if index is not None:
                m.d.sync += order.index.eq(index)
            if value is not None:
                m.d.sync += order.value.eq(value)
            m.next = "scan"

        def take(amount):
            """Look for the bin or core in which the last winner lies, one after the other; true in the one that is."""
            here = Signal()
            m.d.comb += here.eq(~found & (amount >= remaining))
            with m.If(here):
                m.d.sync += found.eq(1)
            with m.Elif(~found):
                m.d.sync += remaining.eq(remaining - amount)
            return here

        with m.FSM(init="idle"):
            with m.State("idle"):
                m.d.comb += self.done.eq(1)
                m.d.sync += [remaining.eq(selection.count), prefix.eq(0), level.eq(0), block.eq(0), found.eq(0)]
                m.d.sync += [self.called.eq(0), step.eq(0)]
                with m.If(self.start):
                    with m.Switch(selection.kind):
                        with m.Case(SelectKind.ELEMENTS):
                            m.next = "digit"
                        with m.Case(SelectKind.CHANNELS):
                            m.next = "sum"
                        with m.Case(SelectKind.MASK):
                            m.d.sync += [order.kind.eq(OrderKind.FILL), scan.eq(_Scan.NOTHING)]
                            m.d.sync += waiting.eq(selection.pitch + Scanner.FILL_LATENCY)
                            m.next = "scan"

            with m.State("digit"):
                order_scan(OrderKind.COUNT, _Scan.DIGITS, Scanner.LATENCY - 4, index=level)

            with m.State("sum"):
                order_scan(OrderKind.SUM, _Scan.SUMS, Scanner.LATENCY - 4, value=block)

            with m.State("scan"):
                m.d.sync += waiting.eq(waiting - 1)
                with m.If(waiting == 0):
                    m.d.sync += step.eq(0)
                    with m.Switch(scan):
                        with m.Case(_Scan.DIGITS):
                            m.next = "digits"
                        with m.Case(_Scan.SUMS):
                            m.next = "sums"
                        with m.Case(_Scan.PLACE):
                            m.next = "place"
                        with m.Case(_Scan.NOTHING):
                            m.next = "idle"

            with m.State("digits"):
                # One count after the other comes, the largest digit's first.
                m.d.sync += [order.index.eq(bins - 1 - step), step.eq(step + 1)]
                with m.If(step > behind):
                    with m.If(take(total)):
                        m.d.sync += prefix.eq(Cat((bins + behind - step)[:digit], prefix)[:8])
                with m.If(step == bins + behind):
                    m.d.sync += [level.eq(level + 1), step.eq(0), found.eq(0)]
                    m.next = "digit"
                    with m.If(level == 8 // digit - 1):
                        m.next = "ties"

            with m.State("ties"):
                # How many ties each core has; which one's is the last to win.
                m.d.sync += [order.index.eq(prefix[:digit]), step.eq(step + 1)]
                mine = Signal(TALLY_BITS)
                for core in range(cores):
                    with m.If(step == behind + 1 + core):
                        m.d.sync += mine.eq(self.tally[core])
                with m.If(step > behind + 1):
                    here = take(mine)
                    for core in range(cores):
                        with m.If(step == behind + 2 + core):
                            m.d.sync += self.called[core].eq(here)
                with m.If(step == behind + cores + 2):
                    latency = Scanner.LATENCY + Scanner.FIND_LATENCY - 2
                    order_scan(OrderKind.FIND, _Scan.PLACE, latency, value=remaining)

            with m.State("place"):
                word, channel = Signal(16), Signal(range(WORD_CHANNELS))
                m.d.sync += [
                    word.eq(reduce(or_, [place.word for place in self.place])),
                    channel.eq(reduce(or_, [place.channel for place in self.place])),
                    step.eq(step + 1),
                    order.value.eq(word),
                    order.index.eq(channel),
                ]
                with m.If(step == 1):
                    m.d.sync += order.kind.eq(OrderKind.LIMIT)
                    m.next = "idle"

            with m.State("sums"):
                m.d.sync += [order.index.eq(step), step.eq(step + 1)]
                m.d.comb += [
                    write.addr.eq(Cat((step - behind - 1)[:3], block)),
                    write.data.eq(total),
                    write.en.eq(step > behind),
                ]
                with m.If(step == WORD_CHANNELS + behind):
                    m.d.sync += [block.eq(block + 1), step.eq(0)]
                    m.next = "sum"
                    with m.If(last_block):
                        m.d.sync += block.eq(0)
                        m.next = "rank"

            with m.State("rank"):
                self._rank(m, read, block, step, last_block, end)
        return m

    def _rank(self, m, read, block, step, last_block, end):
        """Compares the sums of a block with all, one after the other; then sends the block's mask."""
        selection, order = self.selection, self.order
        # Cycle by cycle: the block's own sums are read, then all; each arrives two cycles later. Which is next is
        # known a cycle before.
        own = Signal(data.ArrayLayout(_SUM_BITS, WORD_CHANNELS))
        ranks = Signal(data.ArrayLayout(10, WORD_CHANNELS))
        other, place = Signal(_SUM_BITS), Signal(10)
        compares, before = Signal(), Signal(WORD_CHANNELS)
        m.d.comb += [
            read.addr.eq(Mux(step < WORD_CHANNELS, Cat(step[:3], block), step - WORD_CHANNELS)),
            place.eq(step - (WORD_CHANNELS + 1)),
        ]
        m.d.sync += [
            step.eq(step + 1),
            other.eq(read.data),
            compares.eq(step >= WORD_CHANNELS + 1),
            before.eq(Cat(place < Cat(Const(channel, 3), block) for channel in range(WORD_CHANNELS))),
        ]
        with m.If(step < 2):
            m.d.sync += ranks.eq(0)
        with m.Elif(~compares):
            m.d.sync += own.eq(Cat(Value.cast(own)[_SUM_BITS:], other))
        with m.Else():
            for channel in range(WORD_CHANNELS):
                # An equal sum beats if it is that of a channel before.
                with m.If(Cat(before[channel], other) > Cat(Const(0, 1), own[channel])):
                    m.d.sync += ranks[channel].eq(ranks[channel] + 1)
        with m.If(step == end):
            mask = Cat(rank < selection.count for rank in ranks)
            m.d.sync += [order.kind.eq(OrderKind.MASK), order.value.eq(Cat(mask, block)), block.eq(block + 1)]
            m.d.sync += step.eq(0)
            with m.If(last_block):
                m.next = "idle"
