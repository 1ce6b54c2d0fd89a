import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hw.config import preset
from hw.verilog import TOP
from offramp import simulators
from offramp.simulators import build, cache_root, run_test
from tests.tree import Tree


def test_another_simulator_is_refused():
    with pytest.raises(ValueError, match=r"^simulator must be one of verilator, icarus, not 'questa'$"):
        build(preset("tiny"), "questa")


def test_icarus_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(simulators.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"^iverilog must be on the PATH for simulator icarus; install the package"):
        build(preset("tiny"), "icarus")


def test_the_cache_lies_where_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("OFFRAMP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_root() == tmp_path / "x" / "offramp"


def test_a_build_is_found_again_and_a_failing_test_names_log_and_seed(tmp_path):
    directory = build(preset("tiny"))
    before = dict(os.environ)
    assert build(preset("tiny")) == directory
    with pytest.raises(RuntimeError, match=r"(?s)no_such_test failed on verilator, seed 5; log .*no_such_test\.log"):
        run_test(directory, "verilator", "offramp.rtl_bench", "no_such_test", tmp_path, seed=5)
    assert dict(os.environ) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_simulation_ends_with_the_program_that_runs_it(tmp_path, number):
    tree = Tree(tmp_path)
    tree.script.rename(tmp_path / TOP)
    program = (
        "from pathlib import Path\nfrom offramp.simulators import run_test\n"
        f"run_test(Path({str(tmp_path)!r}), 'verilator', 'offramp.rtl_bench', 'none', Path({str(tmp_path)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2]) as parent:
        assert tree.runs()
        parent.send_signal(number)
        assert parent.wait(60) == -number
    assert tree.gone()


def test_a_tool_that_fails_is_named_with_its_log(tmp_path, monkeypatch):
    tool = tmp_path / "bin" / "verilator"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setattr(simulators, "generate", lambda config: "")
    monkeypatch.setattr(simulators.shutil, "which", lambda name: str(tool))
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=rf"^verilator failed with code 3; log: {tmp_path}/verilator-\w+/build\.log$"
    ):
        build(preset("tiny"))
