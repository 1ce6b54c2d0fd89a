"""Commands that write Verilog and build bitstreams."""

import json
from pathlib import Path

from hw.config import preset
from offramp.measure import recorded
from offramp.terminal.console import Terminal
from tests.fpga.tools import quick_tools
from tests.offramp.command_line import refused, run
from tests.offramp.intake.models import tflite_file


def test_generate_writes_the_files_of_a_core(tmp_path):
    text, code = run("generate", "--config", "tiny", "--name", "mine", "--out", tmp_path, "--json", tmp_path / "r")
    assert code == 0
    assert preset("tiny").digest()[:16] in text
    made = {path.name for path in tmp_path.iterdir()} - {"r"}
    result = json.loads((tmp_path / "r").read_text())
    assert made == set(result["files"]) >= {"mine.v", "mine.json"}
    assert result["lines"] == (tmp_path / "mine.v").read_text().count("\n")


def test_help_says_which_config_is_built_without_one():
    text = " ".join(run("build", "--help")[0].replace("│", " ").split())
    assert "[default: (the largest that is recorded as routed, and the model fits)]" in text


def test_build_names_files_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "build"))
    # Both rates are 25 cycles a bit: one design.
    for found, baud in ((False, 1_000_000), (True, 1_010_000)):
        arguments = ("build", "--config", "tiny", "--clock", 25, "--baud", baud)
        with quick_tools(tmp_path / f"tools-{found}"):
            text, code = run(*arguments, "--out", tmp_path / "out", "--json", "built.json")
        assert code == 0
        assert f"{baud:,} baud" in text
        result = json.loads(Path("built.json").read_text())
        built, folder = result["build"], f"build/fpga/{result['build']['digest'][:16]}"
        assert (built["bitstream"], built["log"]) == (f"{folder}/board.bit", f"{folder}/build.log")
        assert (result["file"], built["cached"], built["baud"]) == ("out/ulx3s-25f.bit", found, baud)
        assert result["config_digest"] == preset("tiny").digest()


def test_build_with_usb_names_its_link(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "build"))
    with quick_tools(tmp_path / "tools"):
        text, code = run("build", "--config", "tiny", "--board", "ecpix5-45f", "--link", "usb", "--json", "built.json")
    assert code == 0
    assert "USB at high speed, whose bus carries at most 53.2 MB/s" in " ".join(text.split())
    assert json.loads(Path("built.json").read_text())["build"]["link"] == "usb-high"
    said = refused(monkeypatch, capsys, "build", "--config", "tiny", "--board", "colorlight-i5", "--link", "usb")
    assert said.startswith("colorlight-i5: link must be serial, not usb, which these boards have: ulx3s-12f, ")
    said = refused(monkeypatch, capsys, "build", "--config", "tiny", "--link", "usb-high")
    assert said == "--link must be one of serial, usb, not 'usb-high'"


def test_build_says_what_is_to_know_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "build"))
    with quick_tools(tmp_path / "tools"):
        text, code = run("build", tflite_file(tmp_path), "--config", "tiny", "--json", "built.json")
    assert code == 0
    (note,) = json.loads(Path("built.json").read_text())["notes"]
    assert note in " ".join(text.split())


def test_build_without_a_config_takes_none_that_was_recorded_of_other_sizes(tmp_path, monkeypatch, capsys):
    said = []
    monkeypatch.setattr(Terminal, "say", lambda _, text: said.append(text))
    monkeypatch.setattr(recorded, "BASELINES", tmp_path)
    sizes = {"config": "small", "config_digest": preset("small").replace(list_words=512).digest()}
    record = sizes | {"build": {"device": "25k", "timing_met": True}}
    (tmp_path / "build-small.json").write_text(json.dumps(record))
    assert refused(monkeypatch, capsys, "build", "--out", tmp_path) == (
        "--config must name one: none is recorded as routed for ulx3s-25f or a smaller device"
    )
    assert [text.partition(":")[0] for text in said] == ["the recorded build of small is left out"]
