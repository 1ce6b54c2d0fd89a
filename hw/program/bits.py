"""Bit layouts as plain integers: how wide they are, and their values packed into 32-bit words and unpacked."""

from functools import cache
from typing import Any

from amaranth import Shape
from amaranth.lib import data

__all__ = ["bits_of", "decode", "encode", "words_of"]


@cache
def bits_of(layout: Any) -> int:
    """Width of a layout, in bits."""
    return Shape.cast(layout).width


@cache
def words_of(layout: Any) -> int:
    """32-bit words that a layout occupies."""
    return -(-bits_of(layout) // 32)


def _pack(layout: Any, values: dict[str, Any], path: str) -> int:
    fields = dict(data.Layout.cast(layout))
    if fields.keys() - {"reserved"} != values.keys() - {"reserved"}:
        raise TypeError(f"{path} takes the fields {', '.join(fields)}, not {', '.join(values)}")
    word = 0
    for name, field in fields.items():
        value = values.get(name, 0)
        if isinstance(value, dict):
            value = _pack(field.shape, value, f"{path}.{name}")
        value = getattr(value, "value", value)
        shape = Shape.cast(field.shape)
        low = -(1 << shape.width - 1) if shape.signed else 0
        high = low + (1 << shape.width) - 1
        if not low <= value <= high:
            raise ValueError(f"{path}.{name} must be in {low}..{high}, not {value}")
        word |= (int(value) & (1 << shape.width) - 1) << field.offset
    return word


def encode(layout: Any, **values: Any) -> list[int]:
    """Pack values into 32-bit words; nested layouts take dictionaries.

    Raises
    ------
    TypeError
        When a field is missing or unknown.
    ValueError
        When a value doesn't fit its field.
    """
    word = _pack(layout, values, getattr(layout, "__name__", "word"))
    return [(word >> 32 * i) & 0xFFFF_FFFF for i in range(words_of(layout))]


@cache
def _fields(layout: Any) -> tuple[tuple[str, int, int, int, Any], ...]:
    """Name, offset, mask, sign bit (0 if unsigned) and, of nested layouts, shape of each field.

    Kept, because Amaranth takes its time to say so.
    """
    found = []
    for name, field in data.Layout.cast(layout):
        shape = Shape.cast(field.shape)
        nested = field.shape if isinstance(field.shape, type) and issubclass(field.shape, data.View) else None
        sign = 1 << shape.width - 1 if shape.signed else 0
        found.append((name, field.offset, (1 << shape.width) - 1, sign, nested))
    return tuple(found)


def _unpack(layout: Any, word: int) -> dict[str, Any]:
    return {
        name: ((word >> offset & mask) ^ sign) - sign if nested is None else _unpack(nested, word >> offset & mask)
        for name, offset, mask, sign, nested in _fields(layout)
    }


def decode(layout: Any, words: list[int]) -> dict[str, Any]:
    """Unpack 32-bit words into a dictionary of integers, nested as the layout is."""
    if len(words) != words_of(layout):
        raise ValueError(f"{getattr(layout, '__name__', 'word')} is {words_of(layout)} words long, not {len(words)}")
    joined = 0
    for word in reversed(words):
        joined = joined << 32 | int(word)
    return _unpack(layout, joined)
