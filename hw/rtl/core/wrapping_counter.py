"""A counter that begins anew after its last value, and knows in time which that is."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["WrappingCounter"]


class WrappingCounter(wiring.Component):
    """Counts 0, 1, ... ``count - 1``, and again from 0.

    Parameters
    ----------
    bits : int
        Of a value.

    Members
    -------
    count : In(bits)
        Number of values, at least 1; stable from ``start`` until the last ``advance``.
    start : In(1)
        Begin at 0.
    advance : In(1)
        Go on.
    value : Out(bits), last : Out(1)
        The present value, and whether it is the last: both from flip-flops, so nothing is compared in the cycle in
        which something depends on it.

    Latency: one cycle. Throughput: a value a cycle. Back-pressure: it stands still without ``advance``. Reset:
    harmless; ``start`` sets everything.
    """

    def __init__(self, bits: int):
        super().__init__({"count": In(bits), "start": In(1), "advance": In(1), "value": Out(bits), "last": Out(1)})

    def elaborate(self, platform):
        m = Module()
        single, before_last = Signal(), Signal.like(self.count)
        m.d.sync += [single.eq(self.count == 1), before_last.eq(self.count - 2)]
        with m.If(self.start):
            m.d.sync += [self.value.eq(0), self.last.eq(self.count == 1)]
        with m.Elif(self.advance):
            m.d.sync += [
                self.value.eq(Mux(self.last, 0, self.value + 1)),
                self.last.eq(Mux(self.last, single, self.value == before_last)),
            ]
        return m
