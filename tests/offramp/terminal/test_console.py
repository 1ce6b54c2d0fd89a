import io
import re
import signal
import sys
import time
from contextlib import suppress

import pytest
from rich.console import Console

from offramp.report.tables.columns import Columns
from offramp.terminal import console
from offramp.terminal.console import Terminal, folded, results
from offramp.terminal.stopping import Stopped, kept


def plain():
    text = io.StringIO()
    return Terminal(Console(file=text, width=200)), text


def test_without_a_terminal_lines_come_only_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    terminal, text = plain()
    with terminal.stage("work") as step:
        for done in range(100):
            now[0] += 0.5
            step(done, 100, "half a second each")
        step(0, 0, "unknown total")
    lines = text.getvalue().splitlines()
    assert lines[0] == "… work"
    assert lines[-1] == "✓ work (50.0 s)"
    assert lines[1] == "  work: half a second each (9 %)"
    assert len(lines) == 12  # one every 5 s


@pytest.mark.parametrize(
    ("stage", "text", "line"),
    [
        ("train", "train: epoch 1/80", "  train: epoch 1/80 (10 %)"),
        ("1/8 train", "train: epoch 1/80", "  1/8 train: epoch 1/80 (10 %)"),
        ("4/8 golden model", "golden model", "  4/8 golden model (10 %)"),
        ("compress", "prune: epoch 1/80", "  compress: prune: epoch 1/80 (10 %)"),
        ("train", "training", "  train: training (10 %)"),
    ],
)
def test_a_stage_is_named_once(monkeypatch, stage, text, line):
    monkeypatch.setattr(console, "_INTERVAL", 0.0)
    terminal, said = plain()
    with terminal.stage(stage) as step:
        step(1, 10, text)
    assert said.getvalue().splitlines()[1] == line


def test_a_bar_names_its_stage_once():
    shown = io.StringIO()
    with Terminal(Console(file=shown, width=120, force_terminal=True)).stage("1/8 train") as step:
        step(1, 10, "train: epoch 1/80")
    assert "1/8 train: epoch 1/80" in shown.getvalue()
    assert "train: train" not in shown.getvalue()


def test_what_is_said_is_taken_as_it_is():
    terminal, text = plain()
    with terminal.stage("net.py:factory: [1]"):
        pass
    assert text.getvalue().startswith("… net.py:factory: [1]\n✓ net.py:factory: [1] (")


def test_an_equal_line_is_repeated_only_as_a_sign_of_life(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    terminal, text = plain()
    with terminal.stage("wait") as step:
        for _ in range(61):
            now[0] += 0.3
            step(0, 0, "synthesis")
    assert text.getvalue().splitlines().count("  wait: synthesis") == 1


def test_a_stage_that_says_nothing_shows_that_it_lives(monkeypatch):
    monkeypatch.setattr(console, "_PATIENCE", 0.05)
    terminal, text = plain()
    with terminal.stage("wait") as step:
        time.sleep(0.3)
        step(0, 0, "synthesis")
        time.sleep(0.3)
    lines = text.getvalue().splitlines()
    assert "  wait, 0 s" in lines
    assert "  wait: synthesis, 0 s" in lines
    before = len(lines)
    time.sleep(0.2)
    assert len(text.getvalue().splitlines()) == before


def test_a_stage_that_is_stopped_says_how_to_go_on(tmp_path):
    terminal, _ = plain()
    with pytest.raises(Stopped) as stop, terminal.stage("work"):
        raise Stopped(signal.SIGINT)
    assert str(stop.value) == (
        "stopped by SIGINT: work was not finished, the same command begins it anew; "
        "files written before are whole and stay"
    )
    (tmp_path / "half").touch()
    with pytest.raises(Stopped) as stop, terminal.stage("work"), kept(tmp_path, "half is kept"):
        raise Stopped(signal.SIGINT)
    assert str(stop.value) == "stopped by SIGINT: half is kept; files written before are whole and stay"


def test_a_failed_stage_is_not_called_done():
    terminal, text = plain()
    with pytest.raises(KeyError), terminal.stage("work"):
        raise KeyError
    assert "✓" not in text.getvalue()


def test_on_a_terminal_a_bar_is_drawn():
    text = io.StringIO()
    with Terminal(Console(file=text, force_terminal=True, width=100)).stage("[work]") as step:
        step(25, 100, "a quarter")
        time.sleep(0.2)
        step(50, 100, "half")
    shown = text.getvalue()
    assert "[work]: half" in shown
    assert "50%" in shown
    assert "left" in shown
    assert "✓ [work]" in shown


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_bar_has_its_times_whole_whatever_is_going_on(width):
    text = io.StringIO()
    with Terminal(Console(file=text, force_terminal=True, width=width)).stage("work") as step:
        step(1, 4, f"{'a long text ' * 20}of 9 files")
        time.sleep(0.2)
        step(2, 4, f"{'a long text ' * 20}of 9 files")
    shown = text.getvalue()
    assert "of 9 files" in shown
    assert re.search(r" 50% 0:00:00, 0:00:0\d left", re.sub(r"\x1b\[[\d;]*m", "", shown))


@pytest.mark.parametrize("width", [20, 40])
def test_a_terminal_without_room_for_a_bar_shows_the_share_whole(width):
    text = io.StringIO()
    with Terminal(Console(file=text, force_terminal=True, width=width)).stage("work") as step:
        step(1, 4, f"{'a long text ' * 20}of 9 files")
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text.getvalue()).replace("\r", "\n").splitlines()
    shown = next(line for line in lines if "%" in line)
    assert shown.rstrip().endswith("of 9 files  25%")
    assert len(shown) <= width


def test_a_bar_does_not_stand_at_a_share_where_the_whole_is_unknown():
    text = io.StringIO()
    with Terminal(Console(file=text, force_terminal=True, width=100)).stage("work") as step:
        step(3, 4, "counted")
        text.truncate(0)
        step(0, 0, "uncounted")
        time.sleep(0.3)
        shown = re.sub(r"\x1b\[[\d;]*m", "", text.getvalue())
    assert "uncounted" in shown
    assert "%" not in shown.partition("uncounted")[2]


def test_the_times_of_a_bar_go_on_when_its_next_part_begins():
    """Parts of equal length follow each other in one stage, as those of a training do."""
    text = io.StringIO()
    with Terminal(Console(file=text, force_terminal=True, width=100)).stage("work") as step:
        step(80, 80, "the first part")
        time.sleep(1.2)
        step(1, 80, "the next part")
        text.truncate(0)
        time.sleep(0.3)
        shown = re.sub(r"\x1b\[[\d;]*m", "", text.getvalue())
    assert " 1% 0:00:01" in shown
    assert "left" not in shown


def test_a_bar_says_how_long_a_stage_goes_on_only_where_that_is_known():
    text = io.StringIO()
    with Terminal(Console(file=text, force_terminal=True, width=100)).stage("work") as step:
        step(0, 0, "uncounted")
        time.sleep(0.3)
        step(1, 8, "the first of 8")
        time.sleep(0.3)
    shown = re.sub(r"\x1b\[[\d;]*m", "", text.getvalue())
    assert " 12% 0:00:00" in shown
    assert "left" not in shown


def test_a_bar_knows_the_speed_of_slow_steps():
    """A C++ file may take minutes to compile; Rich alone forgets after 30 seconds."""
    text, now = io.StringIO(), [0.0]
    console = Console(file=text, force_terminal=True, width=100, get_time=lambda: now[0])
    with Terminal(console).stage("work") as step:
        for done in range(4):
            now[0] = 60.0 * done
            step(done, 8, "compiled")
        time.sleep(0.3)
    shown = re.sub(r"\x1b\[[\d;]*m", "", text.getvalue())
    assert " 38% 0:03:00, 0:05:00 left" in shown


def test_tables_in_a_pipe_are_not_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    results().print("x" * 1400)
    assert capsys.readouterr().out == "x" * 1400 + "\n"
    results().print(Columns([f"column{number}" for number in range(40)], [["1,234,567.8"] * 40]))
    assert [len(line.split()) for line in capsys.readouterr().out.splitlines()] == [40, 40]


def test_what_is_printed_stands_on_lines_of_its_own_without_spaces_at_their_ends(capsys):
    table = Columns(["layer", "kind"], [["a", "conv2d"], ["b", "add"]])
    results().print("", "first", table, "", "last")
    assert capsys.readouterr().out == "\nfirst\nlayer  kind\na      conv2d\nb      add\n\nlast\n"


def test_a_full_standard_output_is_named(monkeypatch):
    with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            results().print("x")
        assert caught.value.filename == "standard output"
        with suppress(OSError):
            full.close()


def test_a_long_line_of_a_listing_goes_on_below_its_first_field():
    line, below = "   5  LAYER  source    bank=0 base=0 row_pitch=8 rows=9", " " * 23
    assert folded(f"{line}\n\n  rows=9", len(line)) == f"{line}\n\n  rows=9"
    assert folded(line, 46).splitlines() == ["   5  LAYER  source    bank=0 base=0", f"{below}row_pitch=8 rows=9"]
    for width in (10, 20, 30):
        lines = folded(line, width).splitlines()
        assert " ".join(lines).split() == line.split()
        assert max(map(len, lines)) <= max(width, width // 2 + len("row_pitch=8"))
