import re

import pytest
from amaranth import Shape
from amaranth.lib import data, enum
from hypothesis import given
from hypothesis import strategies as st

from hw.program import isa, protocol
from hw.program.bits import decode, encode, words_of

LAYOUTS = {
    name: value
    for module in (isa, protocol)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, data.Struct) and value is not data.Struct
}
ENUMS = {
    name: value
    for module in (isa, protocol)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, enum.Enum)
}


def is_nested(shape) -> bool:
    return isinstance(shape, type) and issubclass(shape, data.View)


def values_of(layout) -> st.SearchStrategy:
    """Valid values of every field, nested as the layout is."""
    fields = {}
    for name, field in data.Layout.cast(layout):
        if is_nested(field.shape):
            fields[name] = values_of(field.shape)
        elif isinstance(field.shape, type) and issubclass(field.shape, enum.Enum):
            fields[name] = st.sampled_from(list(field.shape))
        else:
            shape = Shape.cast(field.shape)
            low = -(1 << shape.width - 1) if shape.signed else 0
            fields[name] = st.integers(low, low + (1 << shape.width) - 1)
    return st.fixed_dictionaries(fields)


def plain(values):
    """Enum members as their numbers."""
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    return getattr(values, "value", values)


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_shapes_that_hold_distinct_members(name):
    shape = Shape.cast(ENUMS[name])
    numbers = [member.value for member in ENUMS[name]]
    assert shape.width in (2, 4, 8)
    assert not shape.signed
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 << shape.width for number in numbers)


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_decode_is_the_inverse_of_encode(name, data):
    layout = LAYOUTS[name]
    values = data.draw(values_of(layout))
    words = encode(layout, **values)
    assert len(words) == words_of(layout)
    assert all(0 <= word < 1 << 32 for word in words)
    assert decode(layout, words) == plain(values)


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_packing_is_that_of_the_hardware(name, data):
    layout = LAYOUTS[name]
    values = data.draw(values_of(layout))
    packed = sum(word << 32 * i for i, word in enumerate(encode(layout, **values)))
    assert packed == layout.const(values).as_bits()


def test_every_layout_is_there():
    some = {"Operation", "Decision", "LayerDescription", "Header", "Row", "Column", "Entry", "RunResult"}
    assert some <= LAYOUTS.keys()


def test_reserved_bits_need_no_value():
    assert encode(protocol.Place, address=5, core=3) == [5 | 3 << 24]
    assert encode(protocol.Place, address=5, core=3, reserved=0) == [5 | 3 << 24]


ROW = {"list": 1, "accumulator": 2, "count": 3, "final": 1}
HEADER = dict.fromkeys(dict(isa.Header.as_shape()), 0)
LAYER = decode(isa.LayerDescription, [0] * words_of(isa.LayerDescription))
WINDOW = {"bank": 0, "base": 1, "low": 2, "count": 3}


@pytest.mark.parametrize(
    ("layout", "values", "message"),
    [
        (isa.Row, ROW | {"count": 16}, "Row.count must be in 0..15, not 16"),
        (isa.Row, ROW | {"accumulator": -1}, "Row.accumulator must be in 0..1023, not -1"),
        (isa.Row, ROW | {"final": 2}, "Row.final must be in 0..1, not 2"),
        (isa.Entry, {"weight": 128, "offset": 0}, "Entry.weight must be in -128..127, not 128"),
        (isa.Entry, {"weight": -129, "offset": 0}, "Entry.weight must be in -128..127, not -129"),
        (
            isa.LayerDescription,
            LAYER | {"window": WINDOW | {"bank": 2}},
            "LayerDescription.window.bank must be in 0..1, not 2",
        ),
        (isa.Header, HEADER | {"limit": 1 << 31}, "Header.limit must be in 0..2147483647, not 2147483648"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_their_path(layout, values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        encode(layout, **values)


@pytest.mark.parametrize(
    ("layout", "values", "path"),
    [
        (isa.Row, {"list": 1, "accumulator": 2, "count": 3}, "Row"),
        (isa.Row, ROW | {"colour": 1}, "Row"),
        (isa.LayerDescription, LAYER | {"window": {"bank": 0}}, "LayerDescription.window"),
        (isa.LayerDescription, LAYER | {"window": WINDOW | {"size": 3}}, "LayerDescription.window"),
    ],
)
def test_missing_and_unknown_fields_are_refused_by_their_path(layout, values, path):
    with pytest.raises(TypeError, match=rf"^{re.escape(path)} takes the fields .*, not "):
        encode(layout, **values)


def test_other_numbers_of_words_are_refused():
    with pytest.raises(ValueError, match=r"^Row is 1 words long, not 2$"):
        decode(isa.Row, [0, 0])
