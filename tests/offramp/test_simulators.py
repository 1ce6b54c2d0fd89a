import os

import pytest

from hw.config import preset
from offramp import simulators
from offramp.simulators import build, cache_root, run_test


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
