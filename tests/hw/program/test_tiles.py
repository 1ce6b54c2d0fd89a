import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.program.tiles import Tile, divide, slices, tiles_of


@given(st.integers(0, 50), st.integers(0, 200), st.integers(1, 8))
def test_the_ranges_of_a_range_cover_it_and_are_balanced(first, size, count):
    ranges = divide(first, first + size, count)
    assert [index for start, stop in ranges for index in range(start, stop)] == list(range(first, first + size))
    sizes = [stop - start for start, stop in ranges]
    assert len(sizes) == count
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([(1, 1), (2, 2), (8, 1), (1, 4), (4, 2)]))
def test_every_word_is_made_once(rows, words, partition):
    bands, groups = partition
    made = [
        (row, word)
        for tile in tiles_of(divide(0, rows, bands), (3, 3 + words), groups)
        for row in range(*tile.rows)
        for word in range(*tile.words)
    ]
    assert sorted(made) == [(row, word) for row in range(rows) for word in range(3, 3 + words)]


def test_a_core_is_of_a_band_and_a_group():
    assert tiles_of([(0, 2), (2, 5)], (2, 5), 2) == [
        Tile(0, (0, 2), (2, 3)),
        Tile(1, (0, 2), (3, 5)),
        Tile(2, (2, 5), (2, 3)),
        Tile(3, (2, 5), (3, 5)),
    ]


@pytest.mark.parametrize(("words", "channels"), [((0, 2), (0, 16)), ((4, 5), (32, 35)), ((3, 4), (24, 32))])
def test_the_last_word_of_35_channels_has_three_of_them(words, channels):
    assert Tile(0, (0, 1), words).channels(35) == channels


@pytest.mark.parametrize(("rows", "cores"), [(7, 4), (2, 4), (8, 1)])
def test_every_row_is_scanned_by_one_core(rows, cores):
    found = slices(rows, cores)
    assert len(found) == cores
    assert [row for first, last in found for row in range(first, last)] == list(range(rows))
