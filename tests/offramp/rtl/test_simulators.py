import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fpga.flow.netlist import STAGES
from hw.config import preset
from hw.rtl.verilog import TOP
from offramp.files.cache_folder import cache_root
from offramp.rtl import simulators
from offramp.rtl.simulators import build, run_test
from offramp.terminal.errors import sentence
from tests.tree import Tree


def test_another_simulator_is_refused():
    with pytest.raises(ValueError, match=r"^simulator must be one of verilator, icarus, not 'questa'$"):
        build(preset("tiny"), "questa")


@pytest.mark.parametrize(
    ("simulator", "tool", "package"),
    [
        ("icarus", "iverilog", "iverilog"), ("icarus", "vvp", "iverilog"),
        ("verilator", "make", "make"), ("verilator", "perl", "perl"), ("verilator", "c++", "g++"),
    ],
)  # fmt: skip
def test_a_tool_that_is_not_installed_is_named(simulator, tool, package, monkeypatch, tmp_path):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    which = shutil.which
    monkeypatch.setattr(simulators.shutil, "which", lambda name, *all_: None if name == tool else which(name, *all_))
    said = f"{tool} must be on the PATH for simulator {simulator}; install the package {package}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        build(preset("tiny"), simulator)


def test_the_cache_lies_where_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("OFFRAMP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_root() == tmp_path / "x" / "offramp"


def test_a_cache_that_is_a_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"^OFFRAMP_CACHE must be a folder, not the file .*cache$"):
        cache_root()


def test_a_simulation_finds_the_libraries_of_this_environment_first(monkeypatch):
    """A build that is found again may name those of an environment that is gone."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    place, *others = simulators._libraries()["LD_LIBRARY_PATH"].split(os.pathsep)
    assert (Path(place) / "libcocotbvpi_verilator.so").is_file()
    assert others == ["/elsewhere"]


def test_a_build_is_found_again_and_a_failing_test_names_log_and_seed(tmp_path):
    directory = build(preset("tiny"))
    before = dict(os.environ)
    assert build(preset("tiny")) == directory
    with pytest.raises(RuntimeError, match=r"(?s)no_such_test failed on verilator, seed 5; log .*no_such_test\.log"):
        run_test(directory, "verilator", "offramp.rtl.bench_side", "no_such_test", tmp_path, seed=5)
    assert dict(os.environ) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_simulation_ends_with_the_program_that_runs_it(tmp_path, number):
    tree = Tree(tmp_path)
    tree.script.rename(tmp_path / TOP)
    program = (
        "from pathlib import Path\nfrom offramp.rtl.simulators import run_test\n"
        f"run_test(Path({str(tmp_path)!r}), 'verilator', 'offramp.rtl.bench_side', 'none', Path({str(tmp_path)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[3]) as parent:
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
    with pytest.raises(ValueError, match=r"^verilator failed") as failed:
        build(preset("tiny"))
    assert re.fullmatch(
        rf"verilator failed with code 3; log: {tmp_path}/verilator-\w+/build\.log", sentence(failed.value) or ""
    )


class Recorded:
    """A runner that builds a file."""

    def build(self, *, build_dir, sources, **_):
        self.folder, self.make_variables = build_dir, os.environ["MAKEFLAGS"]
        assert all(Path(source.value if hasattr(source, "value") else source).parent == build_dir for source in sources)
        (build_dir / TOP).write_text("built")


@pytest.fixture
def recorded(monkeypatch):
    runner = Recorded()
    monkeypatch.setattr(simulators, "generate", lambda config: "")
    monkeypatch.setattr(simulators, "runner", lambda simulator, library, progress: runner)
    return runner


@pytest.mark.parametrize("name", ["a cache", "a#cache", "a$cache", "a:cache", "a'cache"])
def test_a_cache_that_make_cannot_stand_is_built_elsewhere(recorded, tmp_path, monkeypatch, name):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / name))
    directory = build(preset("tiny"))
    assert recorded.folder != directory
    assert not recorded.folder.exists()
    assert directory.parent == tmp_path / name
    assert (directory / TOP).read_text() == "built"
    assert (directory / "complete").exists()


def test_any_other_cache_is_built_in_place(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "cäche"))
    directory = build(preset("tiny"))
    assert recorded.folder == directory
    assert directory.parent == tmp_path / "cäche"


def test_a_netlist_of_each_stage_is_made_once_and_has_a_build_of_its_own(recorded, tmp_path, monkeypatch):
    made, said = [], []

    def cells(verilog, top, stage, board, *, failed, told):
        assert failed.parent.is_dir()
        made.append(stage)
        told("synthesis")
        return f"cells, {stage}"

    monkeypatch.setattr(simulators, "netlist_verilog", cells)
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    stages = [None, *STAGES, *STAGES]
    folders = [build(preset("tiny"), netlist=stage, progress=lambda *step: said.append(step)) for stage in stages]
    assert made == list(STAGES)
    assert folders[1:3] == folders[3:]
    assert len(set(folders)) == 3
    assert [(folder / f"{TOP}.v").read_text() for folder in folders[:3]] == ["", *(f"cells, {each}" for each in STAGES)]
    assert (0, 0, "synthesis") in said


def test_a_netlist_is_compiled_quickly_and_the_rtl_well(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(simulators, "netlist_verilog", lambda *_, **__: "cells")
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    for netlist, level in ((None, "-O2"), *((stage, "-O0") for stage in STAGES)):
        build(preset("tiny"), netlist=netlist)
        assert f" OPT_FAST={level} " in recorded.make_variables


def test_without_any_place_for_make_the_build_is_refused(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "a cache"))
    (tmp_path / "a tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a tmp"))
    with pytest.raises(ValueError, match=r"^OFFRAMP_CACHE or TMPDIR must name a folder .*a cache' and '.*a tmp'$"):
        build(preset("tiny"))
