import time

import pytest

from offramp.background import background


def finish(process):
    deadline = time.monotonic() + 60
    while not process.wait(0.2):
        assert time.monotonic() < deadline
    return process


def test_a_command_runs_beside_and_its_output_is_kept(tmp_path):
    log = tmp_path / "folder" / "log"
    with background(["info", "--help"], log) as process:
        finish(process)
    assert "Say what is in a file" in log.read_text()


def test_a_failure_tells_what_the_command_said(tmp_path):
    missing = tmp_path / "missing"
    said = f"^info in the background failed: offramp: {missing}: cannot be read: No such file"
    with background(["info", str(missing)], tmp_path / "log") as process, pytest.raises(ValueError, match=said):
        finish(process)


def test_leaving_the_block_ends_the_command(tmp_path):
    with background(["train", "--out", str(tmp_path)], tmp_path / "log") as process:
        assert not process.wait(0.5)
    with pytest.raises(ValueError, match="train in the background failed"):
        process.wait(0.0)
    assert not (tmp_path / "trained.off").exists()
