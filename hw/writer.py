"""Writes a map into the activation memory, value after value, and its nonzero masks beside it."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import MASK_CHANNELS
from hw.isa import Target

__all__ = ["ActivationWrite", "MaskWrite", "Writer"]


class ActivationWrite(data.Struct):
    bank: 1
    address: 16
    value: signed(9)


class MaskWrite(data.Struct):
    bank: 1
    address: 12
    mask: MASK_CHANNELS


class Writer(wiring.Component):
    """Places values in channel order, position after position.

    Members
    -------
    target : In(Target)
        The map; stable from ``start`` until the last value.
    start : In(1)
        Begin at the first position.
    i : In(stream of signed 9), always ready
        Activations ``q - zero_point``.
    activation : Out(stream of ActivationWrite), always ready
    mask : Out(stream of MaskWrite), always ready
        A word for every 32 channels and for the last channels of a position.

    Latency: one cycle. Throughput: one value per cycle. Reset: harmless; ``start`` sets everything.
    """

    target: In(Target)
    start: In(1)
    i: In(stream.Signature(signed(9), always_ready=True))
    activation: Out(stream.Signature(ActivationWrite, always_ready=True))
    mask: Out(stream.Signature(MaskWrite, always_ready=True))

    def elaborate(self, platform):
        m = Module()
        target = self.target
        channel = Signal(12)
        position, address = Signal(16), Signal(16)
        position_mask, mask_address = Signal(12), Signal(12)
        collected = Signal(MASK_CHANNELS)
        place = Signal(MASK_CHANNELS, init=1)  # one-hot: this channel's bit
        last, full = Signal(), Signal()
        word = Signal(MASK_CHANNELS)
        m.d.comb += [
            last.eq(channel == target.channels - 1),
            full.eq(last | place[-1]),
            word.eq(collected | Mux(self.i.payload != 0, place, 0)),
        ]
        m.d.sync += [
            self.activation.valid.eq(self.i.valid),
            self.activation.payload.bank.eq(target.bank),
            self.activation.payload.address.eq(address),
            self.activation.payload.value.eq(self.i.payload),
            self.mask.valid.eq(self.i.valid & full),
            self.mask.payload.bank.eq(target.bank),
            self.mask.payload.address.eq(mask_address),
            self.mask.payload.mask.eq(word),
        ]
        with m.If(self.i.valid):
            m.d.sync += [
                channel.eq(channel + 1),
                address.eq(address + 1),
                place.eq(place.rotate_left(1)),
                collected.eq(word),
            ]
            with m.If(full):
                m.d.sync += [collected.eq(0), place.eq(1), mask_address.eq(mask_address + 1)]
            with m.If(last):
                m.d.sync += [
                    channel.eq(0),
                    position.eq(position + target.pitch),
                    address.eq(position + target.pitch),
                    position_mask.eq(position_mask + target.mask_pitch),
                    mask_address.eq(position_mask + target.mask_pitch),
                ]
        with m.If(self.start):
            m.d.sync += [
                channel.eq(0),
                position.eq(target.base),
                address.eq(target.base),
                position_mask.eq(target.mask_base),
                mask_address.eq(target.mask_base),
                place.eq(1),
                collected.eq(0),
            ]
        return m
