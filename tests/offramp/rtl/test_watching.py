import threading
import time

from offramp.rtl import watching
from offramp.rtl.watching import compiled_files, watched


def test_files_with_an_object_are_compiled(tmp_path):
    assert compiled_files(tmp_path) is None
    (tmp_path / "part").mkdir()
    for name in ("a.cpp", "b.cpp", "part/c.cpp", "a.o", "part/c.o", "library.o"):
        (tmp_path / name).touch()
    assert compiled_files(tmp_path) == (2, 3)


def test_folders_come_and_go(tmp_path):
    (tmp_path / "a.cpp").touch()
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
    with watched(lambda: seen[0], "compile", lambda *each: told.append(each)):
        time.sleep(0.1)
        assert told == []
        seen[0] = (2, 3)
        time.sleep(0.2)
    assert set(told) == {(2, 3, "compile")}
    before = len(told)
    time.sleep(0.1)
    assert len(told) == before


def test_without_progress_nothing_is_looked_at():
    with watched(lambda: (_ for _ in ()).throw(AssertionError), "compile", None):
        time.sleep(0.05)
