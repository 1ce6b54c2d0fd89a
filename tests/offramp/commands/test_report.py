"""The command that makes a page of a result or of the methods."""

import json
import os

from offramp.report.plots.chart import Chart
from tests.offramp.command_line import refused, run


def test_the_report_of_the_methods(tmp_path, monkeypatch):
    monkeypatch.setattr(Chart, "svg", lambda chart: f"<svg>{chart.name}</svg>")
    text, code = run("report", "methods", "-o", tmp_path / "r.html", "--json", tmp_path / "m.json")
    assert code == 0
    assert "holds" in text
    found = json.loads((tmp_path / "m.json").read_text())
    assert {"networks", "methods", "figures"} <= found.keys()
    for name in found["figures"]:
        assert f">{name}</svg>" in (tmp_path / "r.html").read_text()
    assert run("report", tmp_path / "m.json", "-o", tmp_path / "again.html")[1] == 0


def test_the_report_of_a_result_with_its_figures_as_files(tmp_path):
    run("diff", "tiny", "single", "--json", tmp_path / "d.json")
    text, code = run("report", tmp_path / "d.json", "-o", tmp_path / "r.html", "--plots", tmp_path / "plots")
    assert code == 0
    assert "activation words" in text
    assert text.startswith("… report\n")  # figures take seconds
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {f"changes.{end}" for end in ("svg", "pdf", "csv")}
    drawing = (tmp_path / "plots" / "changes.svg").read_text().removeprefix("<svg")
    assert drawing in (tmp_path / "r.html").read_text()
    assert (tmp_path / "plots" / "changes.pdf").read_bytes().startswith(b"%PDF")


def test_a_result_that_was_changed_is_no_report_and_stays_as_it_is(tmp_path, monkeypatch, capsys):
    file = tmp_path / "d.json"
    run("diff", "tiny", "single", "--json", file)
    found = json.loads(file.read_text())
    found["changes"][2]["what"] = 0
    file.write_text(json.dumps(found))
    said = refused(monkeypatch, capsys, "report", file, "-o", tmp_path / "r.html", "--plots", tmp_path / "plots")
    assert said.startswith(f"{file} must hold what diff writes, unchanged: ")
    os.mkfifo(tmp_path / "pipe")
    said = refused(monkeypatch, capsys, "report", tmp_path / "pipe", "-o", tmp_path / "r.html")
    assert said.endswith("must be the result of a command (--json FILE), not a pipe or a device")
    assert {path.name for path in tmp_path.iterdir()} == {"d.json", "pipe"}
