"""Commands for boards, on a board that is played; tests/rtl/test_board.py has the RTL."""

import json

import pytest

from tests.offramp.command_line import refused, run
from tests.offramp.conftest import PLAYED_IMAGES, PLAYED_MODEL


@pytest.mark.parametrize("place", [("--simulated",), ("--port", "p")])
def test_a_selftest_runs_what_the_board_holds(played, tmp_path, place):
    text, code = run("board selftest", *place, "--images", PLAYED_IMAGES, "--json", tmp_path / "s.json")
    found = json.loads((tmp_path / "s.json").read_text())
    assert code == 0
    assert (found["command"], found["config"], found["images"]) == ("board selftest", "tiny", PLAYED_IMAGES)
    assert (found["values_equal"], found["cycles_equal"], found["mended"]) == (True, True, [])
    assert len(found["per_image"]["label"]) == len(found["per_image"]["margin"]) == PLAYED_IMAGES
    assert text.count("equal") >= 2


@pytest.mark.parametrize("field", ["label", "cycles"])
def test_a_board_that_computes_something_else_ends_with_1(played, field):
    played._results[3] = played._results[3] | {field: played._results[3][field] + 1}
    text, code = run("board selftest", "--simulated", "--images", PLAYED_IMAGES)
    assert code == 1
    assert "DIFFER" in text
    assert f"image 3: {'class' if field == 'label' else field}: board {played._results[3][field]}, expected " in text
    assert run("board bench", PLAYED_MODEL, "--port", "p", "--images", PLAYED_IMAGES)[1] == 1
    # Cycles are compared where that is asked for.
    for option, expected in (((), int(field == "label")), (("--cycles",), 1)):
        assert run("board run", PLAYED_MODEL, "--port", "p", "--images", PLAYED_IMAGES, *option)[1] == expected


def test_noise_is_mended_and_told(played, tmp_path):
    file = tmp_path / "s.json"
    text, code = run("board selftest", "--simulated", "--images", 4, "--noise", "2e-4", "--seed", 3, "--json", file)
    mended = json.loads(file.read_text())["mended"]
    assert code == 0
    assert mended
    assert all(note in " ".join(text.split()) for note in mended)


def test_a_run_and_a_bench(played, tmp_path):
    file = tmp_path / "r.json"
    text, code = run("board run", PLAYED_MODEL, "--port", "p", "--images", PLAYED_IMAGES, "--json", file)
    found = json.loads(file.read_text())
    assert (code, found["port"], found["cycles_equal"]) == (0, "played", None)
    assert "not compared" in text
    assert "next: offramp board bench zoo:digits@tiny --port p" in text
    trace = tmp_path / "t.json"
    assert run("board run", PLAYED_MODEL, "--port", "p", "--images", 2, "--trace", trace)[1] == 0
    shown = [each["name"] for each in json.loads(trace.read_text())["traceEvents"] if each["ph"] == "X"]
    assert [name for name in shown if name.startswith("image ")] == ["image 0", "image 1"]
    assert len(shown) == 2 + sum(map(len, played.counters[:2]))
    text, code = run("board bench", PLAYED_MODEL, "--simulated", "--images", PLAYED_IMAGES, "--json", file)
    found = json.loads(file.read_text())
    assert (code, found["values_equal"], found["cycles_equal"], found["differing"]) == (0, True, True, [])
    assert f"{found['back_to_back']:,.1f}" in text
    assert f"{found['expected']['images_per_second']:,.1f}" in text
    assert run("report", file, "-o", tmp_path / "r.html")[1] == 0


def test_the_next_command_is_for_the_same_board(played):
    place = ("--port", "p", "--clock", 40, "--baud", 1_000_000)
    text, _ = run("board selftest", *place, "--images", 2)
    assert "next: offramp board run zoo:digits --config tiny --port p --clock 40 --baud 1000000" in text
    text, _ = run("board run", "zoo:digits", "--config", "tiny", *place, "--images", 2)
    assert "next: offramp board bench zoo:digits --config tiny --port p --clock 40 --baud 1000000" in text
    text, _ = run("board bench", "zoo:digits", "--config", "tiny", *place[:4], "--link", "usb-full", "--images", 2)
    assert "next: offramp simulate zoo:digits --config tiny --clock 40 --link usb-full" in text


def test_a_board_must_be_named_once(monkeypatch, capsys):
    text = "a board must be named, either by --port or by --simulated"
    for command in ("board run", "board bench"):
        assert refused(monkeypatch, capsys, command, "zoo:digits") == text
    two = "one board must be named, not two: leave out --simulated, or --port x"
    assert refused(monkeypatch, capsys, "board selftest", "--port", "x", "--simulated") == two
    own = "a simulated board has a clock and a link of its own: leave out --clock 40, --link usb-high"
    given = ("--simulated", "--clock", 40, "--link", "usb-high")
    assert refused(monkeypatch, capsys, "board bench", "zoo:digits", *given) == own
    rate = "--baud is for serial links, and usb-full is as fast as its bus: leave out --baud 9600"
    given = ("--port", "x", "--baud", 9600, "--link", "usb-full")
    assert refused(monkeypatch, capsys, "board run", "zoo:digits", *given) == rate
    rate = "--baud is for serial links, and usb is as fast as its bus: leave out --baud 9600"
    assert refused(monkeypatch, capsys, "build", "--baud", 9600, "--link", "usb") == rate
    text = "--noise is no option of board run, but of board selftest"
    assert refused(monkeypatch, capsys, "board run", "--noise", 0) == text


def test_a_port_that_is_not_there_and_a_bitstream_that_is_not_there(monkeypatch, capsys, tmp_path):
    text = refused(monkeypatch, capsys, "board selftest", "--port", tmp_path / "ttyUSB0")
    assert text == f"--port must name a port that is there, not {tmp_path}/ttyUSB0: plug the board in, or name another"
    text = refused(monkeypatch, capsys, "board flash", tmp_path / "none.bit")
    assert text == f"{tmp_path}/none.bit: cannot be read: No such file or directory"
