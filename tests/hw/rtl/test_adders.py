import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from hw.rtl.adders import constant_multiple, popcount


@pytest.mark.parametrize("factor", [1, 2, 5, 12, 255])
def test_times_is_the_product_with_a_constant(factor):
    value, product = Signal(5), Signal(13)
    m = Module()
    m.d.comb += product.eq(constant_multiple(value, factor))

    async def bench(ctx):
        for number in range(32):
            ctx.set(value, number)
            await ctx.delay(1e-9)
            assert ctx.get(product) == number * factor

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_popcount_counts_the_set_bits(width):
    bits, count = Signal(width), Signal(4)
    m = Module()
    m.d.comb += count.eq(popcount(bits))

    async def bench(ctx):
        for value in range(1 << width):
            ctx.set(bits, value)
            await ctx.delay(1e-9)
            assert ctx.get(count) == value.bit_count()

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
