import pytest

from hw.rtl.core.address_generator import AddressGenerator
from tests.hw.simulate import Bench, always, reused, seldom, simulate


def expected(first, pitches, columns, words, rows, bits):
    """(address, column, whether it is the row's last) of every word."""
    for row in range(rows):
        for column in range(columns):
            for word in range(words):
                address = first + row * pitches[0] + column * pitches[1] + word
                yield address % (1 << bits), column, column == columns - 1


def bench(rng, bits, gaps):
    """Several maps, one after the other; also one that is left unfinished, for ``start`` sets everything."""
    dut = reused(AddressGenerator, bits)

    async def drive(ctx):
        for complete in (True, False, True, True):
            go = seldom(rng, 0.6) if gaps else always()
            first, pitches = rng.randrange(1 << bits), (rng.randrange(4096), rng.randrange(4096))
            columns, words = rng.choice((1, 2, rng.randint(3, 255))), rng.choice((1, rng.randint(2, 5)))
            row_pitch, column_pitch = pitches
            strides = {"base": first, "row_pitch": row_pitch, "column_pitch": column_pitch, "columns": columns}
            ctx.set(dut.strides, strides)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            wanted = list(expected(first, pitches, columns, words, 3, bits))
            for number, (address, column, last_column) in enumerate(wanted if complete else wanted[: len(wanted) // 2]):
                while True:
                    assert ctx.get(dut.address) == address
                    assert (ctx.get(dut.column), ctx.get(dut.last_column)) == (column, last_column)
                    # Whether it is a position's last counts only where the address moves on.
                    advance = next(go)
                    ctx.set(dut.advance, advance)
                    ctx.set(dut.last, number % words == words - 1 if advance else rng.randrange(2))
                    await ctx.tick()
                    if advance:
                        break
            ctx.set(dut.advance, 0)

    return Bench(dut=dut, testbenches=[drive])


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("seed", range(3))
def test_visits_every_word_of_every_position_of_every_row(seed, bits, gaps, tmp_path):
    simulate(lambda rng: bench(rng, bits, gaps), seed=seed, folder=tmp_path)
