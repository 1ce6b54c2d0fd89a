"""Expected cycles of a run whose lists are read while the layers before are at work."""

from collections.abc import Sequence
from itertools import chain
from math import inf

import numpy as np

from hw.config import AcceleratorConfig

__all__ = ["Reading"]

#: How much a sum of cycles may differ that is found from another one.
_ROUNDING = 1e-9

_ReadingState = tuple[int, int, int, float, float, float, float]


class Reading:
    """A run in which lists are read as soon as those before leave room for them.

    Parameters
    ----------
    rows : sequence of int64 array (commands, 2)
        Of each step and command: words of list memory, and rows that are read
        (:meth:`hw.compiler.search.estimate.Estimate.rows`).
    cycles : sequence of sequence of float
        Of each command of each step, nothing waited for.

    Attributes
    ----------
    cycles : float
        Of the whole run.
    """

    def __init__(self, rows: Sequence[np.ndarray], cycles: Sequence[Sequence[float]], config: AcceleratorConfig):
        # Numba takes a second to load; only networks whose lists are read during the run wait for it.
        from hw.compiler.search.reading_kernel import run_on

        self._run_on = run_on
        self._capacity, self._beats = config.list_words, config.list_row_beats
        commands = sum(map(len, cycles))
        #: Of each command: the words of its lists; when it ends, behind the beginning of the run.
        self._words, self._ends = np.zeros(commands, dtype=np.int64), np.zeros(commands + 1)
        #: When each step begins: commands before it, the first of them whose lists are kept, words of these; when the
        #: last lists have been read and the last command has ended; cycles in which nothing was read for want of room,
        #: and in which a command waited for its lists.
        self._states: list[_ReadingState] = [(0, 0, 0, 0.0, 0.0, 0.0, 0.0)]
        for each in zip(rows, cycles, strict=True):
            self._states.append(self._after(self._states[-1], self._words, self._ends, *each, inf, inf))
        self.cycles: float = self._states[-1][4]

    def other(
        self,
        first: int,
        rows: Sequence[np.ndarray],
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
        further = np.concatenate(rows)
        count = state[0] + len(further)
        words, ends = np.empty(count, dtype=np.int64), np.empty(count + 1)
        words[: state[0]], ends[: state[0] + 1] = self._words[: state[0]], self._ends[: state[0] + 1]
        state = self._after(state, words, ends, further, list(chain.from_iterable(cycles)), pausing, waiting)
        return state[4] if state[0] == count else inf

    def _after(
        self,
        state: _ReadingState,
        words: np.ndarray,
        ends: np.ndarray,
        rows: np.ndarray,
        cycles: Sequence[float],
        pausing: float,
        waiting: float,
    ) -> _ReadingState:
        """The state behind further commands, :func:`hw.compiler.search.reading_kernel.run_on`."""
        sizes, counts, own = rows[:, 0], rows[:, 1], np.array(cycles, dtype=np.float64)
        after: _ReadingState = self._run_on(
            state, words, ends, sizes, counts, own, self._capacity, self._beats, pausing, waiting
        )
        return after
