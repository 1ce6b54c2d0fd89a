import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.config import AcceleratorConfig, preset
from hw.program.bits import decode, encode
from hw.program.chunks import ChunkRows, ListChunk
from hw.program.isa import Entry, pointer_layout
from hw.program.list_memory import (
    ListMemory,
    moved_pointers,
    pack_entries,
    pack_pointers,
    unpack_entries,
    unpack_pointers,
)

TINY = preset("tiny")
CONFIG = AcceleratorConfig(cores=2, pes=4, list_words=64, loader=1)


@pytest.mark.parametrize("config", [TINY, preset("base-85f")])
@given(data=st.data())
def test_pointers_are_those_of_the_layout(config, data):
    start = data.draw(st.integers(0, (1 << config.start_bits) - 1))
    count = data.draw(st.integers(0, (1 << config.count_bits) - 1))
    words = pack_pointers(np.array([0, start]), np.array([0, count]), config)
    assert words.dtype == np.uint32
    assert decode(pointer_layout(config), [int(words[1])]) == {"start": start, "count": count}
    assert [each.tolist() for each in unpack_pointers(words, config)] == [[0, start], [0, count]]


@given(weight=st.integers(-128, 127), offset=st.integers(0, 1023))
def test_entries_are_those_of_the_layout(weight, offset):
    words = pack_entries(np.array([1, weight]), np.array([2, offset]))
    assert words.dtype == np.uint32
    assert words.tolist() == [
        *encode(Entry, weight=1, offset=2),
        *encode(Entry, weight=weight, offset=offset),
    ]
    assert [each.tolist() for each in unpack_entries(words)] == [[1, weight], [2, offset]]


def test_lists_move_and_empty_ones_stay():
    words = pack_pointers(np.array([3, 0, 5]), np.array([2, 0, 1]), CONFIG)
    found = moved_pointers(words, 40, CONFIG)
    assert found.dtype == np.uint32
    assert [each.tolist() for each in unpack_pointers(found, CONFIG)] == [[43, 0, 45], [2, 0, 1]]


def rows(cores: tuple[int, ...], address: int, *values: int) -> ChunkRows:
    """A row of equal words for each value."""
    words = np.repeat(np.array(values, dtype=np.uint32)[:, None], CONFIG.pes, axis=1)
    return ChunkRows(cores=cores, address=address, words=words)


def chunk(after: int, *segments: ChunkRows) -> ListChunk:
    return ListChunk(address=0, beats=1, after=after, segments=segments)


@pytest.fixture
def memory() -> ListMemory:
    """Five words that a host loads, and two chunks behind them: the second over the first's last word."""
    loaded = np.arange(8 * 5, dtype=np.uint32).reshape(8, 5)
    chunks = [chunk(0, rows((0, 1), 5, 100, 101), rows((1,), 7, 102)), chunk(2, rows((0,), 6, 200))]
    return ListMemory(loaded, chunks, CONFIG)


def test_what_a_host_loads_is_there_at_once(memory):
    found = memory.at(0)
    assert found.shape == (2, 4, 64)
    assert found[1, 3, :5].tolist() == [35, 36, 37, 38, 39]
    assert not found[:, :, 5:].any()


def test_chunks_are_there_for_the_layer_that_waits_for_them(memory):
    assert memory.at(1)[0, 2, 5:8].tolist() == [100, 101, 0]
    assert memory.at(1)[1, 2, 5:8].tolist() == [100, 101, 102]
    assert memory.at(2)[0, 0, 5:7].tolist() == [100, 200]
    assert memory.at(2)[1, 0, 5:7].tolist() == [100, 101]


def uncertain(memory: ListMemory, finished: int) -> list[list[int]]:
    """Addresses of the first eight words of each core that are uncertain."""
    return [np.flatnonzero(np.diff(lacking)[:8]).tolist() for lacking in memory.lacking(finished)]


def test_words_are_certain_from_when_they_are_written_until_somebody_may_write_them(memory):
    memory.at(0)
    assert uncertain(memory, 0) == [[5, 6, 7], [5, 6, 7]]
    memory.at(1)
    assert uncertain(memory, 0) == [[7], []]
    assert uncertain(memory, 1) == [[7], []]
    assert uncertain(memory, 2) == [[6, 7], []]
    memory.at(2)
    assert uncertain(memory, 2) == [[7], []]


def test_what_lacks_is_counted_from_the_first_word_on(memory):
    memory.at(1)
    lacking = memory.lacking(0)
    assert lacking.shape == (2, 65)
    assert lacking[0, 5:10].tolist() == [0, 0, 0, 1, 2]
    assert lacking[1, -1] == 64 - 8
