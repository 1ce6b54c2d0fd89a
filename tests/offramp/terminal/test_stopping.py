import os
import signal
import sys
import time

import pytest

from offramp import cli
from offramp.terminal import stopping
from offramp.terminal.stopping import Stopped, kept, stoppable


@pytest.fixture(autouse=True)
def _signals_as_usual():
    """Tests that a shell runs in the background ignore some signals, which we then leave ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stop, stoppable():
        os.kill(os.getpid(), number)
    assert stop.value.code == 128 + number
    assert str(stop.value) == f"stopped by {number.name}: files written before are whole and stay"
    assert signal.getsignal(number) == before


def test_what_is_kept_is_said(tmp_path):
    (tmp_path / "state.off").touch()
    with pytest.raises(Stopped) as stop, stoppable(), kept(tmp_path, "a is in {}"), kept(tmp_path, "b"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert str(stop.value) == f"stopped by SIGTERM: b; a is in {tmp_path}; files written before are whole and stay"


@pytest.mark.parametrize("name", ["", "missing"])
def test_where_nothing_is_kept_yet_nothing_is_said_to_be(tmp_path, name):
    with pytest.raises(Stopped) as stop, stoppable(), kept(tmp_path / name, "it is in {}"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert str(stop.value) == "stopped by SIGTERM: files written before are whole and stay"


def test_the_same_request_does_not_disturb_the_cleaning_up():
    with stoppable():
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_later_request_is_another_one(monkeypatch):
    monkeypatch.setattr(stopping, "_SAME", 0.1)
    with stoppable():
        for _ in range(2):
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_command_ends_with_a_sentence_and_its_code(monkeypatch, capsys, number):
    monkeypatch.setattr(sys, "argv", ["offramp", "disasm", "zoo:digits"])
    monkeypatch.setattr("offramp.files.program_files.program", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 128 + number
    output = capsys.readouterr()
    assert output.err == f"offramp: stopped by {number.name}: files written before are whole and stay\n"
    assert output.out == ""
