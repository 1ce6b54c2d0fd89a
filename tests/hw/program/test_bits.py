import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.config import preset
from hw.program import isa, protocol
from hw.program.bits import FieldEnum, Layout, bits_of, decode, encode, pack_words, signed, unpack_field, words_of
from tests.hw.layout_values import kinds, plain, values_of

CONFIG = preset("tiny")
ENUMS = kinds(FieldEnum)
LAYOUTS = kinds(Layout)


@pytest.mark.parametrize("name", ENUMS)
def test_enumerations_have_widths_that_hold_distinct_members(name):
    numbers = [member.value for member in ENUMS[name]]
    assert bits_of(ENUMS[name]) in (2, 4, 8)
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 << bits_of(ENUMS[name]) for number in numbers)


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_decode_is_the_inverse_of_encode(name, data):
    layout = LAYOUTS[name]
    values = data.draw(values_of(layout))
    words = encode(layout, **values)
    assert len(words) == words_of(layout)
    assert all(0 <= word < 1 << 32 for word in words)
    assert decode(layout, words) == plain(values)


class Inner(Layout):
    low: 3
    balance: signed(5)


class Outer(Layout):
    op: isa.Opcode
    inner: Inner
    rest: 30


def test_fields_lie_one_after_the_other():
    found = {name: (field.offset, field.bits, field.low, field.high) for name, field in Outer.fields.items()}
    assert found == {"op": (0, 4, 0, 15), "inner": (4, 8, 0, 255), "rest": (12, 30, 0, (1 << 30) - 1)}
    assert Inner.fields["balance"] == (3, 5, -16, 15, signed(5), False)
    assert (bits_of(Inner), bits_of(Outer), words_of(Outer)) == (8, 42, 2)


def test_a_layout_by_hand():
    values = {"op": isa.Opcode.STOP, "inner": {"low": 5, "balance": -2}, "rest": 1 << 20 | 3}
    assert encode(Outer, **values) == [3 | 5 << 4 | 30 << 7 | 3 << 12, 1]
    assert decode(Outer, [3 | 5 << 4 | 30 << 7 | 3 << 12, 1]) == plain(values)


def test_every_layout_is_there():
    some = {"Operation", "Decision", "LayerDescription", "Header", "Row", "Column", "Entry", "RunResult"}
    assert some <= LAYOUTS.keys()


def test_reserved_bits_need_no_value():
    assert encode(protocol.Place, address=5, core=3) == [5 | 3 << 24]
    assert encode(protocol.Place, address=5, core=3, reserved=0) == [5 | 3 << 24]


ROW = {"list": 1, "accumulator": 2, "count": 3, "final": 1, "parts": 6, "skip": 2}
HEADER = dict.fromkeys(isa.Header.fields, 0)
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
        (isa.Header, HEADER | {"timeout": 1 << 31}, "Header.timeout must be in 0..2147483647, not 2147483648"),
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
    with pytest.raises(ValueError, match=r"^Column is 1 words long, not 2$"):
        decode(isa.Column, [0, 0])


#: Layouts whose values are packed many at once.
ARRAYS = [isa.Entry, isa.SplitEntry, isa.pointer_layout(CONFIG), isa.cuts_layout(CONFIG), isa.Row, isa.Column]


@pytest.mark.parametrize("layout", ARRAYS, ids=lambda layout: layout.__name__)
@given(data=st.data())
def test_many_words_are_packed_as_each_is(layout, data):
    drawn = data.draw(st.lists(values_of(layout), min_size=1, max_size=5))
    columns = {name: np.array([values[name] for values in drawn]) for name in layout.fields}
    words = pack_words(layout, **columns)
    assert words.dtype == np.uint32
    assert words.tolist() == [word for values in drawn for word in encode(layout, **values)]
    for name, column in columns.items():
        found = unpack_field(layout, name, words)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, column)


def test_one_value_serves_many_words_and_a_number_is_a_word():
    words = pack_words(isa.SplitEntry, weight=-3, offset=np.array([[1], [2]]), marks=np.array([0, 3]))
    assert words.shape == (2, 2)
    assert words[1, 1] == encode(isa.SplitEntry, weight=-3, offset=2, marks=3)[0]
    assert unpack_field(isa.SplitEntry, "weight", int(words[0, 0])) == -3
