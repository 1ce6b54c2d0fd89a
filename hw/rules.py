"""What checks of values share."""

from typing import Any

__all__ = ["integer", "integers", "require"]


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
