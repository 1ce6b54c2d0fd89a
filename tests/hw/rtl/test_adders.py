import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from hw.rtl.adders import constant_multiple


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
