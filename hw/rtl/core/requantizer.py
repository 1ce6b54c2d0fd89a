"""Scales integers by a fixed-point factor, as :func:`hw.numerics.requantize`, one a cycle.

::

    value, factor ──► product ──► 31 fraction bits go ──► shift by 0, 8, 16, 24 ──► by 0 to 7 ──► o, and up: add one
"""

from amaranth import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.structs import FixedPoint

__all__ = ["Requantizer", "ScaleFields"]

#: Bits of the factor's fraction.
_FACTOR = FixedPoint.as_shape()["multiplier"].width
#: Bits of one slice of a wide operand: a signed 18-bit multiplier takes the sum of two.
_SLICE = 16
#: Bits of one slice of the factor of a narrow operand.
_NARROW_SLICE = 17
#: Bits that the last shifter shifts by less than.
_FINE = 8


class ScaleFields(data.Struct):
    """A fixed-point factor and its rounding."""

    factor: FixedPoint
    double: 1


class Requantizer(wiring.Component):
    """``value * 2**lift * multiplier * 2**(-31 - shift)``, rounded once or twice.

    Parameters
    ----------
    width : int
        Bits of the signed operand, at most 32.
    lift : int
        Constant left shift of the operand (the ADD kernel's 20 bits); ``width + lift`` is at most 32.
    bits : int, optional
        Bits of ``o``; by default ``width + lift``, which every result fits.

    Members
    -------
    value : In(signed(width)), scale : In(ScaleFields)
        Operands of this cycle.
    o : Out(signed(bits)), up : Out(1)
        The result is ``o + up``: what adds something to it adds ``up`` on the way. Where the result lies beyond its
        bits, ``o`` is the least or the largest number of them.

    Latency: :meth:`latency`. Throughput: one value per cycle. Takes no back-pressure. Reset: none needed.
    """

    def __init__(self, *, width: int, lift: int = 0, bits: int | None = None):
        if not 1 <= width + lift <= 32:
            raise ValueError(f"width + lift must be from 1 to 32, not {width} + {lift}")
        bits = width + lift if bits is None else bits
        if not 2 <= bits <= width + lift:
            raise ValueError(f"bits must be from 2 to width + lift, {width + lift}, not {bits}")
        self._width = width
        self._lift = lift
        self._bits = bits
        super().__init__({"value": In(signed(width)), "scale": In(ScaleFields), "o": Out(signed(bits)), "up": Out(1)})

    @staticmethod
    def latency(width: int) -> int:
        """Cycles from operands of this width to the result."""
        return _product_cycles(width) + 3

    def elaborate(self, platform):
        m = Module()
        width, cycles = self._width, _product_cycles(self._width)

        def travel(name, first, cycles):
            """The signal, and its copies of the following cycles."""
            copies = [first]
            for cycle in range(cycles):
                copies.append(Signal.like(first, name=f"{name}_{cycle + 1}", reset_less=True))
                m.d.sync += copies[-1].eq(copies[-2])
            return copies

        shift = travel("shift", self.scale.factor.shift, cycles + 2)
        double = travel("double", self.scale.double, cycles + 1)
        product = Signal(signed(width + _FACTOR), reset_less=True)
        if width > _SLICE:
            self._wide_product(m, product)
        else:
            self._narrow_product(m, product)

        # 31 fraction bits go; rounded if the rule rounds here. A factor is below one, so the value gets no longer.
        fraction = _FACTOR - self._lift
        high = Signal(signed(width + self._lift), reset_less=True)
        m.d.sync += high.eq((product >> fraction) + (product[fraction - 1] & (double[cycles] | (shift[cycles] == 0))))

        # Bit 0 is the one that decides about rounding up, and those below it do where halves go away from zero.
        number = Cat(Const(0, 1), high)
        signs = high[-1].replicate(len(number))
        kept = min(self._bits + _FINE, len(number))
        coarse_shift, fine_shift = shift[cycles + 1][3:], shift[cycles + 2][:3]
        coarse = Signal(signed(kept), reset_less=True)
        sign, beyond, odd = Signal(reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        starts = range(0, _FINE * (1 << len(coarse_shift)), _FINE)
        m.d.sync += [
            coarse.eq(number.as_signed() >> (coarse_shift << 3)),
            sign.eq(high[-1]),
            beyond.eq(_chosen([_any((number ^ signs)[kept + start :]) for start in starts], coarse_shift)),
            odd.eq(
                ~(double[cycles + 1] & high[-1]) | _chosen([_any(number[:start]) for start in starts], coarse_shift)
            ),
        ]
        fine, over = Signal(signed(kept)), Signal()
        m.d.comb += [
            fine.eq(coarse >> fine_shift),
            over.eq(beyond | ((coarse[self._bits :] ^ sign.replicate(kept - self._bits)) >> fine_shift).any()),
        ]
        least_or_most = Cat((~sign).replicate(self._bits - 1), sign)
        m.d.sync += [
            self.o.eq(Mux(over, least_or_most, fine[1 : self._bits + 1])),
            self.up.eq(fine[0] & (odd | (coarse[: _FINE - 1] & ~(Const(-1, signed(_FINE)) << fine_shift)).any())),
        ]
        return m

    def _wide_product(self, m, product):
        """Three device multipliers: the products across are what that of the sums holds beside the other two."""
        value_low, value_high = self.value[:_SLICE], self.value[_SLICE:].as_signed()
        factor_low, factor_high = self.scale.factor.multiplier[:_SLICE], self.scale.factor.multiplier[_SLICE:]
        low = Signal(unsigned(2 * _SLICE), reset_less=True)
        high = Signal(signed(self._width - _SLICE + _FACTOR - _SLICE), reset_less=True)
        value, factor = Signal(signed(_SLICE + 2), reset_less=True), Signal(unsigned(_SLICE + 1), reset_less=True)
        sums, others = Signal(signed(2 * _SLICE + 3), reset_less=True), Signal((low + high).shape(), reset_less=True)
        across = Signal(signed(2 * _SLICE + 2), reset_less=True)
        outer = [Signal.like(product, name=f"outer_{cycle}", reset_less=True) for cycle in (2, 3)]
        m.d.sync += [
            # Cycle 1.
            low.eq(value_low * factor_low),
            high.eq(value_high * factor_high),
            value.eq(value_low + value_high),
            factor.eq(factor_low + factor_high),
            # Cycle 2.
            sums.eq(value * factor),
            others.eq(low + high),
            outer[0].eq(Cat(low, high).as_signed()),
            # Cycles 3 and 4.
            across.eq(sums - others),
            outer[1].eq(outer[0]),
            product.eq(outer[1] + (across << _SLICE)),
        ]

    def _narrow_product(self, m, product):
        """Two device multipliers."""
        low = Signal(signed(self._width + _NARROW_SLICE), reset_less=True)
        high = Signal(signed(self._width + _FACTOR - _NARROW_SLICE), reset_less=True)
        m.d.sync += [
            low.eq(self.value * self.scale.factor.multiplier[:_NARROW_SLICE]),
            high.eq(self.value * self.scale.factor.multiplier[_NARROW_SLICE:]),
            product.eq(low + (high << _NARROW_SLICE)),
        ]


def _product_cycles(width):
    """Cycles from the operands to their product."""
    return 4 if width > _SLICE else 2


def _any(bits):
    """Whether one of the bits is set; there may be none."""
    return bits.any() if len(bits) else Const(0, 1)


def _chosen(values, index):
    """The value of an index, of two bits."""
    return Mux(index[1], Mux(index[0], values[3], values[2]), Mux(index[0], values[1], values[0]))
