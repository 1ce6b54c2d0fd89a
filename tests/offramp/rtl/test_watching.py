import threading
import time

from offramp.rtl import watching
from offramp.rtl.watching import compiled_files, watched, written_files


def makefiles(folder, module, *, parallel, classes, library="", frame=""):
    """What Verilator writes of a module."""
    (folder / f"{module}_classes.mk").write_text(
        f"VM_PARALLEL_BUILDS = {int(parallel)}\nVM_TRACE = 0\n\nVM_CLASSES_FAST += \\\n  {module} \\\n\n"
        f"VM_CLASSES_SLOW += \\\n  {classes} \\\n\nVM_GLOBAL_FAST += \\\n  {library} \\\n\n"
    )
    (folder / f"{module}.mk").write_text(f"VM_USER_CLASSES = \\\n  {frame} \\\n\n")
    for name in (module, classes):
        (folder / f"{name}.cpp").touch()


def test_modules_are_compiled_as_one_file_each(tmp_path):
    """With the library and the frame, whose C++ lies elsewhere, and what another program wrote beside a module."""
    assert compiled_files(tmp_path) is None
    (tmp_path / "Vcore").mkdir()
    makefiles(tmp_path, "Vtop", parallel=False, classes="Vtop__Slow", library="verilated", frame="verilator")
    makefiles(tmp_path / "Vcore", "Vcore", parallel=False, classes="Vcore__Slow")
    (tmp_path / "Vcore" / "core.cpp").touch()
    assert compiled_files(tmp_path) == (0, 5)
    for number, name in enumerate(
        ("verilated.o", "verilator.o", "Vtop__ALL.o", "Vcore/core.o", "Vcore/Vcore__ALL.o"), start=1
    ):
        (tmp_path / name).touch()
        assert compiled_files(tmp_path) == (number, 5)
    (tmp_path / "Vtop__ALL.cpp").touch()
    assert compiled_files(tmp_path) == (5, 5)


def test_modules_with_waveforms_are_compiled_file_by_file(tmp_path):
    makefiles(tmp_path, "Vtop", parallel=True, classes="Vtop__Slow", library="verilated", frame="verilator")
    (tmp_path / "Vtop.o").touch()
    assert compiled_files(tmp_path) == (1, 4)


def test_files_are_counted_while_they_are_written(tmp_path):
    assert written_files(tmp_path) == 0
    for name in ("Vtop.mk", "Vtop.cpp", "Vtop.h"):
        (tmp_path / name).touch()
    assert written_files(tmp_path) == 2


def test_folders_come_and_go(tmp_path):
    makefiles(tmp_path, "Vtop", parallel=False, classes="Vtop__Slow")
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            (tmp_path / "passing").mkdir()
            (tmp_path / "passing").rmdir()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert {compiled_files(tmp_path) for _ in range(2000)} == {(0, 1)}
    finally:
        stop.set()
        thread.join()


def test_what_is_seen_is_passed_on_until_the_end(monkeypatch):
    monkeypatch.setattr(watching, "_INTERVAL", 0.01)
    seen, told = [None], []
    with watched(lambda: seen[0], lambda *each: told.append(each)):
        time.sleep(0.1)
        assert told == []
        seen[0] = (2, 3, "compile")
        time.sleep(0.2)
    assert set(told) == {(2, 3, "compile")}
    before = len(told)
    time.sleep(0.1)
    assert len(told) == before


def test_without_progress_nothing_is_looked_at():
    with watched(lambda: (_ for _ in ()).throw(AssertionError), None):
        time.sleep(0.05)
