import pytest

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.isa import NUMBERS
from hw.rtl.core.packer import Packer
from tests.hw.simulate import Bench, always, reused, seldom, simulate


def random_target(rng):
    words = rng.choice((1, 2, rng.randint(3, 10)))
    return {
        "first": rng.randrange(60_000),
        "row_pitch": rng.randrange(4096),
        "column_pitch": words + rng.choice((0, 1, rng.randrange(2, 4000))),
        "columns": rng.choice((1, 2, rng.randint(3, 255))),
        "words": words,
        "zero_point": rng.randint(-128, 127),
        "everywhere": rng.randrange(2),
    }


def expected(target, steps):
    """(number of the word's last step, index, values) of every complete word."""
    values = [value for step in steps for value in step]
    lanes = len(steps[0])
    for number in range(len(values) // WORD_CHANNELS):
        position, word = divmod(number, target["words"])
        last = (number + 1) * WORD_CHANNELS // lanes - 1
        row, column = divmod(position, target["columns"])
        index = (target["first"] + row * target["row_pitch"] + column * target["column_pitch"] + word) % NUMBERS
        yield last, index, values[number * WORD_CHANNELS : (number + 1) * WORD_CHANNELS]


def bench(rng, lanes, gaps):
    """Several maps, one after the other; also one that is left unfinished, for ``start`` sets everything."""
    dut = reused(Packer, AcceleratorConfig(lanes=lanes))
    maps = []
    for complete in (True, False, True, True):
        target = random_target(rng)
        count = target["words"] * rng.randint(1, 5) * WORD_CHANNELS // lanes
        count -= 0 if complete else rng.randint(1, WORD_CHANNELS // lanes - 1)
        maps.append((target, [[rng.randrange(-255, 256) for _ in range(lanes)] for _ in range(count)]))

    async def drive(ctx):
        for target, steps in maps:
            go = seldom(rng, 0.6) if gaps else always()
            ctx.set(dut.target, target)
            ctx.set(dut.i.valid, 0)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            sent, found = 0, []
            before = []  # steps that had entered before each of the last cycles
            while not before or before[-Packer.LATENCY] < len(steps):
                valid = sent < len(steps) and next(go)
                before.append(sent)
                ctx.set(dut.i.valid, valid)
                ctx.set(dut.i.payload, steps[sent] if valid else [rng.randrange(-255, 256) for _ in range(lanes)])
                _, _, word, has_word = await ctx.tick().sample(dut.o.payload, dut.o.valid)
                if has_word:
                    values = [word.values[channel] for channel in range(WORD_CHANNELS)]
                    found.append((before[-Packer.LATENCY] - 1, word.index, values))
                sent += valid
            assert found == list(expected(target, steps))

    return Bench(dut=dut, testbenches=[drive])


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("seed", range(1, 4))
def test_words_one_cycle_behind_their_last_channels(tmp_path, seed, gaps, lanes):
    simulate(lambda rng: bench(rng, lanes, gaps), seed=seed, folder=tmp_path)
