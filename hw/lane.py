"""Turns one accumulator after the other into activations: bias, scale, residual add, clamp.

::

    cycle  0 taken   3 biased   10 scaled   11 offset   12 clamped   13 activation ─► out
                          ▲                                          │ residual layers:
                          │                                          ▼
                     24 sum ◄─ 22 both operands scaled ◄─ 13 second, 14 first operand
                     then 31, 32, 33, 34 as above ─► out

A residual layer uses the same multipliers twice: accumulators are then taken in every second cycle only, so the two
uses fall into different cycles. :mod:`hw.lanes` says which is which.
"""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.isa import Lane as LaneFields
from hw.isa import Residual
from hw.numerics import ADD_LEFT_SHIFT
from hw.requantizer import Requantizer, ScaleFields

__all__ = ["Lane", "Sums"]


class Sums(data.Struct):
    """Which stages hold something of a residual sum in this cycle; the others hold a layer's own value, or nothing."""

    operand: 1  # the stored operand is to be scaled; else the layer's own
    scale: 1  # a sum goes to the multiplier, in place of a biased accumulator
    offset: 1
    clamp: 1
    zero: 1  # the activation is of the zero point it is stored against; else of the residual's


class Lane(wiring.Component):
    """The datapath of one lane.

    Members
    -------
    fields : In(LaneFields), residual : In(Residual), zero_point : In(signed 8)
        The layer, and the zero point its output is stored against.
    sums : In(Sums)
    accumulator : In(signed)
        Cycle 0.
    bias, multiplier, shift : In
        Of its channel, in cycle 1.
    operand : In(signed 9)
        The residual operand, in cycle 13.
    logit : Out(signed)
        The biased accumulator, in cycle :attr:`RAW_LATENCY`.
    o : Out(signed 9)
        The activation, in cycle :attr:`LATENCY`, or :attr:`RESIDUAL_LATENCY` with the residual added.

    Throughput: one per cycle, one per two cycles in residual layers. Takes no back-pressure. Reset: none needed.
    """

    _BIASED = 3
    #: Cycles from an accumulator to its logit.
    RAW_LATENCY = _BIASED
    #: Cycles from an accumulator to its scaled value, and then to its activation.
    SCALED = _BIASED + Requantizer.LATENCY
    LATENCY = SCALED + 3
    #: Cycles from an accumulator to its sum with the residual, to that scaled, and then to its activation.
    SUM = LATENCY + 4 + Requantizer.LATENCY
    SUM_SCALED = SUM + Requantizer.LATENCY
    RESIDUAL_LATENCY = SUM_SCALED + 3

    def __init__(self, config: AcceleratorConfig):
        accumulator = signed(config.accumulator_bits)
        super().__init__(
            {
                "fields": In(LaneFields),
                "residual": In(Residual),
                "zero_point": In(signed(8)),
                "sums": In(Sums),
                "accumulator": In(accumulator),
                "bias": In(signed(32)),
                "multiplier": In(31),
                "shift": In(5),
                "operand": In(signed(9)),
                "logit": Out(accumulator),
                "o": Out(signed(9)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        fields, residual, sums = self.fields, self.residual, self.sums

        # Cycles 1 and 2: channel memories and their registers. Cycle 3: bias; or a residual sum.
        accumulator_1, accumulator_2 = Signal.like(self.accumulator), Signal.like(self.accumulator)
        bias, multiplier, shift = Signal(signed(32)), Signal(31), Signal(5)
        m.d.sync += [
            accumulator_1.eq(self.accumulator),
            accumulator_2.eq(accumulator_1),
            bias.eq(self.bias),
            multiplier.eq(self.multiplier),
            shift.eq(self.shift),
        ]
        m.submodules.scale = scale = Requantizer(width=32)
        value, scale_fields = Signal(signed(32)), Signal(ScaleFields)
        total = Signal(signed(32))
        with m.If(sums.scale):
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
        m.d.comb += [scale.value.eq(value), scale.scale.eq(scale_fields), self.logit.eq(value)]

        # Cycles 11 to 13 (32 to 34 for a sum): offset, clamp, activation.
        offset_sum, code = Signal(signed(34)), Signal(signed(8))
        low, high, zero = Signal(signed(8)), Signal(signed(8)), Signal(signed(8))
        m.d.sync += offset_sum.eq(scale.o + Mux(sums.offset, residual.offset.as_signed(), fields.offset.as_signed()))
        with m.If(sums.clamp):
            m.d.comb += [low.eq(residual.clamp_low), high.eq(residual.clamp_high)]
        with m.Else():
            m.d.comb += [low.eq(fields.clamp_low), high.eq(fields.clamp_high)]
        m.d.sync += code.eq(Mux(offset_sum < low, low, Mux(offset_sum > high, high, offset_sum)))
        m.d.comb += zero.eq(Mux(sums.zero, self.zero_point, residual.zero_point.as_signed()))
        m.d.sync += self.o.eq(code - zero)

        # Residual operands share a small multiplier: the stored one at cycle 13, the layer's own at cycle 14.
        m.submodules.operands = operands = Requantizer(width=9, lift=ADD_LEFT_SHIFT)
        own = Signal(signed(9))
        m.d.sync += own.eq(self.o)
        m.d.comb += operands.scale.double.eq(1)
        with m.If(sums.operand):
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
        return m
