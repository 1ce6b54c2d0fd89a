"""Scales integers by a fixed-point factor, as :func:`hw.numerics.requantize`, one a cycle."""

from amaranth import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Requantizer", "ScaleFields"]

#: Bits of one multiplier operand slice: a signed 18-bit multiplier takes 17 unsigned bits, 16 leave room for a sign.
_SLICE = 16


class ScaleFields(data.Struct):
    """A fixed-point factor and its rounding."""

    multiplier: unsigned(31)
    shift: unsigned(5)
    double: unsigned(1)


class Requantizer(wiring.Component):
    """``value * 2**lift * multiplier * 2**(-31 - shift)``, rounded once or twice.

    Parameters
    ----------
    width : int
        Bits of the signed operand, at most 32.
    lift : int
        Constant left shift of the operand (the ADD kernel's 20 bits); ``width + lift`` is at most 32.

    Members
    -------
    value : In(signed(width)), scale : In(ScaleFields)
        Operands of this cycle.
    o : Out(signed(32))
        The result of :attr:`LATENCY` cycles ago.

    Throughput: one value per cycle. Takes no back-pressure. Reset: none needed.
    """

    LATENCY = 7

    def __init__(self, *, width: int, lift: int = 0):
        if not 1 <= width + lift <= 32:
            raise ValueError(f"width + lift must be from 1 to 32, not {width} + {lift}")
        self._width = width
        self._lift = lift
        super().__init__({"value": In(signed(width)), "scale": In(ScaleFields), "o": Out(signed(32))})

    def elaborate(self, platform):
        m = Module()
        width, lift = self._width, self._lift

        def travel(name, shape, first, cycles):
            """The signal, and its copies of the following cycles."""
            copies = [first]
            for cycle in range(cycles):
                copies.append(Signal(shape, name=f"{name}_{cycle + 1}"))
                m.d.sync += copies[-1].eq(copies[-2])
            return copies

        shift = travel("shift", 5, self.scale.shift, 6)
        double = travel("double", 1, self.scale.double, 4)

        # Cycle 1: products of 16-bit slices.
        multiplier_low = self.scale.multiplier[:_SLICE]
        multiplier_high = self.scale.multiplier[_SLICE:]
        wide = width > _SLICE
        value_high = (self.value[_SLICE:] if wide else self.value).as_signed()
        high_low = Signal(signed(33))
        high_high = Signal(signed(32))
        m.d.sync += [high_low.eq(value_high * multiplier_low), high_high.eq(value_high * multiplier_high)]

        # Cycle 2: slices of equal weight together; cycle 3: the whole product.
        product = Signal(signed(64))
        middle = Signal(signed(34))
        outer = Signal(signed(64))
        if wide:
            low_low, low_high = Signal(unsigned(32)), Signal(unsigned(31))
            value_low = self.value[:_SLICE]
            m.d.sync += [
                low_low.eq(value_low * multiplier_low),
                low_high.eq(value_low * multiplier_high),
                middle.eq(high_low + low_high),
                outer.eq(Cat(low_low, high_high).as_signed()),
            ]
            m.d.sync += product.eq(outer + (middle << _SLICE))
        else:
            m.d.sync += [middle.eq(high_low), outer.eq(high_high), product.eq(middle + (outer << _SLICE))]

        # Cycle 4: 31 fraction bits go; rounded if the rule rounds here.
        fraction = 31 - lift
        high = Signal(signed(34))
        half = Signal(32)
        m.d.sync += [
            high.eq((product >> fraction) + (product[fraction - 1] & (double[3] | (shift[3] == 0)))),
            half.eq((Const(1, 32) << shift[3])[1:33]),
        ]
        # Cycle 5: half of what the shift will drop; one less where halves go away from zero.
        rounded = Signal(signed(35))
        away = double[4] & (high < 0) & (shift[4] != 0)
        m.d.sync += rounded.eq(high + Mux(away, half.as_signed() - 1, Cat(half, 0).as_signed()))
        # Cycles 6 and 7: shift.
        coarse = Signal(signed(35))
        m.d.sync += [
            coarse.eq(rounded >> (shift[5] & 0b11000)),
            self.o.eq(coarse >> shift[6][:3]),
        ]
        return m
