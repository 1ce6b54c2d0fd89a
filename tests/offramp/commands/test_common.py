"""What every command ends with."""

import json

import pytest

from hw.config import PRESETS, preset
from offramp.commands.common import config_option, finish, next_step, show, write_trace
from offramp.files.result_file import SCHEMA


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_named_as_its_option(name):
    assert preset(config_option(preset(name)).removeprefix("--config ")) == preset(name)


def test_a_config_that_is_no_preset_is_named_by_its_sizes():
    assert config_option(preset("base-85f").replace(lanes=2, loader=4)) == "--config base-85f,lanes=2,loader=4"


def test_a_result_says_first_what_made_it(tmp_path):
    path = tmp_path / "result.json"
    finish("info", 7, path, {"file": tmp_path, "value": 3})
    found = json.loads(path.read_text())
    assert (found["command"], found["seed"], found["schema"]) == ("info", 7, SCHEMA)
    assert list(found)[-2:] == ["file", "value"]
    assert found["file"] == str(tmp_path)


def test_without_a_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finish("info", 0, None, {"value": 3})
    assert list(tmp_path.iterdir()) == []


def test_rows_are_output_and_what_is_next_is_not(capsys):
    show([("cycles", "1,234"), ("a long name", "x")])
    next_step("offramp info", "offramp clean")
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [["cycles", "1,234"], ["a", "long", "name", "x"]]
    assert err.strip() == "next: offramp info, or offramp clean"


def test_a_trace_is_written_and_named(tmp_path, capsys):
    write_trace(tmp_path / "trace.json", {"traceEvents": [{"name": "conv"}]})
    assert json.loads((tmp_path / "trace.json").read_text()) == {"traceEvents": [{"name": "conv"}]}
    assert "trace.json" in capsys.readouterr().out
