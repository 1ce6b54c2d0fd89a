"""Expected cycles of a run whose lists are read while the layers before are at work."""

from collections.abc import Sequence
from math import inf

from hw.config import AcceleratorConfig

__all__ = ["ListRows", "Reading"]

#: Of the commands of a step: words of list memory, and rows that are read
#: (:meth:`hw.compiler.search.estimate.Estimate.rows`).
ListRows = Sequence[tuple[int, int]]
#: How much a sum of cycles may differ that is found from another one.
_ROUNDING = 1e-9


class Reading:
    """A run in which lists are read as soon as those before leave room for them.

    Parameters
    ----------
    rows : sequence of ListRows
        Of each step.
    cycles : sequence of sequence of float
        Of each command of each step, nothing waited for.

    Attributes
    ----------
    cycles : float
        Of the whole run.
    """

    def __init__(self, rows: Sequence[ListRows], cycles: Sequence[Sequence[float]], config: AcceleratorConfig):
        self._capacity, self._beats = config.list_words, config.list_row_beats
        #: Of each command: the words of its lists.
        self._words: list[int] = []
        #: When each command ends, behind the beginning of the run.
        self._ends = [0.0]
        #: When each step begins: commands before it, the first of them whose lists are kept, words of these; when the
        #: last lists have been read and the last command has ended; cycles in which nothing was read for want of room,
        #: and in which a command waited for its lists.
        self._states = [(0, 0, 0, 0.0, 0.0, 0.0, 0.0)]
        for each in zip(rows, cycles, strict=True):
            self._states.append(self._after(self._states[-1], *each, self._words, self._ends))
        self.cycles = self._ends[-1]

    def other(
        self,
        first: int,
        rows: Sequence[ListRows],
        cycles: Sequence[Sequence[float]],
        sums: tuple[float, int],
        most: float,
    ) -> float:
        """Cycles of another run that is the same before the step ``first``; infinite if they can't be below ``most``.

        Parameters
        ----------
        rows, cycles
            Of the steps from the first that differs on.
        sums : (float, int)
            Of the cycles of all commands, and of the cycles that reading all lists takes.
        """
        # A run takes no less than its commands and what they have waited for, nor than all reading and its pauses.
        most += _ROUNDING * (most + sums[0])
        waiting, pausing = most - sums[0], most - sums[1]
        state = self._states[first]
        words, ends = self._words[: state[0]], self._ends[: state[0] + 1]
        for each in zip(rows, cycles, strict=True):
            if state[5] > pausing or state[6] > waiting:
                return inf
            state = self._after(state, *each, words, ends)
        return ends[-1]

    def _after(
        self,
        state: tuple[int, int, int, float, float, float, float],
        rows: ListRows,
        cycles: Sequence[float],
        words: list[int],
        ends: list[float],
    ) -> tuple[int, int, int, float, float, float, float]:
        """The state behind a step; words and ends of its commands are appended."""
        number, oldest, held, loaded, last, idle, waited = state
        # A search calls this for every choice that it tries: comparisons are faster than max.
        for (size, count), each in zip(rows, cycles, strict=True):
            held += size
            while held > self._capacity and oldest < number:
                held -= words[oldest]
                oldest += 1
            room = ends[oldest]
            if room > loaded:
                idle += room - loaded
                loaded = room
            loaded += count * self._beats
            if loaded > last:
                waited += loaded - last
                last = loaded
            last += each
            words.append(size)
            ends.append(last)
            number += 1
        return number, oldest, held, loaded, last, idle, waited
