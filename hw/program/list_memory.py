"""What the list memories of all PEs hold when a LAYER starts, and which of it is certain."""

from collections.abc import Sequence

import numpy as np

from hw.config import AcceleratorConfig
from hw.program.chunks import ListChunk

__all__ = ["ListMemory"]


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
        self._known = np.zeros((config.cores, config.list_words), dtype=bool)
        self._known[:, : lists.shape[1]] = True
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
                    self._known[core, segment.address : end] = True
        self._written = max(self._written, chunks)
        return self._words.reshape(self._config.cores, self._config.pes, -1)

    def lacking(self, finished: int) -> np.ndarray:
        """What is uncertain of them, behind so many LAYERs.

        Returns
        -------
        int64 array (cores, list words + 1)
            Of the words before each address, how many nobody has written or somebody may write while the LAYER runs.
        """
        known = self._known.copy()
        for chunk in self._chunks[self._written :]:
            if chunk.after > finished:
                break
            for segment in chunk.segments:
                known[list(segment.cores), segment.address : segment.address + len(segment.words)] = False
        return np.pad(np.cumsum(~known, axis=1), ((0, 0), (1, 0)))
