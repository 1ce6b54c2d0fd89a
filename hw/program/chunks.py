"""Chunks of lists in external memory: how they are packed, read back and written to the list memories.

A chunk is a sequence of segments (:class:`hw.program.isa.Segment`): rows of list words for consecutive addresses of all
PEs of some cores. Cores with equal lists share a segment.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.config import LIST_WORD_BITS, AcceleratorConfig
from hw.program.bits import decode, encode, words_of
from hw.program.instructions import HeaderFields
from hw.program.isa import MAX_LIST_ROWS, Chunk, Segment

__all__ = ["ChunkRows", "ListChunk", "decode_chunks", "pack_chunk", "pack_rows", "rows_of", "unpack_rows"]


@dataclass(frozen=True, kw_only=True)
class ChunkRows:
    """A segment.

    Attributes
    ----------
    cores : tuple of int
    address : int
        Of the first list row in the list memories.
    words : uint32 array (list rows, PEs)
    beat : int
        Number, in the chunk, of the first beat of the first list row.
    """

    cores: tuple[int, ...]
    address: int
    words: np.ndarray
    beat: int = 0


@dataclass(frozen=True, kw_only=True)
class ListChunk:
    """An entry of the chunk table, with what it says to read.

    Attributes
    ----------
    address, beats, after : int
        As in :class:`hw.program.isa.Chunk`.
    segments : tuple of ChunkRows
    """

    address: int
    beats: int
    after: int
    segments: tuple[ChunkRows, ...]


def pack_rows(words: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Beats of rows of list words.

    Parameters
    ----------
    words : uint32 array (list rows, PEs)

    Returns
    -------
    uint32 array (rows * list_row_beats * words of a beat,)
    """
    bits = (words[:, :, None] >> np.arange(LIST_WORD_BITS, dtype=np.uint32) & 1).astype(np.uint8)
    flat = bits.reshape(len(words), -1)
    padded = np.pad(flat, ((0, 0), (0, 32 * config.list_row_beats * config.loader - flat.shape[1])))
    return np.packbits(padded, axis=1, bitorder="little").reshape(-1).view("<u4").astype(np.uint32)


def unpack_rows(beats: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """List words of the beats of some list rows: uint32 array (list rows, PEs), the inverse of :func:`pack_rows`.

    Raises
    ------
    ValueError
        When bits that belong to no word aren't 0.
    """
    data = (
        np.ascontiguousarray(beats, dtype="<u4").view(np.uint8).reshape(-1, 4 * config.list_row_beats * config.loader)
    )
    bits = np.unpackbits(data, axis=1, bitorder="little")
    used = LIST_WORD_BITS * config.pes
    if bits[:, used:].any():
        raise ValueError(f"a list row must be {used} bits and zeros")
    each = bits[:, :used].reshape(len(data), config.pes, LIST_WORD_BITS).astype(np.uint32)
    words: np.ndarray = (each << np.arange(LIST_WORD_BITS, dtype=np.uint32)).sum(axis=2, dtype=np.uint32)
    return words


def rows_of(segments: list[ChunkRows]) -> list[ChunkRows]:
    """The same list rows in segments that are short enough."""
    return [
        ChunkRows(cores=s.cores, address=s.address + n, words=s.words[n : n + MAX_LIST_ROWS])
        for s in segments
        for n in range(0, len(s.words), MAX_LIST_ROWS)
    ]


def pack_chunk(segments: list[ChunkRows], config: AcceleratorConfig) -> np.ndarray:
    """Words of the beats of a chunk, at least one segment: uint32 array (beats * words of a beat,)."""
    short = rows_of(segments)
    beats = []
    for number, segment in enumerate(short):
        fields = {
            "cores": sum(1 << core for core in segment.cores),
            "list_rows": len(segment.words),
            "address": segment.address,
            "last": int(number == len(short) - 1),
        }
        header = encode(Segment, **fields) + [0] * (config.loader - 1)
        beats += [np.array(header, dtype=np.uint32), pack_rows(segment.words, config)]
    return np.concatenate(beats)


def decode_chunks(
    images: dict[str, np.ndarray], header: HeaderFields, config: AcceleratorConfig
) -> tuple[ListChunk, ...]:
    """The chunks of a program, in order.

    Raises
    ------
    ValueError
        When the table or a chunk isn't well-formed; the message names the chunk.
    """
    program, weights = images["program"], images["weights"].reshape(-1, max(1, config.loader))
    if header.chunks and not config.loader:
        raise ValueError(f"chunks need a config with a loader; this program has {header.chunks}")
    size, found = words_of(Chunk), []
    for number in range(header.chunks):
        start = header.chunk_table + number * size
        if start + size > len(program):
            raise ValueError(f"program image ends at {len(program)}, inside the Chunk at {start}")
        entry = decode(Chunk, program[start : start + size].tolist())
        end = entry["address"] + entry["beats"]
        if not entry["beats"] or end > len(weights):
            raise ValueError(
                f"chunk {number} must be at least one beat within the {len(weights)} of the weights image, not "
                f"{entry['address']} to {end}"
            )
        try:
            segments = _segments(weights[entry["address"] : end], config)
        except ValueError as error:
            raise ValueError(f"chunk {number}: {error}") from error
        found.append(ListChunk(**entry, segments=segments))
    return tuple(found)


def _segments(beats: np.ndarray, config: AcceleratorConfig) -> tuple[ChunkRows, ...]:
    """The segments of a chunk."""
    start, last, found = 0, 0, []
    while start < len(beats):
        if last:
            raise ValueError(f"its last segment must end with its {len(beats)} beats, not at {start}")
        fields: dict[str, Any] = decode(Segment, beats[start, :1].tolist())
        if beats[start, 1:].any():
            raise ValueError(f"the header of a segment must be 32 bits and zeros, not {beats[start].tolist()}")
        rows, address, last = fields["list_rows"], fields["address"], fields["last"]
        beat = start + 1
        start = beat + rows * config.list_row_beats
        cores = tuple(core for core in range(8) if fields["cores"] >> core & 1)
        if not rows or start > len(beats):
            raise ValueError(
                f"a segment must have list rows within its {len(beats)} beats, not {rows} up to beat {start}"
            )
        if not cores or cores[-1] >= config.cores:
            raise ValueError(f"a segment must be for some of {config.cores} cores, not for {list(cores)}")
        if address + rows > config.list_words:
            raise ValueError(
                f"a segment reaches to {address + rows}, beyond the {config.list_words} list words of a PE"
            )
        words = unpack_rows(beats[beat:start], config)
        found.append(ChunkRows(cores=cores, address=address, words=words, beat=beat))
    if not last:
        raise ValueError("its last segment must say that it is")
    return tuple(found)
