from amaranth import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.core.nonzeros import reaches
from tests.hw.simulate import Bench, simulate


class Reaches(wiring.Component):
    value: In(signed(9))
    threshold: In(8)
    found: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.found.eq(reaches(self.value, (-self.threshold)[:8]))
        return m


def test_magnitudes_of_at_least_the_threshold_reach_it(tmp_path):
    def build(rng):
        dut = Reaches()
        usual = (1, 2, 63, 64, 65, 127, 128, 129, 254, 255)
        cases = {(value, threshold) for value in range(-255, 256) for threshold in usual}
        cases |= {(sign * n, n + more) for n in range(256) for sign in (-1, 1) for more in (0, 1) if 0 < n + more < 256}

        async def drive(ctx):
            for value, threshold in sorted(cases):
                ctx.set(dut.value, value)
                ctx.set(dut.threshold, threshold)
                await ctx.tick()
                assert ctx.get(dut.found) == (abs(value) >= threshold), (value, threshold)

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)
