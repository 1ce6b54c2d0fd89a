import pytest

from offramp.report.tables import model_tables
from tests.offramp.results import VERIFY


@pytest.mark.parametrize(
    ("reference", "agrees", "said"),
    [
        (True, True, "all tensors equal"),
        (False, True, "codes differ, as those of such a source may: the table above counts them"),
        (False, False, "all tensors DIFFER"),
        (None, True, None),
    ],
)
def test_what_a_source_may_differ_in_is_no_alarm(reference, agrees, said):
    result = {
        **{"reference_equal": reference, "agrees": agrees, "values_equal": True, "cycles_equal": True},
        **{"cycles": {"mean": 5.0, "p50": 5.0, "p99": 6.0, "worst": 6, "bound": 7}, "rtl": VERIFY},
        **{"share_of_limit": 0.5, "macs": 8, "macs_per_multiplier_cycle": 0.25},
    }
    rows = dict(zip(*(column._cells for column in model_tables.figures(result).columns), strict=True))
    assert rows.get("source = golden") == said
