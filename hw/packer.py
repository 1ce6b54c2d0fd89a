"""Collects a core's activations, in channel order, into words of the map that the layer makes."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.exchange import WordWrite
from hw.isa import Target

__all__ = ["Packer"]


class Packer(wiring.Component):
    """Numbers words position after position.

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
        position, index = Signal(16), Signal(16)
        values = Signal(9 * WORD_CHANNELS, reset_less=True)
        m.d.comb += [
            self.o.payload.index.eq(index),
            self.o.payload.values.eq(values),
        ]
        m.d.sync += self.o.valid.eq(self.i.valid & (step == steps - 1))
        with m.If(self.i.valid):
            m.d.sync += [step.eq(step + 1), values.eq(Cat(values[9 * lanes :], self.i.payload.as_value()))]
        # One adder for the next word of this position and for the first one of the next.
        last, following = Signal(), Signal(16)
        m.d.comb += [
            last.eq(word == target.words - 1),
            following.eq(Mux(last, position, index) + Mux(last, target.pitch, 1)),
        ]
        with m.If(self.start):
            m.d.comb += following.eq(target.first)
        with m.If(self.o.valid | self.start):
            m.d.sync += index.eq(following)
        with m.If((self.o.valid & last) | self.start):
            m.d.sync += position.eq(following)
        with m.If(self.o.valid):
            m.d.sync += word.eq(Mux(last, 0, word + 1))
        with m.If(self.start):
            m.d.sync += [self.o.valid.eq(0), step.eq(0), word.eq(0)]
        return m
