"""Finds the two largest logits of a head and decides whether inference ends there."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.network.exits import draws
from hw.program.isa import MAX_CLASSES

__all__ = ["ExitUnit", "draw"]


class ExitUnit(wiring.Component):
    """Class, margin and logits of the last head, as :func:`hw.numerics.top2`.

    Members
    -------
    start : In(1)
        A new layer begins.
    raw : In(1), classes : In(8)
        Whether that layer is a head, and how many of its values are logits, at least 2; what follows them is ignored.
    i : In(stream of signed accumulators), always ready
        Logits in order of their class.
    label : Out(8), margin : Out(32)
        The largest logit's class, the first of equals, and its lead over the next.
    logit_address : In, logit : Out(signed)
        Synchronous read of the logits.

    Latency: one cycle behind the last logit. Throughput: one per cycle. Reset: no head yet.
    """

    def __init__(self, config: AcceleratorConfig):
        accumulator = signed(config.accumulator_bits)
        self._shape = accumulator
        super().__init__(
            {
                "start": In(1),
                "raw": In(1),
                "classes": In(8),
                "i": In(stream.Signature(accumulator, always_ready=True)),
                "label": Out(8),
                "margin": Out(32),
                "logit_address": In(range(MAX_CLASSES)),
                "logit": Out(accumulator),
            }
        )

    def elaborate(self, platform):
        m = Module()
        shape = self._shape
        m.submodules.logits = logits = memory.Memory(
            shape=shape, depth=MAX_CLASSES, init=[], attrs={"ram_style": "distributed"}
        )
        write, read = logits.write_port(), logits.read_port()
        index = Signal(8)
        best, next_best = Signal(shape), Signal(shape)
        m.d.comb += [
            write.addr.eq(index),
            write.data.eq(self.i.payload),
            write.en.eq(self.i.valid & (index < self.classes)),
            read.addr.eq(self.logit_address),
            read.en.eq(1),
            self.logit.eq(read.data),
            self.margin.eq((best - next_best)[:32]),
        ]
        with m.If(write.en):
            m.d.sync += index.eq(index + 1)
            first, second = index == 0, index == 1
            with m.If(first | (self.i.payload > best)):
                m.d.sync += [best.eq(self.i.payload), next_best.eq(best), self.label.eq(index)]
            with m.Elif(second | (self.i.payload > next_best)):
                m.d.sync += next_best.eq(self.i.payload)
        with m.If(self.start & self.raw):
            m.d.sync += index.eq(0)
        return m


def draw(seed):
    """The draw of a run, :func:`hw.network.exits.draws`: each of its bits is the parity of some bits of the seed."""
    moved = [int(draws(1 << n)) for n in range(len(seed))]
    masks = [sum((value >> bit & 1) << n for n, value in enumerate(moved)) for bit in range(8)]
    return Cat((seed & mask).xor() for mask in masks)
