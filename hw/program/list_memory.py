"""The words of list memories, pointers and entries; what all hold when a LAYER starts, and which of it is certain.

A pointer (:func:`hw.program.isa.pointer_layout`) says where a list begins and how many entries it has; an entry
(:class:`hw.program.isa.Entry`) is a weight and an accumulator offset.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig
from hw.program.chunks import ListChunk
from hw.program.isa import Entry

__all__ = ["ListMemory", "moved_pointers", "pack_entries", "pack_pointers", "unpack_entries", "unpack_pointers"]

_WEIGHT_BITS = Entry.fields["weight"].bits
_SIGN = 1 << (_WEIGHT_BITS - 1)


def pack_pointers(starts: Any, counts: Any, config: AcceleratorConfig) -> np.ndarray:
    """Words of pointers: uint32 array.

    Parameters
    ----------
    starts, counts : int, or int arrays of one shape
        First entry's address, and number of entries; both must fit their fields.
    """
    return np.asarray(starts | counts << config.start_bits).astype(np.uint32)


def unpack_pointers(words: Any, config: AcceleratorConfig) -> tuple[Any, Any]:
    """First addresses and numbers of entries, of the words' type: the inverse of :func:`pack_pointers`."""
    return words & ((1 << config.start_bits) - 1), words >> config.start_bits


def moved_pointers(words: np.ndarray, base: int, config: AcceleratorConfig) -> np.ndarray:
    """The pointers when all lists lie ``base`` words further on; those of empty lists stay: uint32 array."""
    starts, counts = unpack_pointers(words, config)
    return pack_pointers(starts + np.where(counts > 0, base, 0).astype(words.dtype), counts, config)


def pack_entries(weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Words of entries: uint32 array.

    Parameters
    ----------
    weights, offsets : int arrays of one shape
        Weight (-128..127) and accumulator offset.
    """
    return (weights & (2 * _SIGN - 1) | offsets << _WEIGHT_BITS).astype(np.uint32)


def unpack_entries(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and accumulator offsets of entries, int64 arrays: the inverse of :func:`pack_entries`."""
    signed = words.astype(np.int64)
    return ((signed & (2 * _SIGN - 1)) ^ _SIGN) - _SIGN, signed >> _WEIGHT_BITS


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
