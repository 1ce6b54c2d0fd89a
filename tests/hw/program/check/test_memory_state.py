from dataclasses import replace

import numpy as np
import pytest

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.bits import words_of
from hw.program.check.memory_state import Memories, walk_order
from hw.program.instructions import ResidualFields, SourceFields, TargetFields, WindowFields

CONFIG = AcceleratorConfig(cores=4, activation_words=64)
#: All fields 0.
NO_SOURCE, NO_TARGET, NO_RESIDUAL = (
    kind.unpack([0] * words_of(kind.layout)) for kind in (SourceFields, TargetFields, ResidualFields)
)
ALL = np.ones((1, WORD_CHANNELS), dtype=bool)


def window(bank=0, base=0, low=0, count=0):
    return WindowFields(bank=bank, base=base, low=low, count=count)


def source(base=0, *, bank=0, rows=1, blank_rows=0, columns=1, words=1, row_pitch=0, column_pitch=0):
    sizes = {"rows": rows, "blank_rows": blank_rows, "columns": columns, "words": words}
    places = {"bank": bank, "base": base, "row_pitch": row_pitch, "column_pitch": column_pitch}
    return replace(NO_SOURCE, **sizes, **places)


def operands(state, core, base, positions, words, *, pitch=1):
    """Of the first bank, position after position."""
    target = replace(NO_TARGET, row_pitch=pitch, column_pitch=1, columns=1)
    return state.operand("layer", core, replace(NO_RESIDUAL, base=base), target, positions, words)


def memories(*windows, words=16):
    """All cores' memories after a map of full words has been sent to these windows."""
    state = Memories(CONFIG)
    state.open("map", list(windows) + [window()] * (CONFIG.cores - len(windows)))
    state.deliver("map", 0, True, np.arange(words), np.repeat(ALL, words, axis=0))
    state.end()
    return state


def refused(message):
    return pytest.raises(ValueError, match=f"^{message}$")


def test_a_core_has_the_words_of_its_window():
    state = memories(window(base=5, low=4, count=3), window(bank=1, base=60, low=12, count=4))
    assert state.read("layer", 0, source(5, words=3)).tolist() == [True] * 24
    assert state.read("layer", 1, source(60, bank=1, rows=2, row_pitch=2, words=2)).all()
    for core, bank, base in ((0, 0, 4), (0, 0, 8), (0, 1, 5), (1, 0, 5), (1, 1, 59), (2, 0, 0)):
        with refused("layer: it reads words that nothing before it writes"):
            state.read("layer", core, source(base, bank=bank))
    with refused("layer: word 64 is beyond the 64 words of a bank"):
        state.read("layer", 1, source(60, bank=1, columns=3, column_pitch=2))


def test_rows_below_the_map_are_not_read():
    state = memories(window(base=4, count=8))
    below = source(4, rows=7, row_pitch=4, words=2, blank_rows=5)
    assert state.read("layer", 0, below).tolist() == [True] * 16
    with refused("layer: it reads words that nothing before it writes"):
        state.read("layer", 0, replace(below, blank_rows=4))


def test_channels_that_may_be_nonzero_are_those_of_any_position():
    state = Memories(CONFIG)
    state.open("map", [window(count=6)] * 4)
    active = np.zeros((6, WORD_CHANNELS), dtype=bool)
    active[[0, 2, 3], [1, 4, 7]] = True
    state.deliver("map", 3, True, np.arange(6), active)
    found = state.read("layer", 1, source(rows=3, row_pitch=2, words=2))
    assert np.flatnonzero(found).tolist() == [1, 4, 8 + 7]
    assert np.flatnonzero(operands(state, 1, 1, 1, 2)).tolist() == [8 + 4]


def test_a_map_through_another_window_replaces_what_was_there():
    state = memories(window(base=4, count=8))
    state.open("layer", [window(base=10, count=4)] + [window()] * 3)
    assert state.read("layer", 0, source(4, words=6)).all()
    with refused("layer: it reads words that nothing before it writes"):
        state.read("layer", 0, source(10))


def test_parts_of_a_map_come_in_several_layers():
    windows = [window(base=4, count=8)] * 4
    state = Memories(CONFIG)
    for part in (range(0, 8, 2), range(1, 8, 2)):
        state.open("map", windows)
        state.deliver("map", 2, True, np.array(part), np.repeat(ALL, 4, axis=0))
    assert state.read("layer", 3, source(4, words=8)).all()


@pytest.mark.parametrize("maker", range(4))
def test_only_neighbours_are_reached_without_the_bus(maker):
    for reader in range(4):
        state = Memories(CONFIG)
        state.open("layer", [window(count=2) if core == reader else window() for core in range(4)])
        if abs(maker - reader) <= 1:
            state.deliver("layer", maker, False, np.array([1, 0, 2]), np.repeat(ALL, 3, axis=0))
            assert state.read("layer", reader, source(words=2)).all()
        else:
            with refused(rf"layer: core {reader} keeps word 1, which core {maker} can't send it"):
                state.deliver("layer", maker, False, np.array([2, 1]), np.repeat(ALL, 2, axis=0))


def test_windows_stay_in_their_bank_and_map():
    state = Memories(CONFIG)
    with refused("layer: core 2's window reaches to 65, beyond the 64 words of a bank"):
        state.open("layer", [window(), window(), window(base=60, count=5), window()])
    with refused("layer: core 1's window reaches to word 65537, beyond 65536"):
        state.open("layer", [window(), window(low=65530, count=7), window(), window()])


def test_a_second_bank_may_be_smaller():
    state = Memories(replace(CONFIG, second_bank_words=32))
    state.open("map", [window(base=60, count=4), window(bank=1, base=28, count=4)] + [window()] * 2)
    state.deliver("map", 0, True, np.arange(4), np.repeat(ALL, 4, axis=0))
    assert state.read("layer", 0, source(60, words=4)).all()
    assert state.read("layer", 1, source(28, bank=1, words=4)).all()
    with refused("layer: word 32 is beyond the 32 words of a bank"):
        state.read("layer", 1, source(29, bank=1, words=4))
    with refused("layer: core 3's window reaches to 33, beyond the 32 words of a bank"):
        state.open("layer", [window(base=29, count=4)] * 3 + [window(bank=1, base=29, count=4)])


def test_nothing_is_written_over_what_a_core_walks():
    state = memories(window(count=8), window(count=8))
    state.read("layer", 1, source(2, words=3))
    state.open("layer", [window(base=2, count=3), window(base=4, count=3)] + [window()] * 2)
    state.deliver("layer", 1, True, np.array([1]), ALL)
    with refused(r"layer: word \[0\] must not be written over what core 1 reads"):
        state.deliver("layer", 1, True, np.array([0]), ALL)
    state.end()
    state.deliver("layer", 1, True, np.array([0]), ALL)


def test_a_sum_may_take_the_place_of_its_own_operand():
    state = memories(window(count=8), window(count=8))
    operands(state, 0, 2, 3, 1)
    state.open("layer", [window(base=2, count=3), window(base=2, count=3)] + [window()] * 2)
    state.deliver("layer", 0, True, np.arange(3), np.repeat(ALL, 3, axis=0))
    with refused(r"layer: word \[1\] must not be written over what core 0 reads"):
        state.deliver("layer", 1, True, np.array([1]), ALL)
    with refused(r"layer: word \[2\] must not be written over what core 0 reads"):
        state.deliver("layer", 0, True, np.array([2]), ALL)


def test_sums_take_the_places_of_their_operands_in_any_order_of_the_walk():
    state = memories(window(count=8))
    # Two columns of three positions, each column from top to bottom: words 0, 2, 4, then 1, 3, 5.
    turned = replace(NO_TARGET, row_pitch=1, column_pitch=2, columns=3)
    first = NO_RESIDUAL
    state.operand("layer", 0, first, turned, 6, 1)
    state.open("layer", [window(count=6)] + [window()] * 3)
    state.deliver("layer", 0, True, walk_order(0, turned, 6, 1).reshape(-1), np.repeat(ALL, 6, axis=0))
    state.end()
    state.operand("layer", 0, first, turned, 6, 1)
    with refused(r"layer: word \[1\] must not be written over what core 0 reads"):
        state.deliver("layer", 0, True, np.arange(6), np.repeat(ALL, 6, axis=0))


def test_an_operand_of_two_sums_is_kept():
    state = memories(window(count=8))
    operands(state, 0, 2, 2, 1, pitch=0)
    state.open("layer", [window(base=2, count=3)] + [window()] * 3)
    with refused(r"layer: word \[0\] must not be written over what core 0 reads"):
        state.deliver("layer", 0, True, np.arange(2), np.repeat(ALL, 2, axis=0))


def test_an_operand_that_is_walked_too_is_kept():
    state = memories(window(count=8))
    state.read("layer", 0, source(2, words=2))
    operands(state, 0, 2, 2, 1)
    state.open("layer", [window(base=2, count=3)] + [window()] * 3)
    with refused(r"layer: word \[0\] must not be written over what core 0 reads"):
        state.deliver("layer", 0, True, np.arange(2), np.repeat(ALL, 2, axis=0))
