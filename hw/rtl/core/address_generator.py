"""Addresses of the words of a map in the order of a walk: an adder and a register for each of three nested loops."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.core.wrapping_counter import WrappingCounter
from hw.rtl.records import strides_layout

__all__ = ["AddressGenerator"]


class AddressGenerator(wiring.Component):
    """Word after word of a position, position after position of a row, row after row.

    Parameters
    ----------
    bits : int
        Of an address; addresses wrap around.

    Members
    -------
    strides : In(strides_layout(bits))
        The first address, the distances from a position to the next and from a row's first position to the next row's,
        and the positions of a row; stable from ``start`` until the last ``advance``.
    start : In(1)
        Begin at the first address.
    advance : In(1), last : In(1)
        Go on: to the word behind this one or, if this is the last of its position, to the first of the next.
    address : Out(bits), column : Out(8), last_column : Out(1)
        The present word, its position's number in the row, and whether that is the row's last.

    Latency: one cycle. Throughput: one address a cycle. Back-pressure: it stands still without ``advance``. Reset:
    harmless; ``start`` sets everything.
    """

    def __init__(self, bits: int):
        strides = strides_layout(bits)
        columns = strides["columns"].shape
        super().__init__(
            {
                "strides": In(strides),
                "start": In(1),
                "advance": In(1),
                "last": In(1),
                "address": Out(bits),
                "column": Out(columns),
                "last_column": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        position, row, following = Signal.like(self.address), Signal.like(self.address), Signal.like(self.address)
        m.submodules.counter = counter = WrappingCounter(len(self.column))
        m.d.comb += [
            counter.count.eq(self.strides.columns),
            counter.start.eq(self.start),
            counter.advance.eq(self.advance & self.last),
            self.column.eq(counter.value),
            self.last_column.eq(counter.last),
        ]
        # One adder for the next word of this position, for the first one of the next, and for that of the next row.
        here, distance = Signal.like(self.address), Signal.like(self.strides.row_pitch)
        with m.If(~self.last):
            m.d.comb += [here.eq(self.address), distance.eq(1)]
        with m.Elif(~self.last_column):
            m.d.comb += [here.eq(position), distance.eq(self.strides.column_pitch)]
        with m.Else():
            m.d.comb += [here.eq(row), distance.eq(self.strides.row_pitch)]
        m.d.comb += following.eq(Mux(self.start, self.strides.base, here + distance))
        with m.If(self.start | self.advance):
            m.d.sync += self.address.eq(following)
        with m.If(self.start | (self.advance & self.last)):
            m.d.sync += position.eq(following)
        with m.If(self.start | (self.advance & self.last & self.last_column)):
            m.d.sync += row.eq(following)
        return m
