"""Bit layouts: which fields a word has, and their values packed into 32-bit words and unpacked.

A layout is a class that names its fields, each with its width, the lowest first::

    class Entry(Layout):
        weight: signed(8)
        offset: 10

A field's width is a number of bits, :func:`signed` of one, an :class:`FieldEnum` or another layout. Layouts are
plain Python; :mod:`hw.rtl.structs` makes hardware of them.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np

__all__ = [
    "Field",
    "FieldEnum",
    "Layout",
    "Signed",
    "bits_of",
    "decode",
    "encode",
    "pack_words",
    "signed",
    "unpack_field",
    "words_of",
]


class Signed(NamedTuple):
    """The width of a field in two's complement."""

    bits: int


def signed(bits: int) -> Signed:
    """The width of a field in two's complement."""
    return Signed(bits)


class FieldEnum(Enum):
    """Names for the values of a field, which is so many bits wide: ``class Opcode(FieldEnum, bits=4)``."""

    bits: ClassVar[int]

    def __init_subclass__(cls, *, bits: int) -> None:
        cls.bits = bits


class Field(NamedTuple):
    """A field of a layout.

    Attributes
    ----------
    offset, bits : int
        The number of its lowest bit in the layout, and its width.
    low, high : int
        The smallest and largest number that fits.
    kind : int, Signed, or subclass of FieldEnum or Layout
        As the layout says it.
    nested : bool
        Whether it is a layout itself.
    """

    offset: int
    bits: int
    low: int
    high: int
    kind: Any
    nested: bool


class Layout:
    """Base of layouts; a subclass is only read, there are no objects of it.

    Attributes
    ----------
    bits : int
        Width.
    fields : mapping of str to Field
        Lowest first.
    """

    bits: ClassVar[int]
    fields: ClassVar[Mapping[str, Field]]

    def __init_subclass__(cls) -> None:
        fields, offset = {}, 0
        for name, kind in cls.__annotations__.items():
            bits = kind if isinstance(kind, int) else kind.bits
            low = -(1 << bits - 1) if isinstance(kind, Signed) else 0
            nested = isinstance(kind, type) and issubclass(kind, Layout)
            fields[name] = Field(offset, bits, low, low + (1 << bits) - 1, kind, nested)
            offset += bits
        cls.bits, cls.fields = offset, MappingProxyType(fields)


def bits_of(layout: Any) -> int:
    """Width of a layout, in bits."""
    return int(layout.bits)


def words_of(layout: Any) -> int:
    """32-bit words that a layout occupies."""
    return -(-bits_of(layout) // 32)


def _pack(layout: Any, values: dict[str, Any], path: str) -> int:
    fields = layout.fields
    if fields.keys() - {"reserved"} != values.keys() - {"reserved"}:
        raise TypeError(f"{path} takes the fields {', '.join(fields)}, not {', '.join(values)}")
    word = 0
    for name, field in fields.items():
        value = values.get(name, 0)
        if isinstance(value, dict):
            value = _pack(field.kind, value, f"{path}.{name}")
        value = getattr(value, "value", value)
        if not field.low <= value <= field.high:
            raise ValueError(f"{path}.{name} must be in {field.low}..{field.high}, not {value}")
        word |= (int(value) & (1 << field.bits) - 1) << field.offset
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
    word = _pack(layout, values, layout.__name__)
    return [(word >> 32 * i) & 0xFFFF_FFFF for i in range(words_of(layout))]


def _unpack(layout: Any, word: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, (offset, bits, _, high, kind, nested) in layout.fields.items():
        value = word >> offset & (1 << bits) - 1
        if nested:
            values[name] = _unpack(kind, value)
        else:
            values[name] = value if value <= high else value - (1 << bits)
    return values


def decode(layout: Any, words: list[int]) -> dict[str, Any]:
    """Unpack 32-bit words into a dictionary of integers, nested as the layout is."""
    if len(words) != words_of(layout):
        raise ValueError(f"{layout.__name__} is {words_of(layout)} words long, not {len(words)}")
    joined = 0
    for word in reversed(words):
        joined = joined << 32 | int(word)
    return _unpack(layout, joined)


def pack_words(layout: Any, **values: Any) -> np.ndarray:
    """Words of many values at once, each as :func:`encode` packs it: uint32 array.

    Parameters
    ----------
    layout : subclass of Layout
        Of at most 32 bits.
    values : int, or int arrays that broadcast
        One for each field; all must fit.
    """
    words = np.int64(0)
    for name, field in layout.fields.items():
        words = words | (np.asarray(values[name], dtype=np.int64) & (1 << field.bits) - 1) << field.offset
    return np.asarray(words).astype(np.uint32)


def unpack_field(layout: Any, name: str, words: Any) -> Any:
    """A field of many words at once, each as :func:`decode` unpacks it, the inverse of :func:`pack_words`: int64."""
    _, bits, _, high, *_ = field = layout.fields[name]
    value = np.asarray(words, dtype=np.int64) >> field.offset & (1 << bits) - 1
    return np.where(value > high, value - (1 << bits), value) if field.low else value
