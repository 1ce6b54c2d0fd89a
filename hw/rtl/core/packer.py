"""Collects a core's activations, in channel order, into words of the map that the layer makes."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.rtl.core.address_generator import AddressGenerator
from hw.rtl.core.wrapping_counter import WrappingCounter
from hw.rtl.records import WORD, WordWrite
from hw.rtl.structs import Target

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

    Latency: :attr:`LATENCY` cycles from a word's last channels. Throughput: one step of the lanes per cycle. Takes no
    back-pressure. Reset: harmless; ``start`` sets everything.
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
        step = Signal(range(steps))
        values = Signal(WORD, reset_less=True)
        m.submodules.words = words = WrappingCounter(len(target.words))
        m.submodules.addresses = addresses = AddressGenerator(len(self.o.payload.index))
        m.d.comb += [
            words.count.eq(target.words),
            words.start.eq(self.start),
            words.advance.eq(self.o.valid),
            addresses.strides.base.eq(target.first),
            addresses.strides.column_pitch.eq(target.column_pitch),
            addresses.strides.row_pitch.eq(target.row_pitch),
            addresses.strides.columns.eq(target.columns),
            addresses.start.eq(self.start),
            addresses.advance.eq(self.o.valid),
            addresses.last.eq(words.last),
            self.o.payload.index.eq(addresses.address),
            self.o.payload.values.eq(values),
        ]
        m.d.sync += self.o.valid.eq(self.i.valid & (step == steps - 1))
        with m.If(self.i.valid):
            m.d.sync += [step.eq(step + 1), values.eq(Cat(values[lanes:], self.i.payload))]
        with m.If(self.start):
            m.d.sync += [self.o.valid.eq(0), step.eq(0)]
        return m
