import pytest

from hw.config import MASK_CHANNELS
from hw.writer import Writer
from tests.hw.simulate import Bench, always, seldom, simulate


def random_target(rng):
    channels = rng.choice((1, rng.randint(2, 31), 32, 33, 64, rng.randint(34, 70)))
    return {
        "bank": rng.randrange(2),
        "base": rng.randrange(3000),
        "pitch": channels + rng.choice((0, rng.randrange(1, 40))),
        "channels": channels,
        "mask_base": rng.randrange(500),
        "mask_pitch": -(-channels // MASK_CHANNELS) + rng.choice((0, 1, 2)),
        "zero_point": rng.randrange(256),
    }


def activation_writes(target, values):
    """(input number, bank, address, value)."""
    for index, value in enumerate(values):
        position, channel = divmod(index, target["channels"])
        yield index, target["bank"], target["base"] + position * target["pitch"] + channel, value


def mask_writes(target, values):
    """(input number of the word's last channel, bank, address, mask)."""
    channels = target["channels"]
    for first in range(0, len(values), channels):
        for word in range(-(-channels // MASK_CHANNELS)):
            low, high = word * MASK_CHANNELS, min(channels, (word + 1) * MASK_CHANNELS)
            mask = sum((values[first + channel] != 0) << (channel - low) for channel in range(low, high))
            position = first // channels
            yield first + high - 1, target["bank"], target["mask_base"] + position * target["mask_pitch"] + word, mask


def bench(rng, gaps):
    """Several maps, one after the other; also one that is left unfinished, for ``start`` sets everything."""
    dut = Writer()
    maps = []
    for complete in (True, False, True, True):
        target = random_target(rng)
        count = target["channels"] * rng.randint(1, 5) - (0 if complete else rng.randrange(target["channels"]))
        zeros = rng.choice((0.0, 0.5, 1.0))
        maps.append((target, [0 if rng.random() < zeros else rng.randrange(-255, 256) for _ in range(count)]))

    async def drive(ctx):
        for target, values in maps:
            go = seldom(rng, 0.6) if gaps else always()
            ctx.set(dut.target, target)
            ctx.set(dut.i.valid, 0)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            sent, activations, masks = 0, [], []
            entered = None  # number of the value that entered in the cycle before
            while sent < len(values) or entered is not None:
                valid = sent < len(values) and next(go)
                ctx.set(dut.i.valid, valid)
                ctx.set(dut.i.payload, values[sent] if valid else rng.randrange(-255, 256))
                _, _, write, word, has_write, has_word = await ctx.tick().sample(
                    dut.activation.payload, dut.mask.payload, dut.activation.valid, dut.mask.valid
                )
                if has_write:
                    activations.append((entered, write.bank, write.address, write.value))
                if has_word:
                    masks.append((entered, word.bank, word.address, word.mask))
                entered = sent if valid else None
                sent += valid
            assert activations == list(activation_writes(target, values))
            last = [write for write in mask_writes(target, [*values, *[0] * (-len(values) % target["channels"])])]
            assert masks == [write for write in last if write[0] < len(values)]

    return Bench(dut=dut, testbenches=[drive])


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("seed", range(1, 4))
def test_addresses_and_masks_one_cycle_behind(tmp_path, seed, gaps):
    simulate(lambda rng: bench(rng, gaps), seed=seed, folder=tmp_path)
