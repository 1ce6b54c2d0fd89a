"""Scales integers by a fixed-point factor, as :func:`hw.numerics.requantize`, one a cycle."""

from amaranth import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Requantizer", "ScaleFields"]

#: Bits of one slice of a wide operand: a signed 18-bit multiplier takes 17 unsigned bits, 16 make both slices alike.
_SLICE = 16
#: Bits of the factor that a device multiplier takes for a narrow operand; what remains is multiplied in logic.
_NARROW_SLICE = 17
#: Bits of the operand whose products are added in one cycle there.
_DIGIT = 4


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

        # Cycles 1 to 3: the whole product.
        product = Signal(signed(64))
        if width > _SLICE:
            self._wide_product(m, product)
        else:
            self._narrow_product(m, product)

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

    def _wide_product(self, m, product):
        """Four device multipliers."""
        value_low, value_high = self.value[:_SLICE], self.value[_SLICE:].as_signed()
        multiplier_low, multiplier_high = self.scale.multiplier[:_SLICE], self.scale.multiplier[_SLICE:]
        low_low, low_high = Signal(unsigned(32)), Signal(unsigned(31))
        high_low, high_high = Signal(signed(33)), Signal(signed(32))
        middle, outer = Signal(signed(34)), Signal(signed(64))
        m.d.sync += [
            # Cycle 1: products of slices.
            low_low.eq(value_low * multiplier_low),
            low_high.eq(value_low * multiplier_high),
            high_low.eq(value_high * multiplier_low),
            high_high.eq(value_high * multiplier_high),
            # Cycle 2: slices of equal weight together. Cycle 3: all.
            middle.eq(high_low + low_high),
            outer.eq(Cat(low_low, high_high).as_signed()),
            product.eq(outer + (middle << _SLICE)),
        ]

    def _narrow_product(self, m, product):
        """One device multiplier; the factor's upper bits in logic, because multipliers are what a device has few of."""
        multiplier_low, multiplier_high = self.scale.multiplier[:_NARROW_SLICE], self.scale.multiplier[_NARROW_SLICE:]
        low, low_2, high = Signal(signed(34)), Signal(signed(34)), Signal(signed(31))
        digits = []
        for first in range(0, self._width, _DIGIT):
            bits = range(first, min(first + _DIGIT, self._width))
            terms = [Mux(self.value[bit], multiplier_high << (bit - first), 0) for bit in bits]
            if bits[-1] == self._width - 1:
                terms[-1] = -terms[-1]  # the sign bit's weight
            digit = Signal(signed(len(multiplier_high) + _DIGIT + 1), name=f"digit_{first}")
            m.d.sync += digit.eq(_sum(terms))
            digits.append(digit << first)
        m.d.sync += [
            # Cycle 1: products. Cycle 2: digits together. Cycle 3: all.
            low.eq(self.value * multiplier_low),
            low_2.eq(low),
            high.eq(_sum(digits)),
            product.eq(low_2 + (high << _NARROW_SLICE)),
        ]


def _sum(terms):
    """Their sum, as a balanced tree."""
    while len(terms) > 1:
        terms = [low + high for low, high in zip(terms[::2], terms[1::2], strict=False)] + terms[len(terms) & ~1 :]
    return terms[0]
