"""Tells a user's mistake from ours."""

from pathlib import Path

__all__ = ["sentence"]

_HERE = Path(__file__).resolve().parents[1]
_OURS = tuple(str(_HERE / name) for name in ("hw", "sim", "models", "fpga", "offramp"))


def sentence(error: Exception) -> str | None:
    """What to tell the user, or None when the error is a failure of the program itself.

    A user's mistakes are what our own code refuses (ValueError, FloatingPointError) and what the operating system does
    (OSError). The same types raised inside a library are nobody's refusal.
    """
    if isinstance(error, OSError):
        if error.filename is not None and error.strerror:
            return f"{error.filename}: {error.strerror}"
        return " ".join(str(error).split())
    if not isinstance(error, ValueError | FloatingPointError):
        return None
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None or not place.tb_frame.f_code.co_filename.startswith(_OURS):
        return None
    return " ".join(str(error).split())
