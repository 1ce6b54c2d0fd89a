"""What checks of values share."""

from typing import Any

__all__ = ["MisfitError", "ShortageError", "integer", "integers", "require", "shown", "text"]

#: Most characters of a value in a message.
_LONGEST = 80


def require(condition: Any, message: str) -> None:
    """Raise a ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def integer(value: Any) -> bool:
    """Whether a value is an integer, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def integers(value: Any, count: int) -> bool:
    """Whether a value is a tuple of so many integers."""
    return isinstance(value, tuple) and len(value) == count and all(integer(n) for n in value)


def text(value: Any) -> bool:
    """Whether a value is a text, not empty and of characters that can be printed."""
    return isinstance(value, str) and bool(value) and value.isprintable()


def shown(value: Any) -> str:
    """A value as a message shows it: whatever a file holds, a few characters."""
    try:
        found = repr(value)
    except ValueError:  # Python shows no integer of more than some thousand digits.
        found = "a number of too many digits"
    return found if len(found) <= _LONGEST else f"{found[:_LONGEST]}..."


class MisfitError(ValueError):
    """A network doesn't fit an accelerator: in a certain way, or in no way at all."""


class ShortageError(MisfitError):
    """A network doesn't fit list or activation memories.

    Parameters
    ----------
    message : str
        Names the memory, and by how much it is too small.
    words : int
        How many words are missing.
    """

    def __init__(self, message: str, words: int):
        super().__init__(message)
        self.words = words
