"""Options that several commands share."""

import pytest

from hw.network.exits import DEFAULT, Conditions
from offramp.terminal.options import conditions


def test_audits_are_counted_in_256_runs():
    assert conditions(0, 1.0, False, 5) == Conditions(audit=256, seed=5)
    assert conditions(0, 0.5, False, 1 << 16) == Conditions(audit=128, seed=0)
    assert conditions(0, 0.0, False, 5) == DEFAULT
    assert conditions(9, 0.0, True, 5) == Conditions(deadline=9, seed=5, constant=True)


def test_an_audit_of_no_run_is_refused():
    assert conditions(0, 0.002, False, 5) == Conditions(audit=1, seed=5)
    with pytest.raises(ValueError, match=r"^--audit must be 0 or nearer to 1/256 than to 0, not 0.0019$"):
        conditions(0, 0.0019, False, 5)
