from math import inf

import numpy as np
import pytest

from hw.compiler.search.reading_kernel import run_on

BEGIN = (0, 0, 0, 0.0, 0.0, 0.0, 0.0)


def further(sizes, cycles, pausing=inf, waiting=inf, capacity=64, beats=2):
    """The state behind commands, words and ends; of each command as many rows are read as its lists have words."""
    sizes = np.array(sizes, dtype=np.int64)
    words, ends = np.zeros(len(sizes), dtype=np.int64), np.zeros(len(sizes) + 1)
    state = run_on(BEGIN, words, ends, sizes, sizes, np.array(cycles), capacity, beats, pausing, waiting)
    return state, words.tolist(), ends.tolist()


def test_commands_by_hand():
    # The first waits 40 * 2 cycles. The second's lists don't fit beside them: they are read when it has ended.
    state, words, ends = further([40, 40], [1000.0, 500.0])
    assert words == [40, 40]
    assert ends == [0.0, 1080.0, 1660.0]
    assert state == (2, 1, 40, 1160.0, 1660.0, 1000.0, 160.0)
    # Those that fit are read while the first is at work.
    state, _, ends = further([40, 20], [1000.0, 500.0])
    assert ends == [0.0, 1080.0, 1580.0]
    assert state == (2, 0, 60, 120.0, 1580.0, 0.0, 80.0)


@pytest.mark.parametrize(("pausing", "waiting", "commands"), [(999.0, inf, 1), (1000.0, inf, 2), (inf, 159.0, 1)])
def test_it_ends_where_too_much_is_lost(pausing, waiting, commands):
    state, _, ends = further([40, 40], [1000.0, 500.0], pausing, waiting)
    assert state[0] == commands
    assert ends == [0.0, 1080.0, 1660.0][: commands + 1] + [0.0] * (2 - commands)


@pytest.mark.parametrize("seed", range(5))
def test_a_run_in_two_parts_is_the_run(seed):
    rng = np.random.default_rng(seed)
    sizes, cycles = rng.integers(1, 60, 30), rng.uniform(10, 2000, 30)
    whole, words, ends = further(sizes, cycles)
    parts = np.zeros(30, dtype=np.int64), np.zeros(31)
    state = BEGIN
    for part in (slice(0, 11), slice(11, 30)):
        state = run_on(state, *parts, sizes[part], sizes[part], cycles[part], 64, 2, inf, inf)
    assert state == whole
    assert [each.tolist() for each in parts] == [words, ends]
