import time

import pytest

from fpga.boards import board
from fpga.flow.build import build
from hw.config import preset
from models import zoo
from offramp.background import background
from tests.fpga.tools import quick_tools

NETWORK = str(zoo.FOLDER / "digits.off")


def finish(process):
    deadline = time.monotonic() + 300
    while not process.wait(0.2):
        assert time.monotonic() < deadline
    return process


def test_a_command_runs_beside_and_its_output_and_result_are_kept(tmp_path):
    log, result = tmp_path / "folder" / "log", tmp_path / "result.json"
    with background(["info", NETWORK], log, result) as process:
        found = finish(process).result()
    assert found["command"] == "info"
    assert found["kind"] == "compressed"
    assert "compressed" in log.read_text()


def test_a_failure_tells_what_the_command_said(tmp_path):
    missing, result = tmp_path / "missing", tmp_path / "result.json"
    result.write_text("{}")  # of an earlier command, which says nothing about this one
    said = f"^info in the background failed: offramp: {missing}: cannot be read: No such file"
    with background(["info", str(missing)], tmp_path / "log", result) as process:
        with pytest.raises(ValueError, match=said):
            finish(process)
    assert not result.exists()


def test_a_command_that_ends_with_1_and_no_result_failed(tmp_path, monkeypatch):
    """As Python itself ends when it can't even import the command."""
    (tmp_path / "typer.py").write_text("raise ImportError('typer is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with background(["info", NETWORK], tmp_path / "log", tmp_path / "made.json") as process:
        with pytest.raises(ValueError, match=r"^info in the background failed: ImportError: typer is broken$"):
            finish(process)


@pytest.mark.slow
def test_a_build_whose_timing_is_not_met_is_done(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    with quick_tools(tmp_path / "tools"):
        build(preset("tiny"), board("ulx3s-25f"), tmp_path / "fpga", clock_mhz=75.0, seed=0)
    arguments = ["build", "--config", "tiny", "--clock", "75", "--out", str(tmp_path / "out")]
    with background(arguments, tmp_path / "log", tmp_path / "made.json") as process:
        built = finish(process).result()["build"]
    assert not built["timing_met"]
    assert "timing is not met: the design reaches 60" in process.last_line()


def test_leaving_the_block_ends_the_command(tmp_path):
    with background(["train", "--out", str(tmp_path)], tmp_path / "log", tmp_path / "made.json") as process:
        assert not process.wait(0.5)
    with pytest.raises(ValueError, match="train in the background failed"):
        process.wait(0.0)
    assert not (tmp_path / "trained.off").exists()
