"""When lists come from external memory: the loader's recurrence, for all images at once.

Times are numbers of counted cycles of a run, from 0. A chunk is asked for some cycles after the one before it and not
before enough LAYERs have ended; the source's beats come at a constant rate, so every list row of a chunk is written a
known number of cycles after its first beat.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.config import AcceleratorConfig
from hw.program.chunks import ListChunk
from hw.weight_source import WeightSource
from sim.timing import BEGIN, END_OF_TIME, REQUEST_CYCLES, WRITE_CYCLES

__all__ = ["LoadedRows", "Loading"]


@dataclass(frozen=True)
class LoadedRows:
    """Rows of all chunks, as :func:`sim.kernel.layer_cycles` takes them.

    Attributes
    ----------
    starts : int64 array (cores, chunks + 1)
        Row ``n`` of a core's chunk ``k`` is ``offsets[n]``, ``starts[core, k] <= n < starts[core, k + 1]``.
    offsets : int64 array
        Cycles from a chunk's first beat to that list row's last one.
    """

    starts: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, chunks: Sequence[ListChunk], source: WeightSource, config: AcceleratorConfig) -> "LoadedRows":
        """Those of a program's chunks."""
        starts = np.zeros((config.cores, len(chunks) + 1), dtype=np.int64)
        offsets: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
        count = 0
        for core in range(config.cores):
            starts[core, 0] = count
            for number, chunk in enumerate(chunks):
                for segment in chunk.segments:
                    if core in segment.cores:
                        last = segment.beat + (1 + np.arange(len(segment.words))) * config.list_row_beats - 1
                        offsets.append(last * source.cycles_per_beat)
                        count += len(last)
                starts[core, number + 1] = count
        return cls(starts, np.concatenate(offsets))


class Loading:
    """Follows the chunks of a program through runs on some images.

    Parameters
    ----------
    images : int
    """

    def __init__(self, chunks: Sequence[ListChunk], source: WeightSource, images: int):
        self._source = source
        self._beats = [chunk.beats for chunk in chunks]
        self._after = [chunk.after for chunk in chunks]
        #: Of every image and chunk asked for so far: cycle of its first beat.
        self._first = np.full((images, len(chunks)), END_OF_TIME, dtype=np.int64)
        self._asked = np.zeros(images, dtype=np.int64)
        self._last = np.full(images, -source.cycles_per_beat, dtype=np.int64)
        self._known = 0
        self.ended(0, np.zeros(images, dtype=np.int64))

    def ended(self, layers: int, now: np.ndarray) -> None:
        """So many LAYERs have ended, the last one when so many cycles had passed: int64 array (images,)."""
        while self._known < len(self._beats) and self._after[self._known] <= layers:
            self._asked = np.maximum(self._asked + REQUEST_CYCLES, now)
            first = np.maximum(self._asked + self._source.latency, self._last + self._source.cycles_per_beat)
            self._first[:, self._known] = first
            self._last = first + (self._beats[self._known] - 1) * self._source.cycles_per_beat
            self._known += 1

    def wait(self, chunks: int, now: np.ndarray) -> np.ndarray:
        """Cycles that a layer waits for so many chunks.

        It would start in the last of the cycles that have passed, ``now``: int64 array (images,).
        """
        if not chunks:
            return np.zeros(len(self._asked), dtype=np.int64)
        last = (self._beats[chunks - 1] - 1) * self._source.cycles_per_beat
        written = self._first[:, chunks - 1] + last + 1
        # The sequencer looks in the cycle before the start.
        wait: np.ndarray = np.maximum(0, written - (now - 2))
        return wait

    def held(self, now: np.ndarray) -> np.ndarray:
        """What to add to a list row's offset (:class:`LoadedRows`) for the time at which it holds dispatchers.

        Counted from the start of a layer's units; up to that of the layer so many cycles have passed: int64 array
        (images, chunks asked for).
        """
        # The layer starts in the last of these cycles; dispatchers stand still in the one before the write.
        held: np.ndarray = self._first[:, : self._known] - (now[:, None] - 1) - BEGIN + WRITE_CYCLES - 1
        return np.ascontiguousarray(held)
