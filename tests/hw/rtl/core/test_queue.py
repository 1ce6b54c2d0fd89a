from collections import deque

import pytest
from amaranth import signed

from hw.rtl.core.queue import Queue
from tests.hw.simulate import Bench, reused, simulate


def bench(rng, depth, writes, reads):
    """Writes and reads at random against a deque; every output of every cycle is compared."""
    dut = reused(Queue, signed(9), depth)
    seen = set()

    async def drive(ctx):
        held = deque()
        for _ in range(1500):
            value = rng.randrange(-256, 256)
            write = len(held) < depth and rng.random() < writes
            read = rng.random() < reads
            ctx.set(dut.i.payload, value)
            ctx.set(dut.i.valid, write)
            ctx.set(dut.o.ready, read)
            _, _, valid, payload, full, one_place = await ctx.tick().sample(
                dut.o.valid, dut.o.payload, dut.full, dut.one_place
            )
            assert valid == bool(held)
            assert (full, one_place) == (len(held) == depth, len(held) == depth - 1)
            if held:
                assert payload == held[0]
            seen.add((len(held), write, bool(read and held)))
            if read and held:
                held.popleft()
            if write:
                held.append(value)

    def check():
        if writes == reads < 1:
            assert {count for count, _, _ in seen} == set(range(depth + 1))

    return Bench(dut=dut, testbenches=[drive], check=check)


@pytest.mark.parametrize("depth", [2, 4, 16])
@pytest.mark.parametrize(("writes", "reads"), [(0.5, 0.5), (0.9, 0.4), (0.4, 0.9), (1.0, 1.0)])
def test_a_queue_is_a_queue(tmp_path, depth, writes, reads):
    simulate(lambda rng: bench(rng, depth, writes, reads), seed=depth, folder=tmp_path)


@pytest.mark.parametrize("depth", [0, 1, 3, 12])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=f"depth must be a power of two from 2, not {depth}"):
        Queue(4, depth)
