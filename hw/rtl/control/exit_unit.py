"""Finds the two largest logits of a head and decides whether inference ends there."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.network.exits import draws
from hw.rtl.interfaces import HeadLogits, HeadResult, LogitRead
from hw.rtl.verilog_platform import memory_attributes

__all__ = ["ExitUnit", "draw"]


class ExitUnit(wiring.Component):
    """Class, margin and logits of the last head, as :func:`hw.numerics.top2`.

    Members
    -------
    start : In(1)
        A new layer begins.
    head : In(HeadLogits)
        What kind of layer that is, from the cycle behind ``start`` on, and its logits.
    result : Out(HeadResult)
        Of the last head.
    read : In(LogitRead)
        Its logits, for the host.

    A logit is compared in the cycle that it comes, and takes its rank in the next one.

    Latency: three cycles behind the last logit. Throughput: one logit per cycle. Takes no back-pressure. Reset: no head
    yet.
    """

    def __init__(self, config: AcceleratorConfig):
        self._shape, self._classes = signed(config.accumulator_bits), config.classes
        super().__init__(
            {
                "start": In(1),
                "head": In(HeadLogits(config)),
                "result": Out(HeadResult()),
                "read": In(LogitRead(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        begins = Signal()
        m.d.sync += begins.eq(self.start)
        shape, classes, logit = self._shape, self._classes, self.head.logits
        m.submodules.logits = logits = memory.Memory(
            shape=shape, depth=classes, init=[], attrs=memory_attributes(classes)
        )
        write, read = logits.write_port(), logits.read_port()
        index = Signal(range(classes))
        # Of the logit that comes: what would have to be computed of its index, in registers.
        first, second, counts = Signal(), Signal(), Signal()
        m.d.comb += [
            write.addr.eq(index),
            write.data.eq(logit.payload),
            write.en.eq(logit.valid & counts),
            read.addr.eq(self.read.address),
            read.en.eq(1),
            self.read.logit.eq(read.data),
        ]
        self._rank(m, write.en, index, first, second)
        with m.If(write.en):
            m.d.sync += [
                index.eq(index + 1),
                first.eq(0),
                second.eq(first),
                counts.eq(index + 1 != self.head.classes),
            ]
        with m.If(begins & self.head.raw):
            m.d.sync += [index.eq(0), first.eq(1), second.eq(0), counts.eq(1)]
        return m

    def _rank(self, m, counts, index, first, second):
        """The two largest logits: one that ``counts`` is compared with them and with the one before it."""
        logit = self.head.logits.payload
        best, next_best, before = (
            Signal(self._shape, name=name, reset_less=True) for name in ("best", "next_best", "before")
        )
        before_index = Signal.like(index, reset_less=True)
        becomes_best, becomes_next = Signal(), Signal()  # the logit before
        above_best, above_next, above_before = Signal(), Signal(), Signal()
        m.d.comb += [
            above_best.eq(logit > best),
            above_next.eq(logit > next_best),
            above_before.eq(logit > before),
        ]
        is_best = first | Mux(becomes_best, above_before, above_best)
        is_next = second | Mux(becomes_best, above_best, Mux(becomes_next, above_before, above_next))
        m.d.sync += [
            before.eq(logit),
            before_index.eq(index),
            becomes_best.eq(counts & is_best),
            becomes_next.eq(counts & ~is_best & is_next),
            self.result.margin.eq((best - next_best)[:32]),
        ]
        with m.If(becomes_best):
            m.d.sync += [best.eq(before), next_best.eq(best), self.result.label.eq(before_index)]
        with m.If(becomes_next):
            m.d.sync += next_best.eq(before)


def draw(seed):
    """The draw of a run, :func:`hw.network.exits.draws`: each of its bits is the parity of some bits of the seed."""
    moved = [int(draws(1 << n)) for n in range(len(seed))]
    masks = [sum((value >> bit & 1) << n for n, value in enumerate(moved)) for bit in range(8)]
    return Cat((seed & mask).xor() for mask in masks)
