"""Turns one accumulator after the other into activations: bias, scale, residual add, clamp.

::

    cycle  0 taken   3 biased   10 scaled   11 offset   12 clamped   13 activation ─► out
                          ▲                                          │ residual layers:
                          │                                          ▼
                     24 sum ◄─ 22 both operands scaled ◄─ 13 second, 14 first operand
                     then 31, 32, 33, 34 as above ─► out

A residual layer uses the same multipliers twice: accumulators are then taken in every second cycle only, so the two
uses fall into different cycles. :mod:`hw.rtl.core.lanes` says which is which.
"""

from itertools import pairwise

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.numerics import ADD_LEFT_SHIFT, BIASED_BITS
from hw.rtl.core.requantizer import Requantizer, ScaleFields
from hw.rtl.records import ChannelParameters
from hw.rtl.structs import LaneDescription, Residual

__all__ = ["Lane", "ResidualStages"]

#: Bits of what is scaled: biased accumulators and sums; residual operands.
_WIDTH, _OPERAND_WIDTH = BIASED_BITS, 9
#: Bits of a scaled value that matter: what lies beyond them is clamped, whatever the offset.
_SCALED_BITS = 10
#: Cycles that residual operands wait, so that sums come to the multipliers in the cycles between accumulators.
_WAIT = 2


class ResidualStages(data.Struct):
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
    fields : In(LaneDescription), residual : In(Residual), zero_point : In(signed 8)
        The layer, and the zero point its output is stored against.
    stages : In(ResidualStages)
    accumulator : In(signed)
        Cycle 0.
    parameters : In(ChannelParameters)
        Of its channel, in cycle 1.
    operand : In(signed 9)
        The residual operand, in cycle 13.
    logit : Out(signed)
        The biased accumulator, in cycle :attr:`RAW_LATENCY`.
    o : Out(signed 9)
        The activation, in cycle :attr:`LATENCY`, or :attr:`RESIDUAL_LATENCY` with the residual added.

    Latency: :attr:`RAW_LATENCY`, :attr:`LATENCY` or :attr:`RESIDUAL_LATENCY` cycles. Throughput: one accumulator per
    cycle, one per two cycles in residual layers. Takes no back-pressure. Reset: none needed.
    """

    _BIASED = 3
    #: Cycles from an accumulator to its logit.
    RAW_LATENCY = _BIASED
    #: Cycles from an accumulator to its scaled value, and then to its activation.
    SCALED = _BIASED + Requantizer.latency(_WIDTH)
    LATENCY = SCALED + 3
    #: Cycles from an accumulator to its sum with the residual, to that scaled, and then to its activation.
    SUM = LATENCY + 4 + _WAIT + Requantizer.latency(_OPERAND_WIDTH)
    SUM_SCALED = SUM + Requantizer.latency(_WIDTH)
    RESIDUAL_LATENCY = SUM_SCALED + 3

    def __init__(self, config: AcceleratorConfig):
        accumulator = signed(config.accumulator_bits)
        super().__init__(
            {
                "fields": In(LaneDescription),
                "residual": In(Residual),
                "zero_point": In(signed(8)),
                "stages": In(ResidualStages),
                "accumulator": In(accumulator),
                "parameters": In(ChannelParameters),
                "operand": In(signed(9)),
                "logit": Out(accumulator),
                "o": Out(signed(9)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        total = self._add_residual(m)
        scale = self._scale(m, total)
        code = self._clamp(m, scale)
        zero = Signal(signed(8))
        m.d.comb += zero.eq(Mux(self.stages.zero, self.zero_point, self.residual.zero_point))
        m.d.sync += self.o.eq(code - zero)
        return m

    def _scale(self, m, total):
        """Cycles 1 and 2: channel memories and their registers. Cycle 3: bias, or a residual sum. Then the multiplier.

        Returns
        -------
        Requantizer
            Its result is there in cycle :attr:`SCALED`, or :attr:`SUM_SCALED`.
        """
        fields, residual = self.fields, self.residual
        accumulator_1, accumulator_2, parameters = (
            Signal.like(port, name=name, reset_less=True)
            for name, port in {
                "accumulator_1": self.accumulator,
                "accumulator_2": self.accumulator,
                "parameters": self.parameters,
            }.items()
        )
        m.d.sync += [
            accumulator_1.eq(self.accumulator),
            accumulator_2.eq(accumulator_1),
            parameters.eq(self.parameters),
        ]
        m.submodules.scale = scale = Requantizer(width=_WIDTH, bits=_SCALED_BITS)
        value, scale_fields = Signal(signed(_WIDTH), reset_less=True), Signal(ScaleFields, reset_less=True)
        with m.If(self.stages.scale):
            m.d.sync += [
                value.eq(total),
                scale_fields.factor.eq(residual.output),
                scale_fields.double.eq(1),
            ]
        with m.Else():
            m.d.sync += [
                value.eq(accumulator_2 + parameters.bias),
                scale_fields.factor.eq(parameters.scale),
                scale_fields.double.eq(fields.double),
            ]
        m.d.comb += [scale.value.eq(value), scale.scale.eq(scale_fields), self.logit.eq(value)]
        return scale

    def _clamp(self, m, scale):
        """Cycles 11 and 12, of a sum 32 and 33: offset and clamp; returns the code."""
        fields, residual = self.fields, self.residual
        offset_sum, code = Signal(signed(_SCALED_BITS + 1), reset_less=True), Signal(signed(8), reset_less=True)
        low, high = Signal(signed(8)), Signal(signed(8))
        offset = Mux(self.stages.offset, residual.offset, fields.offset)
        m.d.sync += offset_sum.eq(_sum_up(scale.o, offset, scale.up))
        with m.If(self.stages.clamp):
            m.d.comb += [low.eq(residual.clamp_low), high.eq(residual.clamp_high)]
        with m.Else():
            m.d.comb += [low.eq(fields.clamp_low), high.eq(fields.clamp_high)]
        m.d.sync += code.eq(Mux(offset_sum < low, low, Mux(offset_sum > high, high, offset_sum)))
        return code

    def _add_residual(self, m):
        """Both operands share a small multiplier, the stored one at cycle 13, the layer's own at cycle 14.

        Returns
        -------
        Signal
            Their sum, in cycle :attr:`SUM`.
        """
        residual = self.residual
        m.submodules.operands = operands = Requantizer(width=_OPERAND_WIDTH, lift=ADD_LEFT_SHIFT)
        own = Signal(signed(_OPERAND_WIDTH), reset_less=True)
        waiting = [Signal.like(own, name=f"waiting_{cycle}", reset_less=True) for cycle in range(_WAIT)]
        stored = [self.stages.operand, *(Signal(name=f"stored_{cycle}", reset_less=True) for cycle in range(_WAIT))]
        m.d.sync += [own.eq(self.o), waiting[0].eq(Mux(self.stages.operand, self.operand, own))]
        m.d.sync += [after.eq(before) for chain in (waiting, stored) for before, after in pairwise(chain)]
        m.d.sync += [
            operands.value.eq(waiting[-1]),
            operands.scale.factor.eq(Mux(stored[-1], residual.second, residual.first)),
        ]
        m.d.comb += operands.scale.double.eq(1)
        scaled = Signal(signed(_OPERAND_WIDTH + ADD_LEFT_SHIFT), reset_less=True)
        total = Signal(signed(_OPERAND_WIDTH + ADD_LEFT_SHIFT + 1), reset_less=True)
        m.d.sync += [scaled.eq(operands.o + operands.up), total.eq(_sum_up(scaled, operands.o, operands.up))]
        return total


def _sum_up(a, b, up):
    """``a + b + up`` with the last as the carry into the sum."""
    return (Cat(up, a).as_signed() + Cat(up, b).as_signed()) >> 1
