"""Adder trees, with and without registers on the way, and products with constants as sums of shifts."""

from amaranth import Signal

__all__ = ["constant_multiple", "pipelined_sum", "popcount"]


def pipelined_sum(m, name, values):
    """Sum of values as a balanced tree with a register behind each level."""
    terms = list(values)
    level = 0
    while len(terms) > 1:
        sums = []
        for number, (a, b) in enumerate(zip(terms[::2], terms[1::2], strict=True)):
            total = Signal((a + b).shape(), name=f"{name}_{level}_{number}")
            m.d.sync += total.eq(a + b)
            sums.append(total)
        terms, level = sums, level + 1
    return terms[0]


def popcount(bits):
    """Number of set bits, as a balanced tree."""
    terms = list(bits)
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
    return terms[0]


def constant_multiple(value, factor: int):
    """A value times a positive constant, without a multiplier: on an FPGA that may be far away."""
    return sum(value << bit for bit in range(factor.bit_length()) if factor >> bit & 1)
