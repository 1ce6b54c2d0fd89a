"""Turns one accumulator after the other into activations: bias, scale, clamp, residual add, scale, clamp.

::

    cycle  0 taken   3 biased   10 scaled   11 offset   12 clamped   13 activation ─► out
                                                                     │ residual layers:
                                                                     ▼
                    out ◄─ 32 activation   31 clamped   30 offset   29 scaled   22 sum   20 both operands scaled

Without ``fast_sums`` the sum shares the large multiplier with the accumulators, and the two operands share a small one.
Accumulators of residual layers are then taken in every second cycle only, so the two uses fall into different cycles.
:mod:`hw.rtl.core.lanes` says which is which.
"""

from typing import NamedTuple

from amaranth import Cat, Module, Mux, Signal, ValueLike, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.numerics import ADD_LEFT_SHIFT, BIASED_BITS
from hw.rtl.core.requantizer import Requantizer, ScaleFields
from hw.rtl.records import ChannelParameters
from hw.rtl.structs import LaneDescription, Residual

__all__ = ["Lane", "ResidualStages"]

#: Bits of what is scaled: residual operands, and their sum.
_OPERAND_WIDTH = 9
_SUM_WIDTH = _OPERAND_WIDTH + ADD_LEFT_SHIFT + 1
#: Bits of a scaled value that matter: what lies beyond them is clamped, whatever the offset.
_SCALED_BITS = 10


class ResidualStages(data.Struct):
    """What shared multipliers take in this cycle."""

    own: 1  # the layer's own operand; else the stored one
    sum: 1  # a residual sum; else a biased accumulator


class _Use(NamedTuple):
    """Of a multiplier, in the cycle before it."""

    value: ValueLike
    factor: ValueLike
    double: ValueLike


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
    cycle; without ``fast_sums`` one per two cycles in residual layers. Takes no back-pressure. Reset: none needed.
    """

    _BIASED = 3
    #: Cycles from an accumulator to its logit.
    RAW_LATENCY = _BIASED
    #: Cycles from an accumulator to its scaled value, and then to its activation.
    SCALED = _BIASED + Requantizer.latency(BIASED_BITS)
    LATENCY = SCALED + 3
    #: Cycles from an accumulator to its sum with the residual, to that scaled, and then to its activation.
    SUM = LATENCY + 2 + Requantizer.latency(_OPERAND_WIDTH) + 2
    SUM_SCALED = SUM + Requantizer.latency(_SUM_WIDTH)
    RESIDUAL_LATENCY = SUM_SCALED + 3

    def __init__(self, config: AcceleratorConfig):
        self._fast_sums = bool(config.fast_sums)
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
        residual, width = self.residual, _OPERAND_WIDTH
        own, summed = (Signal(signed(width), name=name, reset_less=True) for name in ("own", "summed"))
        biased = self._biased(m)
        # The stored operand comes in cycle 13, the layer's own a cycle later.
        waiting = Signal.like(own, reset_less=True)
        m.d.sync += waiting.eq(own)
        uses = _Use(self.operand, residual.second, 1), _Use(waiting, residual.first, 1)
        operands = self._requantizers(m, "operand", uses, self.stages.own, width=width, lift=ADD_LEFT_SHIFT)
        total = _Use(self._total(m, *operands), residual.output, 1)
        scale, sum_scale = self._requantizers(
            m, "scale", (biased, total), self.stages.sum, width=BIASED_BITS, bits=_SCALED_BITS
        )
        m.d.comb += self.logit.eq(scale.value)
        code = self._clamp(m, scale, self.fields, "own")
        sum_code = self._clamp(m, sum_scale, residual, "sum")
        m.d.sync += [
            own.eq(code - Mux(residual.enable, residual.zero_point, self.zero_point)),
            summed.eq(sum_code - self.zero_point),
        ]
        m.d.comb += self.o.eq(Mux(residual.enable, summed, own))
        return m

    def _biased(self, m):
        """Cycles 1 and 2: channel memories and their registers. Behind them the bias, for the multiplier in cycle 3."""
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
        return _Use(accumulator_2 + parameters.bias, parameters.scale, self.fields.double)

    def _requantizers(self, m, name, uses, second, **sizes):
        """For two uses a requantizer each, or one that the ``second`` use has in cycles in which the first hasn't."""
        made, inputs = [], []
        for number in range(2 if self._fast_sums else 1):
            value = Signal(signed(sizes["width"]), name=f"{name}_value_{number}", reset_less=True)
            fields = Signal(ScaleFields, name=f"{name}_fields_{number}", init={"double": 1}, reset_less=True)
            m.submodules[f"{name}_{number}"] = each = Requantizer(**sizes)
            m.d.comb += [each.value.eq(value), each.scale.eq(fields)]
            made.append(each)
            inputs.append((value, fields))

        def take(use, value, fields):
            m.d.sync += [value.eq(use.value), fields.factor.eq(use.factor), fields.double.eq(use.double)]

        take(uses[0], *inputs[0])
        with m.If(second if not self._fast_sums else 1):
            take(uses[1], *inputs[-1])
        return made[0], made[-1]

    def _clamp(self, m, scale, fields, name):
        """Offset, and in the next cycle the clamp of a layer or of its residual sum; returns the code."""
        offset_sum = Signal(signed(_SCALED_BITS + 1), name=f"{name}_offset_sum", reset_less=True)
        code = Signal(signed(8), name=f"{name}_code", reset_less=True)
        low, high = fields.clamp_low, fields.clamp_high
        m.d.sync += [
            offset_sum.eq(_sum_up(scale.o, fields.offset, scale.up)),
            code.eq(Mux(offset_sum < low, low, Mux(offset_sum > high, high, offset_sum))),
        ]
        return code

    def _total(self, m, stored, own):
        """The sum of both scaled operands, for the multiplier in cycle :attr:`SUM`.

        Each rounds up by one or not: the stored one while it waits for the other.
        """
        scaled, total = (Signal(signed(_SUM_WIDTH), name=name, reset_less=True) for name in ("scaled", "total"))
        m.d.sync += [scaled.eq(stored.o + stored.up), total.eq(_sum_up(scaled, own.o, own.up))]
        return total


def _sum_up(a, b, up):
    """``a + b + up`` with the last as the carry into the sum."""
    return (Cat(up, a).as_signed() + Cat(up, b).as_signed()) >> 1
