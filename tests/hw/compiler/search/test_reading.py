"""A run that begins like another is found from where they part; one that can't be less than asked for is left."""

from math import inf

import numpy as np
import pytest

from hw.compiler.search.reading import Reading
from hw.config import AcceleratorConfig

CONFIG = AcceleratorConfig(list_words=64, loader=1)


def test_cycles_by_hand():
    beats = CONFIG.list_row_beats
    cycles = [(1000.0,), (1000.0,)]
    # All fit at once: what is read first delays the first command only.
    assert Reading([np.array([(10, 10)])] * 2, cycles, CONFIG).cycles == 10 * beats + 2000
    # The second waits for the first to end, then for its own lists.
    assert Reading([np.array([(40, 40)])] * 2, cycles, CONFIG).cycles == 80 * beats + 2000


def steps(rng: np.random.Generator, count: int) -> list:
    """Rows and cycles of steps of one to three commands: some wait for reading, some for room."""
    found = []
    for _ in range(count):
        commands = int(rng.integers(1, 4))
        words = rng.integers(1, 60, commands).tolist()
        found.append((np.array([(size, size * 2) for size in words]), rng.uniform(10, 2000, commands).tolist()))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_another_run_is_what_it_is_from_the_beginning(seed):
    rng = np.random.default_rng(seed)
    run = steps(rng, 12)
    reading = Reading(*zip(*run, strict=True), CONFIG)
    for first in range(12):
        other = [*run[:first], *steps(rng, 2), *run[first + 2 :]][:12]
        rows, cycles = zip(*other, strict=True)
        whole = Reading(rows, cycles, CONFIG).cycles
        load = sum(count for each in rows for _, count in each) * CONFIG.list_row_beats
        sums = sum(map(sum, cycles)), load
        assert reading.other(first, rows[first:], cycles[first:], sums, inf) == whole
        assert reading.other(first, rows[first:], cycles[first:], sums, whole * 1.001) == whole
        assert reading.other(first, rows[first:], cycles[first:], sums, whole / 2) in (inf, whole)


def test_what_cannot_be_less_is_left():
    run = [(np.array([(40, 40)]), [1000.0])] * 4
    rows, cycles = zip(*run, strict=True)
    reading, load = Reading(rows, cycles, CONFIG), 160 * CONFIG.list_row_beats
    whole = 4000.0 + load
    found = [reading.other(1, rows[1:], cycles[1:], (4000.0, load), most) for most in (whole / 2, whole + 1)]
    assert found == [inf, whole]
