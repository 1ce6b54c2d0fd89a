"""Selector, scanners and masks of winners together, against the definition of a selection."""

from itertools import product
from random import Random

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.network.selection import Select, winners
from hw.program.isa import SelectUse
from hw.rtl.control.selector import Selector
from tests.hw.selection_bench import KINDS, Machine, slices, stored
from tests.hw.simulate import Bench, reused, simulate

USES = {"elements": SelectUse.ELEMENTS, "channels": SelectUse.CHANNELS, "mask": SelectUse.CHANNELS}


async def selects(ctx, dut, rng, config, activations, select, threshold=1):
    """One selection; then every word of every core's window."""
    words = stored(activations)
    dealt = slices(rng, activations, select, config.cores)
    wanted = winners(select, abs(activations)[None])[0] & (abs(activations) >= threshold)
    wanted = stored(wanted.astype(int)).astype(bool)
    dut.load(ctx, words, dealt)
    busy = await dut.select(ctx)
    fields = dealt[0].selection
    assert busy == Selector.cycles(config, KINDS[select.kind], fields["length"], fields["pitch"])
    found = await dut.multiplied(ctx, USES[select.kind].value, threshold)
    for part, where in zip(dealt, found, strict=True):
        np.testing.assert_array_equal(where, wanted[slice(*part.window)])


def check(tmp_path, config, make, count):
    """So many selections, one after the other: ``make`` gives activations and selection, and the threshold if there is
    one, from a random generator.
    """

    def build(rng):
        dut = reused(Machine, config)

        async def drive(ctx):
            for _ in range(count):
                await selects(ctx, dut, rng, config, *make(rng))

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=0, folder=tmp_path)


def random_map(rng, shape):
    """Activations with many ties, or few."""
    highest = rng.choice((0, 1, 2, 20, 255))
    return np.array([rng.randint(-highest, highest) for _ in range(int(np.prod(shape)))]).reshape(shape)


@pytest.mark.parametrize(("cores", "selector"), [(1, 4), (1, 2), (1, 1), (2, 2), (4, 4), (8, 2), (8, 4)])
def test_elements(tmp_path, cores, selector):
    def make(rng):
        shape = rng.randint(1, 4), rng.randint(1, 4), rng.randint(1, 20)
        count = rng.choice((1, rng.randint(1, int(np.prod(shape))), int(np.prod(shape))))
        return random_map(rng, shape), Select(kind="elements", count=count), rng.choice((1, 1, rng.randint(1, 255)))

    check(tmp_path, AcceleratorConfig(cores=cores, selector=selector), make, 6)


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
def test_channels(tmp_path, cores):
    def make(rng):
        shape = rng.randint(1, 4), rng.randint(1, 4), rng.randint(1, 30)
        count = rng.choice((1, rng.randint(1, shape[2]), shape[2]))
        return random_map(rng, shape), Select(kind="channels", count=count), rng.choice((1, rng.randint(1, 255)))

    check(tmp_path, AcceleratorConfig(cores=cores, selector=2), make, 6)


def test_of_channels_that_tie_the_first_win(tmp_path):
    def make(rng):
        return np.full((1, 2, 20), rng.randint(1, 9)), Select(kind="channels", count=rng.randint(1, 19)), 1

    check(tmp_path, AcceleratorConfig(cores=1, selector=2), make, 3)


@pytest.mark.parametrize("cores", [1, 4])
def test_masks(tmp_path, cores):
    def make(rng):
        depth = rng.randint(1, 30)
        kept = tuple(sorted(rng.sample(range(depth), rng.randint(1, depth))))
        return random_map(rng, (2, 3, depth)), Select(kind="mask", channels=kept), rng.choice((1, rng.randint(1, 255)))

    check(tmp_path, AcceleratorConfig(cores=cores, selector=4), make, 4)


def check_counts(tmp_path, config, maps, counts):
    """Elements of some maps, with each count in turn."""

    def build(rng):
        dut = reused(Machine, config)

        async def drive(ctx):
            for activations in maps:
                dealt = slices(rng, activations, Select(kind="elements", count=1), config.cores)
                dut.load(ctx, stored(activations), dealt)
                for count in counts:
                    for part in dealt:
                        part.selection["count"] = count
                    await dut.select(ctx)
                    found = await dut.multiplied(ctx, SelectUse.ELEMENTS.value, 1)
                    select = Select(kind="elements", count=count)
                    chosen = winners(select, abs(activations)[None])[0] & (activations != 0)
                    wanted = stored(chosen.astype(int)).astype(bool)
                    for part, where in zip(dealt, found, strict=True):
                        np.testing.assert_array_equal(where, wanted[slice(*part.window)])

        return Bench(dut=dut, testbenches=[drive])

    simulate(build, seed=len(counts), folder=tmp_path)


@pytest.mark.parametrize("selector", [1, 2, 4])
def test_every_count_of_many_patterns_of_ties(tmp_path, selector):
    """Maps of five activations with three magnitudes, one in a word, in two cores."""
    maps = [np.array(values).reshape(5, 1, 1) for values in product((0, 3, -255), repeat=5)]
    check_counts(tmp_path, AcceleratorConfig(cores=2, selector=selector), maps[selector - 1 :: 60], range(1, 6))


def test_a_word_with_every_tie_and_every_count(tmp_path):
    """The last winner is each of the channels once."""
    check_counts(tmp_path, AcceleratorConfig(selector=4), [np.full((2, 1, 8), 7)], range(1, 17))


def test_sums_and_counts_of_full_banks(tmp_path):
    """The most that a bank holds, as large as it gets; one channel falls one short of the others."""
    activations = np.full((64, 63, 8), -255)
    activations[5, 5, 2] = 254
    config = AcceleratorConfig(activation_words=4096, selector=4)
    for select in (Select(kind="channels", count=7), Select(kind="elements", count=activations.size - 1)):
        dealt = slices(Random(0), activations, select, 1)
        dut = reused(Machine, config)

        async def drive(ctx, dut=dut, select=select, dealt=dealt):
            dut.load(ctx, stored(activations), dealt)
            await dut.select(ctx)
            dut._slices[0].window = (5 * 63 + 4, 5 * 63 + 7)
            dut._slices[0].base += 5 * 63 + 4
            (found,) = await dut.multiplied(ctx, USES[select.kind].value, 1)
            lost = np.zeros_like(found)
            lost[slice(None) if select.kind == "channels" else 1, 2] = True
            np.testing.assert_array_equal(found, ~lost)

        simulate(lambda rng, dut=dut, drive=drive: Bench(dut=dut, testbenches=[drive]), seed=0, folder=tmp_path)
