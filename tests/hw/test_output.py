import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from hw import output
from hw.output import STANDARD_OUTPUT, check_file, check_folder, write_file


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def mask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path, mask):
    write_file(tmp_path / "folder" / "new", b"x")
    assert (tmp_path / "folder" / "new").read_bytes() == b"x"
    assert mode(tmp_path / "folder" / "new") == 0o640


def test_an_existing_file_keeps_its_permissions(tmp_path, mask):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    path.chmod(0o604)
    write_file(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o604)


def test_a_link_stays_a_link(tmp_path):
    target, link, dangling = tmp_path / "a" / "target", tmp_path / "link", tmp_path / "dangling"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(Path("a") / "target")
    dangling.symlink_to(tmp_path / "b" / "new")
    write_file(link, b"new")
    write_file(dangling, b"there")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert dangling.is_symlink()
    assert (tmp_path / "b" / "new").read_bytes() == b"there"


def test_links_in_a_circle_are_refused(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(OSError, match=f"Too many levels of symbolic links: '{link}'"):
        check_file(link)


def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_file(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"x" * 200_000)
    reader.join(60)
    assert read == [b"x" * 200_000]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_reader_that_goes_away_is_named(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    threading.Timer(0.2, os.close, (reader,)).start()
    with pytest.raises(ValueError, match=f"^{pipe}: cannot be written: nobody reads it any more$"):
        write_file(pipe, b"x" * 10_000_000)


def test_devices_are_written_to(tmp_path):
    check_file(Path("/dev/null"))
    write_file(Path("/dev/null"), b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'$"):
        write_file(Path("/dev/full"), b"x")


def test_what_is_open_already_is_written_to(tmp_path):
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(b"before ")
        path = Path(f"/proc/self/fd/{file.fileno()}")
        check_file(path)
        write_file(path, b"after")
        assert (tmp_path / "file").stat().st_ino == os.fstat(file.fileno()).st_ino
    assert (tmp_path / "file").read_bytes() == b"before after"


def test_standard_output(capfdbinary):
    check_file(output.STANDARD_OUTPUT)
    write_file(output.STANDARD_OUTPUT, b"\x00x")
    assert capfdbinary.readouterr().out == b"\x00x"


def test_a_closed_standard_output_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OSError, match="standard output is closed") as caught:
        check_file(STANDARD_OUTPUT)
    assert caught.value.filename == "-"


def test_a_check_leaves_everything_as_it_is(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    check_file(tmp_path / "old")
    check_file(tmp_path / "none" / "new")
    check_folder(tmp_path / "none" / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize("act", [check_file, lambda path: write_file(path, b"x")])
def test_a_folder_is_no_file(tmp_path, act):
    with pytest.raises(IsADirectoryError, match=f"Is a directory: '{tmp_path}'"):
        act(tmp_path)


@pytest.mark.parametrize("act", [check_file, check_folder, lambda path: write_file(path, b"x")])
def test_a_file_is_no_folder(tmp_path, act):
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(NotADirectoryError, match=f"Not a directory: '{tmp_path / 'file' / 'new'}'"):
        act(tmp_path / "file" / "new")
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_a_file_is_no_output_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(NotADirectoryError, match=f"Not a directory: '{tmp_path / 'file'}'"):
        check_folder(tmp_path / "file")


@pytest.mark.parametrize("act", [check_file, lambda path: write_file(path, b"x")])
def test_a_protected_file_is_not_replaced(tmp_path, monkeypatch, act):
    (tmp_path / "old").write_bytes(b"old")
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(PermissionError, match=f"Permission denied: '{tmp_path / 'old'}'"):
        act(tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize("act", [check_file, check_folder, lambda path: write_file(path, b"x")])
def test_a_full_place_is_refused_and_left_clean(tmp_path, monkeypatch, act):
    def full(_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "new"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        act(path)
    assert list(tmp_path.iterdir()) == []
