"""Turns finished accumulators into activations: bias, scale, residual add, clamp.

::

    cycle  0 pop   3 biased   10 scaled   11 offset   12 clamped   13 activation ─► out
                        ▲                                          │ residual layers:
                        │                                          ▼
                   24 sum ◄─ 22 both operands scaled ◄─ 13 second, 14 first operand
                   then 31, 32, 33, 34 as above ─► out

A residual layer uses the same multipliers twice: accumulators are then taken in every second cycle only, counted from
``start``, so the two uses fall into different cycles.
"""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.isa import Lane as LaneFields
from hw.isa import Residual
from hw.numerics import ADD_LEFT_SHIFT
from hw.requantizer import Requantizer, ScaleFields

__all__ = ["Lane"]


class Lane(wiring.Component):
    """Takes accumulators from the PEs in channel order and finishes them.

    Members
    -------
    fields : In(LaneFields), residual : In(Residual), zero_point : In(signed 8)
        The layer, and the zero point its output is stored against; stable from ``start`` until ``done``.
    start : In(1)
    i : In(stream of signed accumulators), one per PE
        Channel ``c`` comes from PE ``c % pes``.
    channel_address : Out, bias, multiplier, shift : In
        Synchronous read of the channel memories.
    residual_address : Out(16), operand : In(signed 9)
        Read pipeline of two cycles over the residual operand.
    o : Out(stream of signed 9), always ready
        Activations.
    logit : Out(stream of signed accumulators), always ready
        Biased accumulators of a raw layer, instead.
    done : Out(1)
        For one cycle, when the layer's last value has left.

    Latency: :attr:`LATENCY`, :attr:`RESIDUAL_LATENCY` or :attr:`RAW_LATENCY` cycles from an accumulator's transfer to
    its result. Throughput: one per cycle, one per two cycles in residual layers. Reset: idle.
    """

    _BIASED = 3
    _SCALED = _BIASED + Requantizer.LATENCY
    #: Cycles from the transfer of an accumulator to its activation.
    LATENCY = _SCALED + 3
    #: Cycles from the transfer to the activation with the residual added.
    RESIDUAL_LATENCY = LATENCY + 4 + Requantizer.LATENCY + Requantizer.LATENCY + 3
    #: Cycles from the transfer to the logit.
    RAW_LATENCY = _BIASED

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        accumulator = signed(config.accumulator_bits)
        super().__init__(
            {
                "fields": In(LaneFields),
                "residual": In(Residual),
                "zero_point": In(signed(8)),
                "start": In(1),
                "i": In(stream.Signature(accumulator)).array(config.pes),
                "channel_address": Out(12),
                "bias": In(signed(32)),
                "multiplier": In(31),
                "shift": In(5),
                "residual_address": Out(16),
                "operand": In(signed(9)),
                "o": Out(stream.Signature(signed(9), always_ready=True)),
                "logit": Out(stream.Signature(accumulator, always_ready=True)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, fields, residual = self._config, self.fields, self.residual
        add = residual.enable

        # Cycle 0: take the next channel's accumulator.
        channel, turn = Signal(12), Signal(range(config.pes))
        phase = Signal()
        taken, offered = Signal(), Signal()
        accumulator = Signal(signed(config.accumulator_bits))
        with m.Switch(turn):
            for pe, source in enumerate(self.i):
                with m.Case(pe):
                    m.d.comb += [
                        offered.eq(source.valid),
                        accumulator.eq(source.payload),
                        source.ready.eq(~add | ~phase),
                    ]
        m.d.comb += [
            taken.eq(offered & (~add | ~phase)),
            self.channel_address.eq(fields.channel_base + channel),
        ]
        m.d.sync += phase.eq(~phase)
        last_channel = channel == fields.channels - 1
        with m.If(taken):
            m.d.sync += [turn.eq(turn + 1), channel.eq(Mux(last_channel, 0, channel + 1))]

        #: valid[n]: an accumulator was taken n cycles ago.
        valid = [taken]
        for cycle in range(1, self.RESIDUAL_LATENCY + 1):
            valid.append(Signal(name=f"valid_{cycle}"))
            m.d.sync += valid[cycle].eq(valid[cycle - 1])

        # Cycles 1 and 2: channel memories and their registers. Cycle 3: bias; or, in an odd cycle, a residual sum.
        accumulator_1, accumulator_2 = Signal.like(accumulator), Signal.like(accumulator)
        bias, multiplier, shift = Signal(signed(32)), Signal(31), Signal(5)
        m.d.sync += [
            accumulator_1.eq(accumulator),
            accumulator_2.eq(accumulator_1),
            bias.eq(self.bias),
            multiplier.eq(self.multiplier),
            shift.eq(self.shift),
        ]
        m.submodules.scale = scale = Requantizer(width=32)
        value, scale_fields = Signal(signed(32)), Signal(ScaleFields)
        total = Signal(signed(32))
        second_in = self.RESIDUAL_LATENCY - 3 - Requantizer.LATENCY  # cycle at which a sum enters
        with m.If(add & valid[second_in - 1]):
            m.d.sync += [
                value.eq(total),
                scale_fields.multiplier.eq(residual.output_multiplier),
                scale_fields.shift.eq(residual.output_shift),
                scale_fields.double.eq(1),
            ]
        with m.Else():
            m.d.sync += [
                value.eq(accumulator_2 + bias),
                scale_fields.multiplier.eq(multiplier),
                scale_fields.shift.eq(shift),
                scale_fields.double.eq(fields.double),
            ]
        m.d.comb += [scale.value.eq(value), scale.scale.eq(scale_fields)]

        # Cycles 11 to 13 (32 to 34 for a sum): offset, clamp, activation.
        offset_sum, code = Signal(signed(34)), Signal(signed(8))
        low, high, zero = Signal(signed(8)), Signal(signed(8)), Signal(signed(8))
        activation = Signal(signed(9))
        second_out = second_in + Requantizer.LATENCY
        m.d.sync += offset_sum.eq(
            scale.o + Mux(add & valid[second_out], residual.offset.as_signed(), fields.offset.as_signed())
        )
        with m.If(add & valid[second_out + 1]):
            m.d.comb += [low.eq(residual.clamp_low), high.eq(residual.clamp_high)]
        with m.Else():
            m.d.comb += [low.eq(fields.clamp_low), high.eq(fields.clamp_high)]
        m.d.sync += code.eq(Mux(offset_sum < low, low, Mux(offset_sum > high, high, offset_sum)))
        m.d.comb += zero.eq(Mux(add & ~valid[second_out + 2], residual.zero_point.as_signed(), self.zero_point))
        m.d.sync += activation.eq(code - zero)

        # Residual operands share a small multiplier: the stored one at cycle 13, the layer's own at cycle 14.
        m.submodules.operands = operands = Requantizer(width=9, lift=ADD_LEFT_SHIFT)
        own = Signal(signed(9))
        address = Signal(16)
        residual_channel, residual_base = Signal(12), Signal(16)
        m.d.comb += self.residual_address.eq(address)
        with m.If(valid[self.LATENCY - 2]):
            m.d.sync += [address.eq(address + 1), residual_channel.eq(residual_channel + 1)]
            with m.If(residual_channel == fields.channels - 1):
                m.d.sync += [
                    residual_channel.eq(0),
                    residual_base.eq(residual_base + residual.pitch),
                    address.eq(residual_base + residual.pitch),
                ]
        m.d.sync += own.eq(activation)
        m.d.comb += operands.scale.double.eq(1)
        with m.If(valid[self.LATENCY]):
            m.d.sync += [
                operands.value.eq(self.operand),
                operands.scale.multiplier.eq(residual.second_multiplier),
                operands.scale.shift.eq(residual.second_shift),
            ]
        with m.Else():
            m.d.sync += [
                operands.value.eq(own),
                operands.scale.multiplier.eq(residual.first_multiplier),
                operands.scale.shift.eq(residual.first_shift),
            ]
        scaled = Signal(signed(32))
        m.d.sync += [scaled.eq(operands.o), total.eq(scaled + operands.o)]

        # Out.
        left = Signal(20)
        finished = Signal()
        m.d.comb += [
            self.o.payload.eq(activation),
            self.o.valid.eq(~fields.raw & Mux(add, valid[self.RESIDUAL_LATENCY], valid[self.LATENCY])),
            self.logit.payload.eq(value),
            self.logit.valid.eq(fields.raw & valid[self.RAW_LATENCY]),
            finished.eq(self.o.valid | self.logit.valid),
        ]
        m.d.sync += self.done.eq(finished & (left == 1))
        with m.If(finished):
            m.d.sync += left.eq(left - 1)
        with m.If(self.start):
            m.d.sync += [
                left.eq(fields.outputs),
                channel.eq(0),
                turn.eq(0),
                phase.eq(0),
                address.eq(residual.base),
                residual_base.eq(residual.base),
                residual_channel.eq(0),
            ]
        return m
