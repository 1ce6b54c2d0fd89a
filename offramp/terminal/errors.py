"""Tells a user's mistake from ours, and names the stream that can't be written to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from opcode import opmap
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["named_stream", "sentence"]

_HERE = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_HERE / name}{os.sep}" for name in ("hw", "sim", "models", "fpga", "offramp"))


def sentence(error: Exception) -> str | None:
    """What to tell the user, or None when the error is a failure of the program itself.

    A user's mistakes are a wrong command line (Typer's errors), what our own code refuses (ValueError,
    FloatingPointError, and ModuleNotFoundError where a package is missing that not everybody needs) and what the
    operating system does (OSError). The same types raised by a library are nobody's refusal, also where its code is C
    and has no frame.
    """
    if hasattr(error, "format_message"):
        return _of_command_line(error)
    if isinstance(error, OSError):
        said = " ".join((error.strerror or str(error)).split())
        return said if error.filename is None or not error.strerror else f"{error.filename}: {said}"
    if not isinstance(error, ValueError | FloatingPointError | ModuleNotFoundError):
        return None
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None or not _refuses(frame):
        return None
    return " ".join(str(error).split())


def _of_command_line(error: Any) -> str:
    """What is wrong with a command line, and which help says more; empty where help was shown."""
    said, context = " ".join(error.format_message().split()).rstrip("."), getattr(error, "ctx", None)
    return f"{said} (see {context.command_path} --help)" if said and context is not None else said


def _refuses(frame: TracebackType) -> bool:
    """Whether an error began with a ``raise`` of our own code; what C code raises, begins where it is called."""
    code = frame.tb_frame.f_code
    return code.co_filename.startswith(_OURS) and code.co_code[frame.tb_lasti] == opmap["RAISE_VARARGS"]


@contextmanager
def named_stream(name: str = "standard output") -> Iterator[None]:
    """Errors of writing name the stream; one that nobody reads any more is told as it comes (BrokenPipeError)."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error
