import pytest

from hw.rtl.core.wrapping_counter import WrappingCounter
from tests.hw.simulate import Bench, reused, simulate


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_counts_up_to_the_last_and_again(tmp_path, seed):
    def build(rng):
        dut = reused(WrappingCounter, 5)

        async def drive(ctx):
            for _ in range(30):
                count = rng.choice((1, 2, 3, rng.randint(4, 31)))
                ctx.set(dut.count, count)
                # Whatever it was doing.
                ctx.set(dut.advance, rng.random() < 0.5)
                ctx.set(dut.start, 1)
                await ctx.tick()
                ctx.set(dut.start, 0)
                expected = 0
                for _ in range(rng.randint(1, 80)):
                    advance = rng.random() < 0.7
                    ctx.set(dut.advance, advance)
                    assert (ctx.get(dut.value), ctx.get(dut.last)) == (expected, expected == count - 1)
                    expected = (expected + advance) % count
                    await ctx.tick()

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=seed, folder=tmp_path)
