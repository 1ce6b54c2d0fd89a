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
from hw.program.isa import MAX_MASKS
from hw.rtl.adders import pipelined_sum
from hw.rtl.core.scanner import Scanner
from hw.rtl.interfaces import ScanControl, SelectControl
from hw.rtl.records import TALLY_BITS, Order, OrderKind
from hw.rtl.structs import Selection, SelectKind

__all__ = ["Selector"]

#: Bits of a channel's sum over all cores.
_SUM_BITS = TALLY_BITS + 3
_SUMS = MAX_MASKS * WORD_CHANNELS


class _ScanResult(enum.Enum, shape=2):
    """What is read when a scan is done."""

    DIGITS = 0
    SUMS = 1
    PLACE = 2
    NOTHING = 3


class _State:
    """Registers that the selector's parts share."""

    def __init__(self, config):
        self.order = Signal(Order)  # to all scanners
        self.called = Signal(config.cores)  # one bit for each core
        self.step, self.waiting = Signal(10), Signal(14)  # within a state; cycles to the end of the scan
        self.scan = Signal(_ScanResult)
        self.remaining, self.found = Signal(20), Signal()  # winners still to find; the last one's bin or core is behind
        self.prefix, self.last_block = Signal(8), Signal()  # the last winner's magnitude; ``block`` is the last
        self.level = Signal(range(8 // config.selector + 1))  # digits of the prefix
        self.block = Signal(range(MAX_MASKS))
        self.end = Signal(10)  # of the comparisons of a block


class Selector(wiring.Component):
    """Conducts a selection in all cores.

    Members
    -------
    control : In(SelectControl)
        It is done when masks, limits and magnitudes hold in all cores.
    selection : In(Selection)
        Stable from the cycle behind ``control.start`` to the end.
    scanners : Out(ScanControl), one per core
        What the cores' scanners do, and find.

    Parts, in the order of :meth:`elaborate`: what holds in every state; the memory of sums. Then the states: a
    selection begins; scans are ordered and awaited; of elements a digit is chosen, at last a tie, whose place is sent;
    of channels the sums are stored, then ranked.

    Latency: :meth:`cycles`, whatever the activations. Throughput: one selection at a time. Takes no back-pressure.
    Reset: idle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "control": In(SelectControl()),
                "selection": In(Selection),
                "scanners": Out(ScanControl()).array(config.cores),
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
        state = _State(self._config)
        total = self._prepare(m, state)
        write, read = self._sum_memory(m)
        with m.FSM(init="idle"):
            self._begin(m, state)
            self._scan(m, state)
            self._choose_digit(m, state, total)
            self._choose_tie(m, state)
            self._send_limit(m, state)
            self._store_sums(m, state, total, write)
            with m.State("rank"):
                self._rank(m, state, read)
        return m

    def _prepare(self, m, state):
        """What holds in every state: no order but those that a state gives; returns the sum of the tallies."""
        selection, order = self.selection, state.order
        total = pipelined_sum(m, "tally", [scanner.tally for scanner in self.scanners])
        for core, scanner in enumerate(self.scanners):
            m.d.comb += [scanner.order.eq(order), scanner.called.eq(state.called[core])]
        m.d.comb += order.prefix.eq(state.prefix)
        m.d.sync += [order.kind.eq(OrderKind.NONE), state.last_block.eq(state.block == selection.pitch - 1)]
        m.d.sync += state.end.eq((selection.pitch << 3) + WORD_CHANNELS + 2)
        return total

    def _sum_memory(self, m):
        """Ports of the memory of the channels' sums; a read takes a cycle."""
        sums = memory.Memory(shape=_SUM_BITS, depth=_SUMS, init=[], attrs={"no_rw_check": 1})
        m.submodules.sums = sums
        write, read = sums.write_port(), sums.read_port()
        m.d.comb += read.en.eq(1)
        return write, read

    def _begin(self, m, state):
        """Idle; a selection starts with its first digit, its first block of channels, or the layer memory's masks."""
        selection, order = self.selection, state.order
        begins = Signal()
        m.d.sync += begins.eq(self.control.start)
        with m.State("idle"):
            m.d.comb += self.control.done.eq(1)
            m.d.sync += [
                state.remaining.eq(selection.count),
                state.prefix.eq(0),
                state.level.eq(0),
                state.block.eq(0),
                state.found.eq(0),
            ]
            m.d.sync += [state.called.eq(0), state.step.eq(0)]
            with m.If(begins):
                with m.Switch(selection.kind):
                    with m.Case(SelectKind.ELEMENTS):
                        m.next = "digit"
                    with m.Case(SelectKind.CHANNELS):
                        m.next = "sum"
                    with m.Case(SelectKind.MASK):
                        m.d.sync += [order.kind.eq(OrderKind.FILL), state.scan.eq(_ScanResult.NOTHING)]
                        m.d.sync += state.waiting.eq(selection.pitch + Scanner.FILL_LATENCY)
                        m.next = "scan"

    def _scan(self, m, state):
        """Orders a scan of a digit or of a block's sums, and waits as long as one takes."""
        order = state.order
        with m.State("digit"):
            level = order.index.eq(state.level)
            self._order_scan(m, state, OrderKind.COUNT, _ScanResult.DIGITS, Scanner.LATENCY - 4, level)

        with m.State("sum"):
            block = order.value.block.eq(state.block)
            self._order_scan(m, state, OrderKind.SUM, _ScanResult.SUMS, Scanner.LATENCY - 4, block)

        with m.State("scan"):
            m.d.sync += state.waiting.eq(state.waiting - 1)
            with m.If(state.waiting == 0):
                m.d.sync += state.step.eq(0)
                with m.Switch(state.scan):
                    with m.Case(_ScanResult.DIGITS):
                        m.next = "digits"
                    with m.Case(_ScanResult.SUMS):
                        m.next = "sums"
                    with m.Case(_ScanResult.PLACE):
                        m.next = "place"
                    with m.Case(_ScanResult.NOTHING):
                        m.next = "idle"

    def _order_scan(self, m, state, kind, then, latency, about):
        """Give an order that takes as many cycles as the longest slice has words, and ``latency`` more.

        ``about`` is the assignment that says what the order is about.
        """
        order = state.order
        m.d.sync += [
            order.kind.eq(kind),
            state.waiting.eq(self.selection.length + latency),
            state.scan.eq(then),
            state.step.eq(0),
            about,
        ]
        m.next = "scan"

    def _choose_digit(self, m, state, total):
        """One count after the other comes, the largest digit's first; the last winner's digit joins the prefix."""
        digit, bins, behind = self._config.selector, 1 << self._config.selector, self.tally_cycles(self._config)
        step, level = state.step, state.level
        with m.State("digits"):
            m.d.sync += [state.order.index.eq(bins - 1 - step), step.eq(step + 1)]
            with m.If(step > behind):
                with m.If(self._take(m, state, total)):
                    m.d.sync += state.prefix.eq(Cat((bins + behind - step)[:digit], state.prefix)[:8])
            with m.If(step == bins + behind):
                m.d.sync += [level.eq(level + 1), step.eq(0), state.found.eq(0)]
                m.next = "digit"
                with m.If(level == 8 // digit - 1):
                    m.next = "ties"

    def _choose_tie(self, m, state):
        """Tie-break: how many ties each core has; the core with the last one to win is called to find it."""
        digit, cores, behind = self._config.selector, self._config.cores, self.tally_cycles(self._config)
        step = state.step
        with m.State("ties"):
            m.d.sync += [state.order.index.eq(state.prefix[:digit]), step.eq(step + 1)]
            mine = Signal(TALLY_BITS)
            for core in range(cores):
                with m.If(step == behind + 1 + core):
                    m.d.sync += mine.eq(self.scanners[core].tally)
            with m.If(step > behind + 1):
                here = self._take(m, state, mine)
                for core in range(cores):
                    with m.If(step == behind + 2 + core):
                        m.d.sync += state.called[core].eq(here)
            with m.If(step == behind + cores + 2):
                latency = Scanner.LATENCY + Scanner.FIND_LATENCY - 2
                rank = state.order.value.rank.eq(state.remaining)
                self._order_scan(m, state, OrderKind.FIND, _ScanResult.PLACE, latency, rank)

    def _take(self, m, state, amount):
        """Look for the bin or core in which the last winner lies, one after the other; true in the one that is."""
        here = Signal()
        m.d.comb += here.eq(~state.found & (amount >= state.remaining))
        with m.If(here):
            m.d.sync += state.found.eq(1)
        with m.Elif(~state.found):
            m.d.sync += state.remaining.eq(state.remaining - amount)
        return here

    def _send_limit(self, m, state):
        """The place of the last tie that wins goes to all cores, in two cycles."""
        order, step = state.order, state.step
        with m.State("place"):
            word, channel = Signal(16), Signal(range(WORD_CHANNELS))
            m.d.sync += [
                word.eq(reduce(or_, [scanner.place.word for scanner in self.scanners])),
                channel.eq(reduce(or_, [scanner.place.channel for scanner in self.scanners])),
                step.eq(step + 1),
                order.value.word.eq(word),
                order.index.eq(channel),
            ]
            with m.If(step == 1):
                m.d.sync += order.kind.eq(OrderKind.LIMIT)
                m.next = "idle"

    def _store_sums(self, m, state, total, write):
        """The sums of a block's eight channels come one after the other; behind the last block they are ranked."""
        step, block, behind = state.step, state.block, self.tally_cycles(self._config)
        with m.State("sums"):
            m.d.sync += [state.order.index.eq(step), step.eq(step + 1)]
            m.d.comb += [
                write.addr.eq(Cat((step - behind - 1)[:3], block)),
                write.data.eq(total),
                write.en.eq(step > behind),
            ]
            with m.If(step == WORD_CHANNELS + behind):
                m.d.sync += [block.eq(block + 1), step.eq(0)]
                m.next = "sum"
                with m.If(state.last_block):
                    m.d.sync += block.eq(0)
                    m.next = "rank"

    def _rank(self, m, state, read):
        """Compares the sums of a block with all, one after the other; then sends the block's mask."""
        selection, order = self.selection, state.order
        block, step = state.block, state.step
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
        with m.If(step == state.end):
            winners, mask = Cat(rank < selection.count for rank in ranks), order.value.mask
            m.d.sync += [order.kind.eq(OrderKind.MASK), mask.channels.eq(winners), mask.word.eq(block)]
            m.d.sync += [block.eq(block + 1), step.eq(0)]
            with m.If(state.last_block):
                m.next = "idle"
