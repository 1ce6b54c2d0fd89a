"""Winner rates follow their schedule in training."""

from types import SimpleNamespace

import pytest
from torch import nn

from models.compression.winner_rates import WinnerRates
from models.datasets.splits import Dataset
from models.networks.architectures import initial
from models.networks.residual_net import Architecture
from models.networks.winners import attached
from models.training.hyperparameters import Schedule
from models.training.pieces import Piece
from models.training.standard_pieces import Ramp
from models.training.train import fit

RATES = {"0": 0.5, "2": 0.25}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))


def rates_of(model: nn.Module) -> dict[str, tuple[str, float]]:
    return {name: (winners.kind, winners.rate) for name, winners in attached(model).items()}


def run_of(model: nn.Module, share: float) -> SimpleNamespace:
    return SimpleNamespace(model=model, epoch_share=share)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, (1.0, 1.0)), (0.25, (1.0, 1.0)), (0.5, (0.75, 0.625)), (0.75, (0.5, 0.25))]
)
def test_from_everything_wins_to_the_rates(share, expected):
    piece, model = WinnerRates("channels", RATES, Ramp(first=0.0, last=1.0, begin=0.25, end=0.75)), net()
    piece.begin(run_of(model, 0.0))
    piece.before_epoch(run_of(model, share))
    assert rates_of(model) == {name: ("channels", rate) for name, rate in zip(RATES, expected, strict=True)}
    piece.end(run_of(model, 1.0))
    assert rates_of(model) == {name: ("channels", rate) for name, rate in RATES.items()}


def test_without_a_ramp_the_rates_hold_from_the_first_epoch():
    piece, model = WinnerRates("elements", RATES), net()
    piece.begin(run_of(model, 0.0))
    piece.before_epoch(run_of(model, 0.0))
    assert rates_of(model) == {name: ("elements", rate) for name, rate in RATES.items()}


def test_rates_that_the_caller_changes_later_are_not_followed():
    rates = dict(RATES)
    piece, model = WinnerRates("elements", rates), net()
    rates["0"] = 0.125
    piece.begin(run_of(model, 0.0))
    piece.end(run_of(model, 1.0))
    assert rates_of(model)["0"] == ("elements", 0.5)


@pytest.mark.parametrize("rate", [0.0, 1.01])
def test_rates_out_of_range_are_refused_at_once(rate):
    with pytest.raises(ValueError, match=f"winner rate must be above 0 and at most 1, not {rate}"):
        WinnerRates("elements", {"0": 0.5, "2": rate})


def test_rates_are_annealed_over_the_epochs_of_a_run(digits: Dataset):
    seen = []

    class Diary(Piece):
        def after_epoch(self, run):
            seen.append({name: found.rate for name, found in attached(run.model).items()})

    ramp = Ramp(first=0.0, last=1.0, begin=0.0, end=0.5)
    pieces = [WinnerRates("channels", {"late.second.conv": 0.5}, ramp), Diary()]
    model = initial(Architecture(shape=(8, 8, 1), classes=10, widths=(4, 6), branch_width=3), 0)
    fit(model, digits.train.take(200), Schedule(epochs=5, lr=0.01, batch=100), seed=0, pieces=pieces)
    assert [found["late.second.conv"] for found in seen] == pytest.approx([1.0, 0.75, 0.5, 0.5, 0.5])
