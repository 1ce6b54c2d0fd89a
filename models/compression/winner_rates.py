"""Winner rates that follow a schedule in training (:mod:`models.networks.winners`)."""

from collections.abc import Mapping

from models.networks.winners import Winners, attach, set_rates
from models.training.pieces import Piece, Run
from models.training.standard_pieces import Ramp

__all__ = ["WinnerRates"]


class WinnerRates(Piece):
    """Layers get winners, whose rates follow a schedule.

    Parameters
    ----------
    kind : str
        ``elements`` or ``channels``.
    rates : dict of str to float
        Winner rate of each layer in the end, by module name.
    anneal : Ramp or None
        From 0, everything wins, to 1, the rates hold, over the epochs; None holds them from the first.

    Raises
    ------
    ValueError
        When a rate is out of range.
    """

    def __init__(self, kind: str, rates: Mapping[str, float], anneal: Ramp | None = None) -> None:
        self.winners = {name: Winners(kind, rate) for name, rate in rates.items()}
        self.rates, self.anneal = dict(rates), anneal

    def begin(self, run: Run) -> None:
        attach(run.model, self.winners)

    def before_epoch(self, run: Run) -> None:
        part = 1.0 if self.anneal is None else self.anneal.at(run.epoch_share)
        set_rates(run.model, {name: 1.0 - part * (1.0 - rate) for name, rate in self.rates.items()})

    def end(self, run: Run) -> None:
        set_rates(run.model, self.rates)
