"""Files that are written for a user: regular ones whole or not at all, pipes and devices as they come.

Whether a place can be written to is found out before the work, without touching what lies there.
"""

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["STANDARD_OUTPUT", "check_file", "check_folder", "write_file"]

#: The name that stands for standard output.
STANDARD_OUTPUT = Path("-")
#: Bytes that a check writes: enough for a file system to notice that it is full.
_BLOCK = 4096


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the operating system name the file that the user named."""
    try:
        yield
    except BrokenPipeError as error:
        raise ValueError(f"{path}: cannot be written: nobody reads it any more") from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _status(path: Path) -> os.stat_result | None:
    """What a path leads to, or None when nothing is there yet."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_replaced(path: Path, status: os.stat_result | None) -> bool:
    """Whether a file is moved to its place whole: not where its name stands for something that is open already."""
    if status is not None and not stat.S_ISREG(status.st_mode):
        return False
    folder = os.path.realpath(path.parent)
    return folder != "/dev" and not folder.startswith("/proc/")


def _check_permission(path: Path) -> None:
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A name for a file that is gone afterwards, unless it was moved."""
    path = folder / f".offramp-{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _create(path: Path, data: bytes) -> None:
    """Write a new file through to the disk, with the permissions that the umask leaves."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _probe(folder: Path) -> None:
    """Try to write in a folder, or where it would be made."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    with _temporary(folder) as path:
        _create(path, bytes(_BLOCK))


def check_folder(path: Path) -> None:
    """Refuse a folder that can't be written into; it may be missing.

    Raises
    ------
    OSError
        Naming the folder.
    """
    with _named(path):
        _probe(Path(os.path.realpath(path)))


def check_file(path: Path) -> None:
    """Refuse a file that :func:`write_file` can't write; what is there stays as it is.

    Raises
    ------
    OSError
        Naming the file.
    """
    if path == STANDARD_OUTPUT:
        if sys.stdout is None:  # closed before Python began
            raise OSError(errno.EBADF, "standard output is closed", str(path))
        return
    with _named(path):
        status = _status(path)
        if status is not None:
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            _check_permission(path)
        if _is_replaced(path, status):
            _probe(Path(os.path.realpath(path)).parent)


def write_file(path: Path, data: bytes) -> None:
    """Write a file.

    A regular one is written beside its place and moved there whole; it keeps its permissions, a link stays a link, and
    missing folders are made. Pipes, devices and standard output (``-``) are written to.

    Raises
    ------
    OSError
        Naming the file; an older one is still there.
    ValueError
        When the reader of a pipe is gone.
    """
    if path == STANDARD_OUTPUT:
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from error
        return
    with _named(path):
        status = _status(path)
        if not _is_replaced(path, status):
            with path.open("ab") as file:
                file.write(data)
            return
        target = Path(os.path.realpath(path))
        if status is not None:
            _check_permission(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(target.parent) as temporary:
            _create(temporary, data)
            if status is not None:
                os.chmod(temporary, stat.S_IMODE(status.st_mode))
            os.replace(temporary, target)
