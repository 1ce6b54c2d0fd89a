import numpy as np
import pytest
from numba import njit

from hw.config import WORD_CHANNELS
from sim.vector import WIDTH, gather, largest, last, load, paired, rising, scatter, splat, store

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
def _gather(array, indices, found):
    store(found, 0, gather(array, load(indices, 0)))


@njit
def _scatter(array, indices, values):
    scatter(array, load(indices, 0), load(values, 0))


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


def test_gather_and_scatter():
    rng = np.random.default_rng(1)
    array, indices = rng.integers(-100, 100, 50, dtype=np.int32), rng.permutation(50)[:WIDTH].astype(np.int32)
    found = np.empty(WIDTH, np.int32)
    _gather(array, indices, found)
    np.testing.assert_array_equal(found, array[indices])
    expected = array.copy()
    expected[indices] = A
    _scatter(array, indices, A)
    np.testing.assert_array_equal(array, expected)
