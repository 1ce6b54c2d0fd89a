import json

import pytest

from offramp.difference import Change, changes, described, sort_of_both
from offramp.files import paths
from offramp.files.result_file import SCHEMA
from tests.offramp.command_line import refused, run


def test_equal_things_have_no_differences(small):
    program = str(small.folder / paths.PROGRAM)
    first, second = (described(program, None, None, None, 0) for _ in range(2))
    assert changes(first, second) == []
    assert changes(first, first | {"versions": {"torch": "1"}, "per_image": [3], "timeline": [{"layer": "a"}]}) == []


def test_configs_differ_in_their_sizes():
    found = changes(*(described(name, None, None, None, 0) for name in ("single", "single,lanes=2,loader=2")))
    assert found == [
        Change(table="", row="", what="lanes", first=1, second=2),
        Change(table="", row="", what="loader", first=0, second=2),
    ]


def test_models_are_measured_on_the_same_images():
    first, second = (described(name, "single", None, None, 0) for name in ("zoo:digits-dense", "zoo:digits"))
    found = {(each.table, each.row, each.what): (each.first, each.second) for each in changes(first, second)}
    before, after = found["", "", "cycles mean"]
    assert before > after
    assert found["", "", "network nonzero_weights"][0] > found["", "", "network nonzero_weights"][1]
    assert found["layers", "early.first.conv", "cycles"][0] > found["layers", "early.first.conv", "cycles"][1]
    assert found["network layers", "branch_head.linear", "output"] == (None, "1x1x10")
    assert ("memories", "lists", "used") in found
    assert ("", "", "config") not in found


def test_results_are_compared_by_name(tmp_path):
    one = {"command": "bench", "rows": [{"workload": "a", "cycles": 100.0}, {"workload": "b", "cycles": 7}], "seed": 0}
    other = {"command": "bench", "rows": [{"workload": "b", "cycles": 7}, {"workload": "a", "cycles": 80.0}], "seed": 1}
    for name, result in (("1.json", one), ("2.json", other)):
        (tmp_path / name).write_text(json.dumps(result))
    output, code = run("diff", tmp_path / "1.json", tmp_path / "2.json", "--json", tmp_path / "d.json")
    assert code == 0
    assert "-20.0" in output
    found = json.loads((tmp_path / "d.json").read_text())["changes"]
    assert found == [
        {"table": "rows", "row": "a", "what": "cycles", "first": 100.0, "second": 80.0},
        {"table": "", "row": "", "what": "seed", "first": 0, "second": 1},
    ]
    assert "nothing is different" in run("diff", tmp_path / "1.json", tmp_path / "1.json")[0]


def test_changes_beyond_a_float_have_no_percent(tmp_path):
    for name, cycles in (("1.json", 7), ("2.json", 10**400)):
        (tmp_path / name).write_text(json.dumps({"command": "bench", "cycles": cycles}))
    output, code = run("diff", tmp_path / "1.json", tmp_path / "2.json")
    assert code == 0
    assert "cycles" in output


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "1", 1.0, True, None, [1]])
def test_results_of_another_version_are_not_compared(tmp_path, schema):
    (tmp_path / "1.json").write_text(json.dumps({"command": "bench", "schema": schema}))
    with pytest.raises(ValueError, match=rf"1\.json must have schema {SCHEMA}, not .* of another version of Offramp"):
        described(str(tmp_path / "1.json"), None, None, None, 0)


def test_what_is_nothing_of_these_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json: cannot be read"):
        described(str(tmp_path / "gone.json"), None, None, None, 0)
    with pytest.raises(ValueError, match="each of the sizes"):
        described("single,size=3", None, None, None, 0)


def test_things_of_two_sorts_are_not_compared(tmp_path, monkeypatch, capsys):
    with pytest.raises(
        ValueError,
        match=r"^diff compares two models, two configs or two results: single is a config, zoo:digits a model$",
    ):
        sort_of_both("single", "zoo:digits")
    for name, command in (("1.json", "simulate"), ("2.json", "bench")):
        (tmp_path / name).write_text(json.dumps({"command": command}))
    said = refused(monkeypatch, capsys, "diff", tmp_path / "1.json", tmp_path / "2.json")
    assert said == "diff compares results of one command, not of simulate and bench"
