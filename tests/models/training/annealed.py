"""A piece for tests of what pieces can do."""

from collections.abc import Callable

from models.training.pieces import Piece, Run
from models.training.standard_pieces import Ramp


class Annealed(Piece):
    """A value that is set anew before every epoch.

    Parameters
    ----------
    ramp : Ramp
        Over the epochs: the first epoch is at 0, the last at 1.
    put : function
        Called with the value.
    """

    def __init__(self, ramp: Ramp, put: Callable[[float], None]) -> None:
        self.ramp, self.put = ramp, put

    def before_epoch(self, run: Run) -> None:
        self.put(self.ramp.at(run.epoch_share))
