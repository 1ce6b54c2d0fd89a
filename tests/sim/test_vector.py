from collections import deque

import numpy as np
import pytest
from numba import njit

from hw.config import WORD_CHANNELS
from sim.vector import WIDTH, history, largest, last, load, note, oldest, paired, rising, splat, store

A, B = np.random.default_rng(0).integers(-100, 100, (2, WIDTH), dtype=np.int32)


def test_a_vector_has_an_element_for_each_channel_of_a_word_and_so_for_each_pe():
    assert WIDTH == WORD_CHANNELS


@njit
def _operators(a, b, found):
    x, y = load(a, 0), load(b, 0)
    for row, vector in enumerate((x + y, x - y, x & y, x | y, x > y, max(x, y), min(x, y))):
        store(found[row], 0, vector)


@njit
def _beside_integers(a, found):
    x = load(a, 0)
    for row, vector in enumerate((x + 7, 7 - x, x & 7, x | 7, x > 7, max(x, 7), min(7, x), splat(7))):
        store(found[row], 0, vector)


@njit
def _orders(a, found):
    x = load(a, 0)
    for row, vector in enumerate((rising(x), paired(x), last(x))):
        store(found[row], 0, vector)


@njit
def _largest(a):
    return largest(load(a, 0))


@njit
def _load(array, index, found):
    store(found, 0, load(array, index))


@njit
def _history(places, values, where, found):
    noted = history(places)
    for n in range(len(values)):
        store(found[n], 0, oldest(noted))
        noted = note(noted, load(where[n], 0), load(values[n], 0))


def test_operators():
    found = np.empty((7, WIDTH), np.int32)
    _operators(A, B, found)
    np.testing.assert_array_equal(found, [A + B, A - B, A & B, A | B, -(A > B).astype(int), A.clip(B), A.clip(None, B)])


def test_an_integer_stands_for_eight():
    found = np.empty((8, WIDTH), np.int32)
    _beside_integers(A, found)
    expected = [A + 7, 7 - A, A & 7, A | 7, -(A > 7).astype(int), A.clip(7), A.clip(None, 7), np.full(WIDTH, 7)]
    np.testing.assert_array_equal(found, expected)


def test_orders():
    found = np.empty((3, WIDTH), np.int32)
    _orders(A, found)
    np.testing.assert_array_equal(found, [np.maximum.accumulate(A), A[1::2].repeat(2), A[-1:].repeat(WIDTH)])


@pytest.mark.parametrize("values", [A, B, np.full(WIDTH, (1 << 31) - 1, np.int32), np.full(WIDTH, -1 << 31, np.int32)])
def test_the_largest_element(values):
    assert _largest(values) == values.max()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_eight_neighbours_are_loaded(dtype):
    array, found = np.arange(-20, 20, dtype=dtype), np.empty(WIDTH, np.int32)
    _load(array, 3, found)
    np.testing.assert_array_equal(found, array[3 : 3 + WIDTH])


@pytest.mark.parametrize("depth", [2, 8])
def test_a_history_gives_each_element_what_was_noted_so_many_times_before(depth):
    rng = np.random.default_rng(depth)
    values, where = rng.integers(-100, 100, (60, WIDTH), np.int32), -rng.integers(0, 2, (60, WIDTH), np.int32)
    found = np.empty_like(values)
    _history((0,) * depth, values, where, found)
    noted = [deque([-1] * depth, depth) for _ in range(WIDTH)]
    for row, now, marks in zip(found, values, where, strict=True):
        assert row.tolist() == [each[0] for each in noted]
        for each, value, mark in zip(noted, now.tolist(), marks, strict=True):
            if mark:
                each.append(value)
