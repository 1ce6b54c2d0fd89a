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
        width = Shape.cast(field.shape).width
        if not 0 <= value < 1 << width:
            raise ValueError(f"{path}.{name} must be in 0..{(1 << width) - 1}, not {value}")
        word |= int(value) << field.offset
    return word


def encode(layout: Any, **values: Any) -> list[int]:
    """Pack values into 32-bit words; nested layouts take dictionaries, two's complement is the caller's.

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
def _fields(layout: Any) -> tuple[tuple[str, int, int, Any], ...]:
    """Name, offset, largest value and, of nested layouts, shape of each field; Amaranth takes its time to say so."""
    return tuple(
        (
            name,
            field.offset,
            (1 << Shape.cast(field.shape).width) - 1,
            field.shape if isinstance(field.shape, type) and issubclass(field.shape, data.View) else None,
        )
        for name, field in data.Layout.cast(layout)
    )


def _unpack(layout: Any, word: int) -> dict[str, Any]:
    return {
        name: (word >> offset) & largest if nested is None else _unpack(nested, (word >> offset) & largest)
        for name, offset, largest, nested in _fields(layout)
    }


def decode(layout: Any, words: list[int]) -> dict[str, Any]:
    """Unpack 32-bit words into a dictionary of unsigned integers, nested as the layout is."""
    if len(words) != words_of(layout):
        raise ValueError(f"{getattr(layout, '__name__', 'word')} is {words_of(layout)} words long, not {len(words)}")
    joined = 0
    for word in reversed(words):
        joined = joined << 32 | int(word)
    return _unpack(layout, joined)
