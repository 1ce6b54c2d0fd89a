"""The rule by which runs leave a network through its exits, for many runs at once."""

import numpy as np

__all__ = ["Decisions"]


class Decisions:
    """Decisions of N runs, made exit by exit in their order.

    Attributes
    ----------
    running : bool array (N,)
        Those that have not left yet.
    exit, label, margin : int64 arrays (N,)
        Of the exit taken.
    forced : bool array (N,)
        Left there only because the deadline had passed (:class:`hw.isa.RunOptions`).
    """

    def __init__(self, count: int):
        self.running = np.ones(count, dtype=bool)
        self.exit, self.label, self.margin = (np.zeros(count, dtype=np.int64) for _ in range(3))
        self.forced = np.zeros(count, dtype=bool)

    def part(self, part: slice) -> "Decisions":
        """Some of the runs; what is decided of them is decided here, too."""
        some = Decisions(0)
        some.__dict__.update({name: array[part] for name, array in vars(self).items()})
        return some

    def branch(self, number: int, threshold: int, labels: np.ndarray, margins: np.ndarray, expired: np.ndarray) -> None:
        """A BRANCH: leave where the margin reaches the threshold or the deadline has passed (``expired``)."""
        wants = margins >= threshold
        leaves = self.running & (wants | expired)
        self.forced[leaves & ~wants] = True
        self._leave(number, leaves, labels, margins)

    def stop(self, number: int, labels: np.ndarray, margins: np.ndarray) -> None:
        """A STOP: all leave."""
        self._leave(number, self.running.copy(), labels, margins)

    def _leave(self, number: int, leaves: np.ndarray, labels: np.ndarray, margins: np.ndarray) -> None:
        self.exit[leaves] = number
        self.label[leaves] = labels[leaves]
        self.margin[leaves] = margins[leaves]
        self.running[leaves] = False
