import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hw.processes import run, started
from tests.tree import Tree

ROOT = Path(__file__).parents[2]


def test_a_command_runs_to_its_end():
    done = run(["sh", "-c", "cat; echo wrong >&2; exit 3"], given="given", stdout=-1, stderr=-1)
    assert (done.returncode, done.stdout, done.stderr) == (3, "given", "wrong\n")


def test_standard_input_is_empty_unless_given():
    assert run(["cat"], stdout=-1, text=True).stdout == ""


def test_the_exit_code_tells_the_signal_that_ended_the_command():
    assert run(["sh", "-c", "kill -SEGV $$"]).returncode == 128 + signal.SIGSEGV


def test_a_command_that_is_not_there_is_named(tmp_path):
    done = run([tmp_path / "none"], stderr=-1, text=True)
    assert (done.returncode, done.stderr) == (127, f"{tmp_path / 'none'}: No such file or directory\n")


def test_a_folder_that_is_not_there_is_the_callers_mistake(tmp_path):
    with pytest.raises(FileNotFoundError):
        run(["true"], cwd=tmp_path / "none")


def test_the_command_sees_environment_and_folder_of_the_caller(tmp_path):
    done = run(["sh", "-c", "echo $PYTHONPATH $(pwd)"], cwd=tmp_path, env={"PYTHONPATH": "x"}, stdout=-1, text=True)
    assert done.stdout == f"x {tmp_path}\n"


def test_leaving_the_block_ends_the_command_and_what_it_started(tmp_path):
    tree = Tree(tmp_path)
    with started([tree.script]) as process:
        assert tree.runs()
    assert process.returncode == 128 + signal.SIGTERM
    assert tree.gone()


def test_what_takes_too_long_is_ended(tmp_path):
    tree = Tree(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        run([tree.script], timeout=1)
    assert tree.gone()


def test_a_command_that_does_not_listen_is_killed(tmp_path):
    tree = Tree(tmp_path, "trap '' TERM")
    with started([tree.script], patience=0.5) as process:
        assert tree.runs()
        begun = time.monotonic()
    assert time.monotonic() - begun >= 0.5
    assert process.returncode == 128 + signal.SIGKILL
    assert tree.gone()


def test_what_a_command_leaves_running_ends_with_it(tmp_path):
    up = tmp_path / "up"
    tree = Tree(tmp_path, f"touch '{up}'")
    assert run(["sh", "-c", f"'{tree.script}' & until test -e '{up}'; do sleep 0.1; done; exit 5"]).returncode == 5
    assert tree.gone()


def test_a_signal_for_the_keeper_is_for_the_command(tmp_path):
    tree = Tree(tmp_path)
    with started([tree.script]) as process:
        assert tree.runs()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert tree.gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_processes_end_with_their_parent(tmp_path, number):
    tree = Tree(tmp_path)
    # Tests that a shell runs in the background ignore some signals, and so would what they start.
    usual = "from signal import *; signal(2, default_int_handler); signal(1, SIG_DFL); signal(3, SIG_DFL)"
    program = f"{usual}; from hw.processes import run; run(['{tree.script}'])"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL) as parent:
        try:
            assert tree.runs()
            parent.send_signal(number)
            assert parent.wait(60) == -number
        finally:
            parent.kill()
    assert tree.gone()


def test_a_process_of_a_process_ends_with_the_first_parent(tmp_path):
    tree = Tree(tmp_path)
    inner = f"from hw.processes import run; run(['{tree.script}'])"
    outer = f"import sys; from hw.processes import run; run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], cwd=ROOT, stderr=subprocess.DEVNULL) as parent:
        assert tree.runs()
        parent.kill()
    assert tree.gone()
