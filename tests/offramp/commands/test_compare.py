"""The command that says what is different: options that don't fit, and what one does next."""

import json

import pytest

from tests.offramp.command_line import refused, run


@pytest.mark.parametrize(("option", "value"), [("--config", "single"), ("--data", "digits")])
def test_options_of_models_are_not_for_configs(option, value, monkeypatch, capsys):
    said = refused(monkeypatch, capsys, "diff", "single", "small", option, value)
    assert said == f"{option} is of models: single is a config"


def test_the_next_step_fits_what_was_compared(tmp_path):
    (tmp_path / "1.json").write_text(json.dumps({"command": "bench", "cycles": 1}))
    for (first, second), following in {
        ("tiny", "single,lanes=2"): "compile MODEL --config single,lanes=2",
        (tmp_path / "1.json", tmp_path / "1.json"): f"report {tmp_path}/1.json",
        ("zoo:digits", "zoo:digits-dense"): "simulate zoo:digits-dense",
    }.items():
        output, code = run("diff", first, second)
        assert code == 0
        assert output.splitlines()[-1] == f"next: offramp {following}"


def test_a_result_is_one_whatever_its_name(tmp_path):
    for name, cycles in (("first", 100), ("second.JSON", 80)):
        (tmp_path / name).write_text(json.dumps({"command": "bench", "cycles": cycles}))
    output, code = run("diff", tmp_path / "first", tmp_path / "second.JSON")
    assert code == 0
    assert "-20.0 %" in output


def test_what_no_command_wrote_is_not_compared(tmp_path, monkeypatch, capsys):
    file = tmp_path / "a.json"
    file.write_text("{}")
    said = refused(monkeypatch, capsys, "diff", file, file)
    assert said == f"{file} must be the result of a command (--json FILE), which says which command"


def test_changes_are_written_beside_what_was_compared(tmp_path):
    first, second, out = (tmp_path / name for name in ("1.json", "2.json", "out.json"))
    first.write_text(json.dumps({"command": "bench", "cycles": 100, "same": 1}))
    second.write_text(json.dumps({"command": "bench", "cycles": 80, "same": 1}))
    output, code = run("diff", first, second, "--json", out)
    assert code == 0
    found = json.loads(out.read_text())
    assert (found["command"], found["first"], found["second"]) == ("diff", str(first), str(second))
    assert found["changes"] == [{"table": "", "row": "", "what": "cycles", "first": 100, "second": 80}]
    assert "cycles" in output
    assert "same" not in output


def test_a_file_that_would_be_read_and_written_is_refused(tmp_path, monkeypatch, capsys):
    file = tmp_path / "1.json"
    file.write_text(json.dumps({"command": "bench", "cycles": 100}))
    before = file.read_text()
    refused(monkeypatch, capsys, "diff", file, file, "--json", file)
    assert file.read_text() == before
