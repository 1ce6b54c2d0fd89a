from random import Random

import pytest

from hw.config import WORD_CHANNELS
from hw.rtl.control.image_packer import ImagePacker
from tests.hw.simulate import Bench, reused, simulate


def words_of_image(codes, channels, zero_point):
    """The words that an image must become."""
    words = []
    for first in range(0, len(codes), channels):
        values = [code - zero_point for code in codes[first : first + channels]]
        values += [0] * (-channels % WORD_CHANNELS)
        words += [values[n : n + WORD_CHANNELS] for n in range(0, len(values), WORD_CHANNELS)]
    return list(enumerate(words))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_images_become_words_filled_with_zeros(tmp_path, seed, share):
    def build(rng: Random) -> Bench:
        dut = reused(ImagePacker)
        found, wanted = [], []

        async def drive(ctx):
            for channels in (1, 3, 7, 8, 9, 16, rng.randint(17, 40)):
                zero_point = rng.choice((-128, 127, 0, rng.randrange(-128, 128)))
                codes = [rng.choice((-128, 127, zero_point, rng.randrange(-128, 128))) for _ in range(5 * channels)]
                # Begun and given up, as when a run ends early: nothing of it is left.
                for begun in (codes[: rng.randrange(1, channels + 1)], codes):
                    ctx.set(dut.channels, channels)
                    ctx.set(dut.zero_point, zero_point)
                    ctx.set(dut.start, 1)
                    await ctx.tick()
                    ctx.set(dut.start, 0)
                    found.clear()
                    for code in begun:
                        while rng.random() >= share:
                            await ctx.tick()
                        ctx.set(dut.i.valid, 1)
                        ctx.set(dut.i.payload, code)
                        await ctx.tick()
                        ctx.set(dut.i.valid, 0)
                    await ctx.tick().repeat(3)
                wanted[:] = words_of_image(codes, channels, zero_point)
                assert found == wanted

        async def watch(ctx):
            while True:
                _, _, valid, word = await ctx.tick().sample(dut.o.valid, dut.o.payload)
                if valid:
                    found.append((word.index, list(word.values)))

        return Bench(dut=dut, testbenches=[drive], background=[watch])

    simulate(build, seed=seed, folder=tmp_path)
