"""The words of list memories, pointers and entries; what all hold when a LAYER starts, and which of it is certain.

A pointer (:func:`hw.program.isa.pointer_layout`) says where a list begins and how many entries it has; an entry
(:class:`hw.program.isa.Entry`) is a weight and an accumulator offset.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig
from hw.program.bits import pack_words, unpack_field
from hw.program.chunks import ListChunk
from hw.program.isa import Entry, SplitEntry, cuts_layout, pointer_layout

__all__ = [
    "ListMemory",
    "marked_offsets",
    "marks_of",
    "moved_pointers",
    "pack_cuts",
    "pack_entries",
    "pack_pointers",
    "split_entries",
    "unpack_entries",
    "unpack_parts",
    "unpack_pointers",
    "unpack_split_entries",
]


def pack_pointers(starts: Any, counts: Any, config: AcceleratorConfig) -> np.ndarray:
    """Words of pointers: uint32 array.

    Parameters
    ----------
    starts, counts : int, or int arrays of one shape
        First entry's address, and number of entries; both must fit their fields.
    """
    return pack_words(pointer_layout(config), start=starts, count=counts)


def unpack_pointers(words: Any, config: AcceleratorConfig) -> tuple[Any, Any]:
    """First addresses and numbers of entries, int64: the inverse of :func:`pack_pointers`."""
    layout = pointer_layout(config)
    return unpack_field(layout, "start", words), unpack_field(layout, "count", words)


def moved_pointers(words: np.ndarray, base: int, config: AcceleratorConfig) -> np.ndarray:
    """The pointers when all lists lie ``base`` words further on; those of empty lists stay: uint32 array."""
    starts, counts = unpack_pointers(words, config)
    return pack_pointers(starts + np.where(counts > 0, base, 0), counts, config)


def pack_entries(weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Words of entries: uint32 array.

    Parameters
    ----------
    weights, offsets : int arrays of one shape
        Weight (-128..127) and accumulator offset.
    """
    return pack_words(Entry, weight=weights, offset=offsets)


def marked_offsets(offsets: Any, marks: Any) -> Any:
    """Accumulator offsets and marks of entries of split lists, as :func:`pack_entries` takes them for offsets."""
    return unpack_field(Entry, "offset", pack_words(SplitEntry, weight=0, offset=offsets, marks=marks))


def unpack_split_entries(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and accumulator offsets of entries of split lists, int64 arrays."""
    return unpack_field(SplitEntry, "weight", words), unpack_field(SplitEntry, "offset", words)


def marks_of(words: np.ndarray) -> np.ndarray:
    """Marks of entries of split lists, one bit each: int64 array."""
    found: np.ndarray = unpack_field(SplitEntry, "marks", words)
    return found


def pack_cuts(first: Any, second: Any, config: AcceleratorConfig) -> np.ndarray:
    """Words behind the pointers of split lists: uint32 array.

    Parameters
    ----------
    first, second : int arrays of one shape
        Entries of the first part, and of the first two; both must fit their fields.
    """
    return pack_words(cuts_layout(config), first=first, second=second)


def unpack_parts(pointers: Any, cuts: Any, parts: Any, config: AcceleratorConfig) -> tuple[Any, Any]:
    """First addresses and numbers of entries of some parts of split lists: int64 arrays.

    Parameters
    ----------
    pointers, cuts : int64 arrays of one shape
        The words of the lists.
    parts : int, or int array of this shape
        One bit each.
    """
    starts, counts = unpack_pointers(pointers, config)
    first, second = (unpack_field(cuts_layout(config), name, cuts) for name in ("first", "second"))
    before = np.where(parts & 1, 0, np.where(parts & 2, first, second))
    behind = np.where(parts & 4, counts, np.where(parts & 2, second, first))
    return starts + before, behind - before


def unpack_entries(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and accumulator offsets of entries, int64 arrays: the inverse of :func:`pack_entries`."""
    return unpack_field(Entry, "weight", words), unpack_field(Entry, "offset", words)


def split_entries(
    memory: np.ndarray, names: np.ndarray, parts: int, marks: int, config: AcceleratorConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Entries of some parts of split lists, and how many of them have one of these marks.

    Parameters
    ----------
    memory : int64 array (PEs, words)
    names : int array (lists,)
        Numbers of the lists: of pairs of words. Of what is no list some figure is returned.

    Returns
    -------
    int64 arrays (PEs, lists)
    """
    inside = 2 * names + 1 < memory.shape[1]
    address = np.where(inside, 2 * names, 0)
    starts, counts = unpack_parts(memory[:, address], memory[:, address + 1], parts, config)
    # Words that are no list's: of channels that there are not, in the last word of a position.
    counts = np.where(inside, np.clip(counts, 0, np.maximum(0, memory.shape[1] - starts)), 0)
    found = np.zeros(counts.shape, dtype=np.int64)
    if marks:
        flat = counts.reshape(-1)
        lists = np.repeat(np.arange(flat.size), flat)
        offset = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
        words = memory[lists // len(names), starts.reshape(-1)[lists] + offset]
        marked = marks_of(words) & marks != 0
        found = np.bincount(lists[marked], minlength=flat.size).reshape(counts.shape)
    return counts, found


class ListMemory:
    """The list memories of a program's run, from LAYER to LAYER.

    Parameters
    ----------
    lists : uint32 array (cores * PEs, words)
        What a host loads.
    chunks : sequence of ListChunk
    """

    def __init__(self, lists: np.ndarray, chunks: Sequence[ListChunk], config: AcceleratorConfig):
        self._config = config
        self._chunks = chunks
        self._words = np.zeros((config.multipliers, config.list_words), dtype=np.int64)
        self._words[:, : lists.shape[1]] = lists
        self._certain = np.zeros((config.cores, config.list_words), dtype=bool)
        self._certain[:, : lists.shape[1]] = True
        self._written = 0

    def at(self, chunks: int) -> np.ndarray:
        """The words when a LAYER starts for which so many chunks must have been written; hold until the next call.

        Calls must be in program order.

        Returns
        -------
        int64 array (cores, PEs, list words)
        """
        for chunk in self._chunks[self._written : chunks]:
            for segment in chunk.segments:
                end = segment.address + len(segment.words)
                for core in segment.cores:
                    pes = slice(core * self._config.pes, (core + 1) * self._config.pes)
                    self._words[pes, segment.address : end] = segment.words.T
                    self._certain[core, segment.address : end] = True
        self._written = max(self._written, chunks)
        return self._words.reshape(self._config.cores, self._config.pes, -1)

    def lacking(self, finished: int) -> np.ndarray:
        """What is uncertain of them, behind so many LAYERs.

        Returns
        -------
        int64 array (cores, list words + 1)
            Of the words before each address, how many nobody has written or somebody may write while the LAYER runs.
        """
        certain = self._certain.copy()
        for chunk in self._chunks[self._written :]:
            if chunk.after > finished:
                break
            for segment in chunk.segments:
                certain[list(segment.cores), segment.address : segment.address + len(segment.words)] = False
        return np.pad(np.cumsum(~certain, axis=1), ((0, 0), (1, 0)))
