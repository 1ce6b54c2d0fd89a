import pytest

from hw.activations import ActivationMemory
from hw.config import BANKS, MASK_CHANNELS, AcceleratorConfig
from tests.hw.simulate import Bench, simulate

CONFIG = AcceleratorConfig(pes=2, activation_bytes=256, mask_words=32)


async def fill(ctx, dut, values, masks):
    """Write both memories of both banks, one word of each a cycle."""
    ctx.set(dut.activation.valid, 1)
    for bank, contents in enumerate(values):
        for address, value in enumerate(contents):
            ctx.set(dut.activation.payload, {"bank": bank, "address": address, "value": value})
            ctx.set(dut.mask.valid, address < CONFIG.mask_words)
            if address < CONFIG.mask_words:
                ctx.set(dut.mask.payload, {"bank": bank, "address": address, "mask": masks[bank][address]})
            await ctx.tick()
    ctx.set(dut.activation.valid, 0)


@pytest.mark.parametrize("bank", range(BANKS))
@pytest.mark.parametrize("seed", [1, 2])
def test_reads_and_writes_of_both_banks(tmp_path, seed, bank):
    """The dispatcher's read stands still without ``advance``, the other bank's never does; writes hit one bank."""

    def build(rng):
        dut = ActivationMemory(CONFIG)
        values = [[rng.randrange(-255, 256) for _ in range(CONFIG.activation_bytes)] for _ in range(BANKS)]
        masks = [[rng.getrandbits(MASK_CHANNELS) for _ in range(CONFIG.mask_words)] for _ in range(BANKS)]

        async def drive(ctx):
            await fill(ctx, dut, values, masks)
            ctx.set(dut.bank, bank)
            mine, other, word, written = [], [], None, None
            for _ in range(400):
                advance, enable = rng.random() < 0.6, rng.random() < 0.6
                address, other_address = (rng.randrange(CONFIG.activation_bytes) for _ in range(2))
                mask_bank, mask_address = rng.randrange(BANKS), rng.randrange(CONFIG.mask_words)
                ctx.set(dut.address, address)
                ctx.set(dut.other_address, other_address)
                ctx.set(dut.advance, advance)
                ctx.set(dut.mask_bank, mask_bank)
                ctx.set(dut.mask_address, mask_address)
                ctx.set(dut.mask_enable, enable)
                # A write to either bank, where nobody reads in this cycle.
                target, place = rng.randrange(BANKS), rng.randrange(CONFIG.activation_bytes)
                free = place not in (address, other_address)
                ctx.set(dut.activation.valid, free)
                written = {"bank": target, "address": place, "value": rng.randrange(-255, 256)}
                ctx.set(dut.activation.payload, written)
                if len(mine) >= 2:
                    assert ctx.get(dut.value) == mine[-2]
                if len(other) >= 2:
                    assert ctx.get(dut.other) == other[-2]
                await ctx.tick()
                if advance:
                    mine.append(values[bank][address])
                other.append(values[1 - bank][other_address])
                if free:
                    values[target][place] = written["value"]
                word = [masks[number][mask_address] for number in range(BANKS)] if enable else word
                if word:
                    # The bank is chosen behind the memories.
                    assert ctx.get(dut.mask_word) == word[mask_bank]

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=seed, folder=tmp_path)
