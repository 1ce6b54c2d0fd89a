import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.config import AcceleratorConfig
from hw.program.bits import encode, words_of
from hw.program.chunks import ChunkRows, decode_chunks, pack_chunk, pack_rows, unpack_rows
from hw.program.instructions import HeaderFields
from hw.program.isa import Chunk, Header, Segment

CONFIG = AcceleratorConfig(cores=4, pes=8, list_words=512, loader=1)


def words(rows: int, pes: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 18, (rows, pes)).astype(np.uint32)


@given(
    pes=st.sampled_from([2, 4, 8]), loader=st.sampled_from([1, 2, 4]), rows=st.integers(1, 20), seed=st.integers(0, 100)
)
def test_rows_survive(pes, loader, rows, seed):
    config = AcceleratorConfig(pes=pes, loader=loader)
    beats = pack_rows(words(rows, pes, seed), config)
    assert beats.shape == (rows * config.list_row_beats * loader,)
    np.testing.assert_array_equal(unpack_rows(beats, config), words(rows, pes, seed))


def test_a_row_by_hand():
    beats = pack_rows(np.array([[0x3FFFF, 0, 1, 0, 0, 0, 0, 0x20000]], dtype=np.uint32), CONFIG)
    assert beats.tolist() == [0x0003_FFFF, 1 << 4, 0, 0, 0x8000]


@pytest.mark.parametrize(("pes", "loader", "beats"), [(8, 1, 5), (4, 1, 3), (2, 1, 2), (8, 4, 2), (2, 4, 2)])
def test_a_row_takes_at_least_the_time_of_a_write(pes, loader, beats):
    assert AcceleratorConfig(pes=pes, loader=loader).list_row_beats == beats


NOTHING = HeaderFields.unpack([0] * words_of(Header))


def images(read: list[tuple[np.ndarray, int]], **changes: int) -> tuple[dict[str, np.ndarray], HeaderFields]:
    """A program memory with nothing but a header and a chunk table, the chunks, and the header."""
    first, table, address = words_of(Header), [], 0
    for beats, after in read:
        table += encode(Chunk, address=address, beats=len(beats), after=after)
        address += len(beats)
    header = replace(NOTHING, **({"chunk_table": first, "chunks": len(read)} | changes))
    program = np.array(header.pack() + table, dtype=np.uint32)
    return {"program": program, "weights": np.concatenate([beats for beats, _ in read])}, header


def test_chunks_survive():
    segments = [
        ChunkRows(cores=(0, 3), address=7, words=words(300)),
        ChunkRows(cores=(1,), address=0, words=words(2, seed=1)),
    ]
    first, second = pack_chunk(segments, CONFIG), pack_chunk(segments[1:], CONFIG)
    found = decode_chunks(*images([(first, 0), (second, 3)]), CONFIG)
    assert [(chunk.address, chunk.beats, chunk.after) for chunk in found] == [
        (0, len(first), 0),
        (len(first), len(second), 3),
    ]
    assert len(first) == 302 * 5 + 3
    # A long segment is two.
    assert [(s.cores, s.address, len(s.words), s.beat) for s in found[0].segments] == [
        ((0, 3), 7, 255, 1),
        ((0, 3), 262, 45, 1 + 255 * 5 + 1),
        ((1,), 0, 2, 300 * 5 + 3),
    ]
    np.testing.assert_array_equal(np.concatenate([s.words for s in found[0].segments[:2]]), words(300))


GOOD = pack_chunk([ChunkRows(cores=(0,), address=0, words=words(2))], CONFIG)


def changed(**fields: int) -> np.ndarray:
    """A chunk with another header."""
    chunk = GOOD.copy()
    chunk[:1] = encode(Segment, **({"cores": 1, "list_rows": 2, "address": 0, "last": 1} | fields))
    return chunk


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (changed(list_rows=0), "a segment must have list rows within its 11 beats, not 0 up to beat 1"),
        (changed(list_rows=3), "a segment must have list rows within its 11 beats, not 3 up to beat 16"),
        (changed(cores=0), "a segment must be for some of 4 cores, not for []"),
        (changed(cores=17), "a segment must be for some of 4 cores, not for [0, 4]"),
        (changed(address=511), "a segment reaches to 513, beyond the 512 list words of a PE"),
        (changed(last=0), "its last segment must say that it is"),
        (np.concatenate([GOOD, GOOD]), "its last segment must end with its 22 beats, not at 11"),
        (GOOD | (np.arange(11) == 5).astype(np.uint32) << 16, "a list row must be 144 bits and zeros"),
    ],
)
def test_malformed_chunks_are_refused(chunk, message):
    with pytest.raises(ValueError, match=f"^chunk 1: {re.escape(message)}$"):
        decode_chunks(*images([(GOOD, 0), (chunk, 0)]), CONFIG)


def test_a_segment_may_end_with_the_list_memory():
    ((found,),) = (chunk.segments for chunk in decode_chunks(*images([(changed(address=510), 0)]), CONFIG))
    assert found.address + len(found.words) == 512


def test_a_chunk_lies_within_external_memory():
    found, header = images([(GOOD, 0)])
    message = "^chunk 0 must be at least one beat within the 10 of the weights image, not 0 to 11$"
    with pytest.raises(ValueError, match=message):
        decode_chunks(found | {"weights": found["weights"][:10]}, header, CONFIG)


def test_the_table_lies_within_the_program():
    with pytest.raises(ValueError, match=r"^program image ends at 7, inside the Chunk at 7$"):
        decode_chunks(*images([(GOOD, 0)], chunks=2), CONFIG)
