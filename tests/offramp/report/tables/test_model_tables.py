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


@pytest.mark.parametrize(("logit", "said"), [(None, False), (0, True), (7153, True)])
def test_differences_of_codes_and_of_logits_stand_apart(logit, said):
    stage = {"images": 4, "accuracy": None, "equal": 0.75, "share": 0.01, "first": "head", "compared": "all tensors"}
    golden = {**stage, "stage": "golden", "equal": None, "largest": None, "share": None, "compared": None}
    source = {**stage, "stage": "source", "largest": 2, "largest_logit": logit}
    table = model_tables.stages({"stages": [source, golden]})
    column = "largest difference of logits, accumulator steps"
    assert (column in table.head) == said
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert [row["largest difference, codes"] for row in rows] == ["2", "-"]
    if said:
        assert [row[column] for row in rows] == [f"{logit:,}", "-"]
