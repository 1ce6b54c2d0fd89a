"""The loader's recurrence, by hand: two cores' chunks, a source of 10 cycles and a beat in every third."""

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.program.chunks import ChunkRows, ListChunk
from hw.weight_source import WeightSource
from sim.loading import LoadedRows, Loading
from sim.timing import REQUEST_CYCLES, WRITE_CYCLES

CONFIG = AcceleratorConfig(cores=2, pes=4, loader=1)
SOURCE = WeightSource(latency=10, cycles_per_beat=3)


def segment(cores: tuple[int, ...], rows: int, beat: int) -> ChunkRows:
    return ChunkRows(cores=cores, address=0, words=np.zeros((rows, 4), dtype=np.uint32), beat=beat)


#: The first two before any layer, the third behind one, the fourth behind two. A row is 3 beats, a header one.
CHUNKS = [
    ListChunk(address=0, beats=7, after=0, segments=(segment((0, 1), 2, 1),)),
    ListChunk(address=7, beats=8, after=0, segments=(segment((1,), 1, 1), segment((0,), 1, 5))),
    ListChunk(address=15, beats=4, after=1, segments=(segment((0,), 1, 1),)),
    ListChunk(address=19, beats=4, after=2, segments=(segment((1,), 1, 1),)),
]
#: Cycles of the first beats of those that are asked for at once: in cycle 5, the first that there is time for; in
#: cycle 10, but the bus is busy until the last beat of the first, 6 * 3 cycles behind its first.
FIRST, SECOND = 5 + 10, 5 + 10 + 7 * 3
#: Of the last beat of the second.
END = SECOND + 7 * 3


def now(*cycles: int) -> np.ndarray:
    return np.array(cycles, dtype=np.int64)


def test_rows_are_written_some_beats_behind_the_first():
    assert CONFIG.list_row_beats == 3
    rows = LoadedRows.of(CHUNKS, SOURCE, CONFIG)
    # Of each core the rows of chunk after chunk: the last beat of three, the header before them, three cycles a beat.
    assert rows.starts.tolist() == [[0, 2, 3, 4, 4], [4, 6, 7, 7, 8]]
    assert rows.offsets.tolist() == [9, 18, 21, 9, 9, 18, 9, 9]


def test_chunks_that_wait_for_no_layer_come_one_after_the_other():
    assert (REQUEST_CYCLES, WRITE_CYCLES) == (5, 3)
    loading = Loading(CHUNKS, SOURCE, 2)
    # The units' first cycle is number ``now``; the write, 3 cycles behind the beat, holds the cycle before it.
    assert loading.held(now(1, 101)).tolist() == [[FIRST + 1, SECOND + 1], [FIRST - 99, SECOND - 99]]


def test_a_chunk_waits_for_its_layers_and_for_the_bus():
    loading = Loading(CHUNKS, SOURCE, 3)
    loading.ended(1, now(20, 60, 300))
    # Asked for in cycle 20, 60 or 300; the second chunk's last beat goes first.
    third = [END + 3, 60 + 10, 300 + 10]
    assert (loading.held(now(1, 1, 1))[:, 2] - 1).tolist() == third
    # Behind two layers: five cycles after the request before at least, and a beat behind its last, three beats later.
    loading.ended(2, now(22, 90, 301))
    assert (loading.held(now(1, 1, 1))[:, 3] - 1).tolist() == [third[0] + 12, 100, 310 + 12]


def test_requests_are_cycles_apart():
    one = [ListChunk(address=n, beats=1, after=1, segments=()) for n in range(3)]
    loading = Loading(one, WeightSource(latency=1, cycles_per_beat=1), 1)
    loading.ended(1, now(50))
    assert (loading.held(now(1)) - 1).tolist() == [[51, 56, 61]]


def test_nothing_is_asked_for_before_its_layers_have_ended():
    loading = Loading(CHUNKS, SOURCE, 1)
    assert loading.held(now(1)).shape == (1, 2)
    loading.ended(2, now(9))
    assert loading.held(now(1)).shape == (1, 4)


@pytest.mark.parametrize(("chunks", "written"), [(1, FIRST + 6 * 3), (2, END)])
def test_a_layer_starts_when_its_chunks_are_there(chunks, written):
    loading = Loading(CHUNKS, SOURCE, 4)
    # The sequencer sees the last beat in the cycle after it, and starts the layer in the cycle after that: number
    # ``written + 2``, up to which ``written + 3`` cycles have passed.
    passed = now(1, written + 2, written + 3, written + 500)
    assert loading.wait(chunks, passed).tolist() == [written + 2, 1, 0, 0]


def test_a_layer_that_needs_no_chunk_waits_for_none():
    assert Loading(CHUNKS, SOURCE, 2).wait(0, now(1, 2)).tolist() == [0, 0]
