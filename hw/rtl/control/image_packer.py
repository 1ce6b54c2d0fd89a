"""Packs the codes of an image into words of activations."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import WORD_CHANNELS
from hw.rtl.exchange import Exchange
from hw.rtl.records import WordWrite

__all__ = ["ImagePacker"]


class ImagePacker(wiring.Component):
    """Collects the codes of a position, channel after channel, into whole words; the last one is filled with zeros.

    Members
    -------
    channels : In(12), zero_point : In(signed 8)
        Codes of a position, at least 1, and the code of the real zero; stable from the cycle before ``start`` until the
        last code.
    start : In(1)
        Begin an image: the next word is number 0.
    spaced : In(1)
        Words come :attr:`hw.rtl.exchange.Exchange.IMAGE_DISTANCE` cycles apart at least.
    i : In(stream of signed 8)
        Codes, position after position.
    o : Out(stream of WordWrite), always ready
        Words of activations ``code - zero_point``.

    Latency: one cycle from a word's last code. Throughput: a code per cycle. Back-pressure: on ``i``, to space words
    out, at the same cycles whatever else goes on. Reset: ``start`` sets everything.
    """

    channels: In(12)
    zero_point: In(signed(8))
    start: In(1)
    spaced: In(1)
    i: In(stream.Signature(signed(8)))
    o: Out(stream.Signature(WordWrite, always_ready=True))

    def elaborate(self, platform):
        m = Module()
        place = Signal(range(WORD_CHANNELS))
        channel = Signal(12)
        last, completes = Signal(), Signal()
        wait = Signal(range(Exchange.IMAGE_DISTANCE))
        final, next_channel, next_place = Signal.like(channel), Signal.like(channel), Signal.like(place)
        m.d.comb += [
            next_channel.eq(Mux(last, 0, channel + 1)),
            next_place.eq(Mux(last, 0, place + 1)),
            self.i.ready.eq(~(completes & self.spaced & (wait != 0))),
        ]
        m.d.sync += [self.o.valid.eq(0), final.eq(self.channels - 1)]
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.If(self.o.valid):
            m.d.sync += self.o.payload.index.eq(self.o.payload.index + 1)
        with m.If(self.i.valid & self.i.ready):
            with m.If(completes):
                m.d.sync += wait.eq(Exchange.IMAGE_DISTANCE - 1)
            m.d.sync += [
                self.o.valid.eq(completes),
                channel.eq(next_channel),
                place.eq(next_place),
                last.eq(next_channel == final),
                completes.eq((next_channel == final) | (next_place == WORD_CHANNELS - 1)),
            ]
            for number in range(WORD_CHANNELS):
                # The first code of a word clears the places behind it.
                with m.If(place == number):
                    m.d.sync += self.o.payload.values[number].eq(self.i.payload - self.zero_point)
                with m.Elif(place == 0):
                    m.d.sync += self.o.payload.values[number].eq(0)
        with m.If(self.start):
            m.d.sync += [self.o.valid.eq(0), self.o.payload.index.eq(0), channel.eq(0), place.eq(0)]
            m.d.sync += [last.eq(final == 0), completes.eq(final == 0)]
        return m
