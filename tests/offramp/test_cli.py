import io
import json
import re
import sys

import pytest
from typer.testing import CliRunner

from fpga.boards import BOARDS
from hw.config import PRESETS, preset
from hw.program.program import load
from offramp import cli, stages
from offramp.cli import app
from offramp.measure.workload_names import WORKLOADS
from offramp.report.pages.result_page import page_of, read_result
from offramp.rtl import run as rtl
from tests.offramp.command_line import COMMANDS, registered, run
from tests.offramp.intake.models import tflite_file
from tests.offramp.results import VERIFY


def test_every_command_is_tested():
    assert registered().keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_options_and_defaults(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text, code = run(name, "--help")
    assert code == 0
    assert re.search(rf"Usage: \S+ {name} \[OPTIONS\]", text)
    assert COMMANDS[name] <= set(re.findall(r"--[a-z-]+", text))
    assert re.search(r"--seed.*\[default: 0\]", text)
    assert not re.search("[\U0001f300-\U0001faff]", text)  # which rich makes of words between colons


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_whole_at_every_width(name, width, monkeypatch):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", width)
    text, _ = run(name, "--help")
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_help_names_what_there_is(monkeypatch):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 200)
    for name, found in (("build", BOARDS), ("board flash", BOARDS), ("bench", WORKLOADS), ("compile", PRESETS)):
        text = run(name, "--help")[0]
        assert all(each in text for each in found)


def test_help_is_in_groups_and_names_the_sizes_of_presets(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text, _ = run("--help")
    assert all(group in text for group in cli._PANELS)
    text, _ = run("compile", "--help")
    for name, config in PRESETS.items():
        assert f"{name} ({config.cores}x{config.pes} PEs)" in " ".join(text.replace("│", " ").split())


def test_json_on_standard_output_is_all_that_stands_there():
    result = CliRunner().invoke(app, ["info", "zoo/digits.off", "--json", "-"], catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["kind"] == "compressed"
    assert "compressed network" in result.stderr
    result = CliRunner().invoke(app, ["info", "zoo/digits.off"], catch_exceptions=False)
    assert "compressed network" in result.stdout


def test_characters_that_the_encoding_does_not_have_are_written_as_their_numbers(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["offramp", "info", "zoo:digits"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert rb"latency, \xb5s: mean / worst / bound" in written.getvalue()


def test_a_file_on_standard_output_is_all_that_stands_there():
    result = CliRunner().invoke(app, ["report", "methods", "-o", "-"], catch_exceptions=False)
    assert re.fullmatch(r"<!doctype html>.*</html>\s*", result.stdout, flags=re.DOTALL)
    assert "figures" in result.stderr
    assert "next: " not in result.stderr  # there is no file that one could open


def test_a_model_from_outside_goes_through_every_command(tmp_path, monkeypatch):
    """Read each time as it is; and imported once, the file is the same."""
    model, results = tflite_file(tmp_path), {}
    monkeypatch.setattr(rtl, "verify", lambda *_, **__: dict(VERIFY))
    monkeypatch.setattr(stages, "bitstream", lambda config, *_, **__: pytest.fail(config.digest()))
    monkeypatch.chdir(tmp_path)
    commands = {
        "info": (),
        "evaluate": ("--config", "tiny"),
        "simulate": ("--config", "tiny", "--images", 9),
        "verify": ("--config", "tiny", "--images", 9, "--rtl", 1),
        "bench": ("--config", "tiny", "--images", 9),
        "compile": ("--config", "tiny"),
        "import": ("-o", "net.off"),
        "export": ("-o", "net"),
    }
    for name, options in commands.items():
        text, code = run(name, model, *options, "--json", f"{name}.json")
        assert code == 0
        assert "classes of output tensor" in " ".join(text.split())
        results[name] = json.loads((tmp_path / f"{name}.json").read_text())
        assert page_of(read_result(tmp_path / f"{name}.json")).title == f"offramp {name}"
    assert {tuple(result["notes"]) for result in results.values()} == {tuple(results["import"]["notes"])}
    assert results["bench"]["images_of"] == "9 random images, seed 0"
    assert results["info"]["network"] == results["import"]["network"]
    assert results["verify"]["reference_equal"]
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["arrays.npz", "network.json"]
    assert results["evaluate"]["images_of"] == "16 random images, seed 0"
    assert results["evaluate"]["accuracy"] is None
    assert results["bench"]["rows"][0]["cycles"] == pytest.approx(results["simulate"]["cycles"]["mean"], rel=0.05)
    with pytest.raises(pytest.fail.Exception, match=preset("small").digest()):
        run("build", model)
    assert load("out/program.off").network.name == "small"
    for name, options, key in (("info", (), "network"), ("simulate", ("--config", "tiny", "--images", 9), "cycles")):
        assert run(name, "net.off", *options, "--json", "again.json")[1] == 0
        assert json.loads((tmp_path / "again.json").read_text())[key] == results[name][key]
