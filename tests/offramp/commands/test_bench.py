"""The command that measures workloads: what it asks for, prints and writes, and how it ends."""

import json
from pathlib import Path

import pytest

from hw.config import preset
from hw.rules import MisfitError
from offramp.measure import bench
from offramp.measure.workloads import WORKLOADS
from offramp.terminal.console import Terminal
from tests.offramp.command_line import refused, run

BASELINES = Path(__file__).parents[3] / "baselines"
RTL = {
    "workload": "ds-cnn", "images": 2, "values_equal": True, "cycles_equal": True, "layers": 9, "ratio": 1234.0,
    "rtl_images_per_second": 0.5, "simulator_images_per_second": 617.0,
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """What would be measured; rows are recorded ones."""
    recorded = (json.loads((BASELINES / f"bench-85f{which}.json").read_text())["rows"] for which in ("", "-loader"))
    rows, seen = {row["workload"]: row for found in recorded for row in found}, []

    def measure(name, config, *, images, seed, progress=None, workload=None):
        seen.append((name, config, images, seed))
        if name not in rows:
            raise MisfitError(f"{name} is too large")
        return rows[name]

    monkeypatch.setattr(bench, "measure_workload", measure)
    monkeypatch.setattr(bench, "against_rtl", lambda name, *_, images, **__: RTL | {"workload": name, "images": images})
    return seen


def test_workloads_are_measured_in_the_order_in_which_they_are_named(asked, tmp_path):
    file = tmp_path / "bench.json"
    workloads = ("--workload", "resnet8-w20", "--workload", "ds-cnn")
    output, code = run("bench", *workloads, "--config", "tiny", "--images", 3, "--seed", 5, "--json", file)
    assert code == 0
    assert asked == [("resnet8-w20", preset("tiny"), 3, 5), ("ds-cnn", preset("tiny"), 3, 5)]
    found = json.loads(file.read_text())
    assert [row["workload"] for row in found["rows"]] == ["resnet8-w20", "ds-cnn"]
    assert (found["command"], found["seed"], found["rtl"], found["curve"], found["peers"]) == ("bench", 5, None, [], [])
    assert output.index("resnet8-w20 on tiny") < output.index("ds-cnn on tiny")
    assert output.splitlines()[-1] == "next: offramp bench --config tiny --verilator 2"


def test_without_a_name_all_workloads_that_fit(asked, tmp_path):
    file = tmp_path / "bench.json"
    assert run("bench", "--verilator", 1, "--json", file)[1] == 0
    assert [(name, config) for name, config, *_ in asked] == [(name, preset("base-85f")) for name in WORKLOADS]
    found = json.loads(file.read_text())
    assert [row["workload"] for row in found["rows"]] == [name for name in WORKLOADS if name != "mobilenet-025"]
    assert found["rtl"]["workload"] == "resnet8-dense"


def test_workloads_that_do_not_fit_are_said_to_be_left_out(asked, monkeypatch):
    said = []
    monkeypatch.setattr(Terminal, "say", lambda terminal, text: said.append(text))
    run("bench")
    left_out = [text for text in said if text.startswith("left out: ")]
    assert left_out == ["left out: mobilenet-025 doesn't fit base-85f: mobilenet-025 is too large"]


def test_a_workload_that_is_named_must_fit(asked, monkeypatch, capsys):
    said = refused(monkeypatch, capsys, "bench", "--workload", "mobilenet-025")
    assert said == "mobilenet-025 doesn't fit base-85f: mobilenet-025 is too large; --workload chooses others"


def test_some_workload_must_fit(asked, monkeypatch, capsys):
    monkeypatch.setattr("offramp.commands.bench.WORKLOADS", ("mobilenet-025",))
    said = refused(monkeypatch, capsys, "bench")
    assert said == "no workload fits base-85f: mobilenet-025 doesn't fit base-85f: mobilenet-025 is too large"


@pytest.mark.parametrize("differing", ["", "values_equal", "cycles_equal"])
def test_rtl_that_differs_ends_with_1_and_its_result_is_written(asked, tmp_path, monkeypatch, differing):
    monkeypatch.setitem(RTL, differing or "ratio", not differing)
    file = tmp_path / "bench.json"
    output, code = run("bench", "--workload", "ds-cnn", "--verilator", 2, "--json", file)
    assert code == (1 if differing else 0)
    found = json.loads(file.read_text())["rtl"]
    assert (found["workload"], found["images"]) == ("ds-cnn", 2)
    assert ("next: offramp build --config base-85f" in output) == (not differing)


@pytest.mark.parametrize("option", [("--workload", "ds-cnn"), ("--verilator", "1"), ("--peers",), ("--sweep",)])
def test_what_is_of_workloads_is_refused_with_a_model(asked, monkeypatch, capsys, option):
    said = refused(monkeypatch, capsys, "bench", "zoo:digits", *option)
    assert said == "--workload, --verilator, --peers and --sweep must go without a model: they are of workloads"
    assert asked == []
