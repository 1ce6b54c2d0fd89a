"""Collects a core's activations, in channel order, into words of the map that the layer makes."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.exchange import WordWrite
from hw.isa import Target

__all__ = ["Packer"]


class Packer(wiring.Component):
    """Numbers words position after position, row after row of the walk.

    Members
    -------
    target : In(Target)
        The words to make; stable from ``start`` until the last value.
    start : In(1)
        Begin at the first word.
    i : In(stream of one signed 9 per lane), always ready
        Activations ``q - zero_point`` of consecutive channels.
    o : Out(stream of WordWrite), always ready

    Latency: :attr:`LATENCY` cycles from a word's last channels. Throughput: one step of the lanes per cycle. Reset:
    harmless; ``start`` sets everything.
    """

    #: Cycles from the last channels of a word to the word.
    LATENCY = 1

    def __init__(self, config: AcceleratorConfig):
        self._lanes = config.lanes
        super().__init__(
            {
                "target": In(Target),
                "start": In(1),
                "i": In(stream.Signature(data.ArrayLayout(signed(9), config.lanes), always_ready=True)),
                "o": Out(stream.Signature(WordWrite, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        target, lanes = self.target, self._lanes
        steps = WORD_CHANNELS // lanes
        step, word = Signal(range(steps)), Signal(8)
        column = Signal(8)
        row, position, index = Signal(16), Signal(16), Signal(16)
        values = Signal(9 * WORD_CHANNELS, reset_less=True)
        m.d.comb += [
            self.o.payload.index.eq(index),
            self.o.payload.values.eq(values),
        ]
        m.d.sync += self.o.valid.eq(self.i.valid & (step == steps - 1))
        with m.If(self.i.valid):
            m.d.sync += [step.eq(step + 1), values.eq(Cat(values[9 * lanes :], self.i.payload.as_value()))]
        # One adder for the next word of this position, for the first one of the next, and for that of the next row.
        last, last_column, following = Signal(), Signal(), Signal(16)
        here, distance = Signal(16), Signal(12)
        with m.If(~last):
            m.d.comb += [here.eq(index), distance.eq(1)]
        with m.Elif(~last_column):
            m.d.comb += [here.eq(position), distance.eq(target.column_pitch)]
        with m.Else():
            m.d.comb += [here.eq(row), distance.eq(target.row_pitch)]
        m.d.comb += [
            last.eq(word == target.words - 1),
            last_column.eq(column == target.columns - 1),
            following.eq(Mux(self.start, target.first, here + distance)),
        ]
        with m.If(self.o.valid | self.start):
            m.d.sync += index.eq(following)
        with m.If((self.o.valid & last) | self.start):
            m.d.sync += position.eq(following)
        with m.If((self.o.valid & last & last_column) | self.start):
            m.d.sync += row.eq(following)
        with m.If(self.o.valid):
            m.d.sync += word.eq(Mux(last, 0, word + 1))
            with m.If(last):
                m.d.sync += column.eq(Mux(last_column, 0, column + 1))
        with m.If(self.start):
            m.d.sync += [self.o.valid.eq(0), step.eq(0), word.eq(0), column.eq(0)]
        return m
