import pytest

from hw.config import BANKS, WORD_CHANNELS, AcceleratorConfig
from hw.rtl.core.activations import ActivationMemory
from tests.hw.simulate import Bench, reused, simulate

CONFIG = AcceleratorConfig(pes=2, activation_words=64)
WORDS = CONFIG.activation_words


def random_values(rng):
    return [rng.randrange(-255, 256) for _ in range(WORD_CHANNELS)]


async def write(ctx, dut, index, values, of_image=0):
    ctx.set(dut.write.valid, 1)
    ctx.set(dut.write.payload, {"of_image": of_image, "word": {"index": index, "values": values}})
    await ctx.tick()
    ctx.set(dut.write.valid, 0)


async def fill(ctx, dut, contents):
    """Write both banks, a word a cycle."""
    for bank, words in enumerate(contents):
        ctx.set(dut.window, {"bank": bank, "base": 0, "low": 0, "count": WORDS})
        for index, values in enumerate(words):
            await write(ctx, dut, index, values)
        await ctx.tick().repeat(dut.LATENCY)


async def read(ctx, dut, bank, address):
    """A word, by itself."""
    ctx.set(dut.bank, bank)
    ctx.set(dut.address, address)
    await ctx.tick().repeat(2)
    return list(ctx.get(dut.word))


def test_a_second_bank_may_be_smaller(tmp_path):
    sizes = (64, 32)

    def build(rng):
        dut = reused(ActivationMemory, CONFIG.replace(second_bank_words=sizes[1]))

        async def drive(ctx):
            contents = [[random_values(rng) for _ in range(size)] for size in sizes]
            await fill(ctx, dut, contents)
            for bank, words in enumerate(contents):
                assert [await read(ctx, dut, bank, place) for place in range(len(words))] == words

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("bank", range(BANKS))
@pytest.mark.parametrize("seed", [1, 2])
def test_reads_and_writes_of_both_banks(tmp_path, seed, bank):
    """Both banks are read every cycle; writes hit one of them."""

    def build(rng):
        dut = reused(ActivationMemory, CONFIG)
        contents = [[random_values(rng) for _ in range(WORDS)] for _ in range(BANKS)]

        async def drive(ctx):
            await fill(ctx, dut, contents)
            target = rng.randrange(BANKS)
            ctx.set(dut.bank, bank)
            ctx.set(dut.window, {"bank": target, "base": 0, "low": 0, "count": WORDS})
            word, other, pending = [], [], []
            for _ in range(400):
                # Nobody reads where a word is on its way.
                places = [place for place in range(WORDS) if place not in [place for place, _ in pending]]
                address, other_address = rng.choice(places), rng.choice(places)
                place, values = rng.randrange(WORDS), random_values(rng)
                valid = rng.random() < 0.7
                ctx.set(dut.address, address)
                ctx.set(dut.other_address, other_address)
                ctx.set(dut.write.valid, valid)
                ctx.set(dut.write.payload.word, {"index": place, "values": values})
                if len(word) >= 2:
                    assert [list(ctx.get(port)) for port in (dut.word, dut.other)] == [word[-2], other[-2]]
                await ctx.tick()
                word.append(contents[bank][address])
                other.append(contents[1 - bank][other_address])
                pending.append((place, values) if valid else (None, None))
                if len(pending) == dut.LATENCY:
                    done, written = pending.pop(0)
                    if done is not None:
                        contents[target][done] = written

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_only_words_of_the_window_are_kept(tmp_path, seed):
    def build(rng):
        dut = reused(ActivationMemory, CONFIG)

        async def drive(ctx):
            blank = [[random_values(rng) for _ in range(WORDS)] for _ in range(BANKS)]
            await fill(ctx, dut, blank)
            contents = [list(words) for words in blank]
            for _ in range(6):
                count = rng.choice((0, 1, rng.randint(2, WORDS)))
                window = {
                    "bank": rng.randrange(BANKS),
                    "base": rng.randint(0, WORDS - count),
                    "low": rng.choice((0, rng.randrange(3, 300), rng.randrange(1000, 60_000))),
                    "count": count,
                }
                # An image's words find their own window, whatever the other one is.
                of_image = rng.randrange(2)
                other = {"bank": rng.randrange(BANKS), "base": 0, "low": window["low"], "count": rng.randrange(WORDS)}
                ctx.set(dut.image_window, window if of_image else other)
                ctx.set(dut.window, other if of_image else window)
                low, high = window["low"], window["low"] + count
                inside = list(range(low, high))
                edges = [low - 1, high, high + 1, low + WORDS, low - WORDS, 0, (1 << 16) - 1, low + (1 << 12)]
                outside = [index for index in edges if 0 <= index < 1 << 16 and index not in inside]
                indices = inside + outside
                rng.shuffle(indices)
                for index in indices:
                    values = random_values(rng)
                    await write(ctx, dut, index, values, of_image)
                    if low <= index < high:
                        contents[window["bank"]][window["base"] + index - low] = values
                    if rng.random() < 0.2:
                        await ctx.tick()
                # The last word can be read LATENCY cycles after its write.
                await ctx.tick().repeat(dut.LATENCY - 1)
                places = list(range(WORDS))
                if inside and indices[-1] in inside:
                    places.insert(0, window["base"] + indices[-1] - low)
                assert [await read(ctx, dut, window["bank"], place) for place in places] == [
                    contents[window["bank"]][place] for place in places
                ]
                bank = 1 - window["bank"]
                assert [await read(ctx, dut, bank, place) for place in range(WORDS)] == contents[bank]

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=seed, folder=tmp_path)


def test_words_of_a_map_and_of_an_image_may_follow_each_other(tmp_path):
    """A word a cycle, each through the window of its kind."""

    def build(rng):
        dut = reused(ActivationMemory, CONFIG)

        async def drive(ctx):
            await fill(ctx, dut, [[random_values(rng) for _ in range(WORDS)] for _ in range(BANKS)])
            half = WORDS // 2
            for bank, image_bank in ((0, 0), (0, 1), (1, 0), (1, 1)):
                ctx.set(dut.window, {"bank": bank, "base": 0, "low": 100, "count": half})
                ctx.set(dut.image_window, {"bank": image_bank, "base": half, "low": 110, "count": half})
                kept = {}
                for _ in range(200):
                    index, values, of_image = rng.randrange(90, 160), random_values(rng), rng.randrange(2)
                    await write(ctx, dut, index, values, of_image)
                    low, base = (110, half) if of_image else (100, 0)
                    if low <= index < low + half:
                        kept[image_bank if of_image else bank, base + index - low] = values
                await ctx.tick().repeat(dut.LATENCY)
                assert len(kept) > half
                for (where, place), word in kept.items():
                    assert await read(ctx, dut, where, place) == word

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)
