"""Masks, limits and thresholds of winners, word after word, against what a selection leaves to be multiplied."""

import pytest

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.isa import MAX_MASKS, SelectUse
from hw.rtl.core.winner_masks import WinnerMasks
from hw.rtl.records import OrderKind
from tests.hw.simulate import Bench, reused, simulate

CONFIG = AcceleratorConfig(selector=2)
#: Words that are asked about with each description of a layer, one a cycle.
WORDS = 60


def multiplied(lookup: tuple[int, int, int]) -> list[set[int]]:
    """Magnitudes that are multiplied in each channel of a word, as the dispatcher has it from ``lookup``."""
    winners, complement, other = lookup
    bounds = [complement if winners >> channel & 1 else other for channel in range(WORD_CHANNELS)]
    return [{magnitude for magnitude in range(1, 256) if magnitude + bound >= 256} for bound in bounds]


def wanted(use, threshold, limit, masks, word) -> list[set[int]]:
    """The same by the definition; ``limit`` is the magnitude, address and channel of the last winner."""
    least, (magnitude, *last) = range(threshold, 256), limit
    address, mask = word
    if use is SelectUse.CHANNELS:
        return [set(least) if masks[mask] >> channel & 1 else set() for channel in range(WORD_CHANNELS)]
    if use is SelectUse.ALL:
        return [set(least)] * WORD_CHANNELS
    wins = [magnitude if [address, channel] <= last else magnitude + 1 for channel in range(WORD_CHANNELS)]
    return [{each for each in least if each >= first} for first in wins]


async def tell(ctx, dut, kind, **fields):
    """One order, for a cycle."""
    ctx.set(dut.order, {"index": 0, "value": {"word": 0}, "prefix": 0, **fields, "kind": kind})
    await ctx.tick()
    ctx.set(dut.order, {**{"index": 15, "value": {"word": 99}, "prefix": 77}, "kind": OrderKind.NONE})


async def ask(ctx, dut, words):
    """What is answered about words, one a cycle: winners, complement, other complement."""
    found = []
    for address, word in [*words, (0, 0), (0, 0)]:
        ctx.set(dut.lookup.address, address)
        ctx.set(dut.lookup.word, word)
        _, _, *told = await ctx.tick().sample(dut.lookup.winners, dut.lookup.complement, dut.lookup.other_complement)
        found.append(tuple(told))
    return found[2:]


@pytest.mark.parametrize("use", SelectUse)
def test_what_is_multiplied_is_what_was_selected(tmp_path, use):
    def build(rng):
        dut = reused(WinnerMasks, CONFIG)

        async def drive(ctx):
            masks = [0] * MAX_MASKS
            for magnitude in (0, 255, *(rng.randrange(1, 255) for _ in range(4))):
                for word in rng.sample(range(MAX_MASKS), 40):
                    masks[word] = rng.getrandbits(WORD_CHANNELS)
                    ctx.set(dut.mask.payload, {"word": word, "channels": masks[word]})
                    ctx.set(dut.mask.valid, 1)
                    await ctx.tick()
                    ctx.set(dut.mask.valid, 0)
                # The last winner is somewhere in the map, whose window begins elsewhere in the bank.
                number, channel = rng.randrange(1 << 16), rng.randrange(WORD_CHANNELS)
                place = rng.randrange(5, 4000)
                ctx.set(dut.selection.shift, place - number)
                await tell(ctx, dut, OrderKind.LIMIT, value={"word": number}, index=channel, prefix=magnitude)
                first = rng.randrange(MAX_MASKS // 2)
                for threshold in (1, 255, magnitude or 1, min(magnitude + 1, 255), rng.randrange(1, 256)):
                    fields = {"select": use.value, "threshold": threshold, "first_mask": first}
                    ctx.set(dut.source, fields)
                    await ctx.tick().repeat(3)
                    near = [(place + step, rng.randrange(32)) for step in (-1, 0, 1)]
                    words = near + [(rng.randrange(4096), rng.randrange(32)) for _ in range(WORDS)]
                    limit = (magnitude, place, channel)
                    for word, told in zip(words, await ask(ctx, dut, words), strict=True):
                        address, mask = word
                        expected = wanted(use, threshold, limit, masks, (address, first + mask))
                        assert multiplied(told) == expected, (word, threshold, limit)

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in OrderKind if kind is not OrderKind.LIMIT])
def test_other_orders_leave_the_last_winner_as_it_is(tmp_path, kind):
    """Also where the selection of a core that keeps nothing of the map puts it in front of the bank."""

    def build(rng):
        dut = reused(WinnerMasks, CONFIG)

        async def drive(ctx):
            ctx.set(dut.source, {"select": SelectUse.ELEMENTS.value, "threshold": 1, "first_mask": 0})
            for number, shift, last in ((1000, -900, 100), (10, -40, -30), (0xFFFF, 0, 0xFFFF)):
                ctx.set(dut.selection.shift, shift)
                await tell(ctx, dut, OrderKind.LIMIT, value={"word": number}, index=3, prefix=9)
                await ctx.tick().repeat(2)
                await tell(ctx, dut, kind, value={"word": rng.randrange(1 << 16)}, index=5, prefix=rng.randrange(256))
                await ctx.tick().repeat(4)
                words = [(address, 0) for address in (0, 99, 100, 101, 4095)]
                for word, told in zip(words, await ask(ctx, dut, words), strict=True):
                    expected = wanted(SelectUse.ELEMENTS, 1, (9, last, 3), [], word)
                    assert multiplied(told) == expected, word

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=1, folder=tmp_path)
