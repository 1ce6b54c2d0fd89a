import pytest
from amaranth import Shape, Signal
from amaranth.lib import data, enum
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import PRESETS, preset
from hw.program import isa
from hw.program.bits import FieldEnum, Layout, bits_of, encode, words_of
from hw.rtl import structs
from hw.rtl.structs import struct
from tests.hw.layout_values import kinds, values_of

LAYOUTS, ENUMS = kinds(Layout), kinds(FieldEnum)


def test_every_layout_and_enumeration_is_there():
    made = {"cuts_layout", "entry_layout", "pointer_layout", "struct", "table_layouts"}
    assert {*LAYOUTS, *ENUMS, *made} == set(structs.__all__)
    assert all(getattr(structs, name) is struct(layout) for name, layout in LAYOUTS.items())


@pytest.mark.parametrize("name", LAYOUTS)
def test_fields_lie_where_the_layout_says(name):
    layout, shape = LAYOUTS[name], struct(LAYOUTS[name]).as_shape()
    found = {each: (field.offset, field.width, Shape.cast(field.shape).signed) for each, field in shape}
    assert found == {each: (field.offset, field.bits, field.low < 0) for each, field in layout.fields.items()}
    assert bits_of(layout) == bits_of(struct(layout)) == Shape.cast(shape).width
    assert words_of(layout) == words_of(struct(layout))
    for each, field in layout.fields.items():
        if isinstance(field.kind, type):
            assert shape[each].shape is (struct(field.kind) if field.nested else field.kind)


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=25)
@given(data=st.data())
def test_packing_is_that_of_the_hardware(name, data):
    layout = LAYOUTS[name]
    values = data.draw(values_of(layout))
    packed = sum(word << 32 * i for i, word in enumerate(encode(layout, **values)))
    assert packed == struct(layout).const(values).as_bits()


@pytest.mark.parametrize("name", ENUMS)
def test_members_are_the_same_in_hardware(name):
    kind = ENUMS[name]
    assert getattr(structs, name) is kind
    assert Shape.cast(kind) == Shape(bits_of(kind))
    assert isinstance(Signal(kind, init=next(iter(kind))), enum.EnumView)


def test_tables_end_before_what_a_config_without_split_lists_lacks():
    whole, less = (structs.table_layouts(preset("tiny").replace(accumulators=count)) for count in (32, 256))
    assert whole == (structs.Row, structs.Column)
    for layout, short in zip(whole, less, strict=True):
        fields = [(name, field.offset, field.width) for name, field in layout.as_shape()]
        assert [(name, field.offset, field.width) for name, field in short.as_shape()] == fields[:-2]
        assert [name for name, *_ in fields[-2:]] == ["parts", "skip"]
        assert bits_of(short) == fields[-2][1]


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_pointers_are_made_once(config):
    pointer = structs.pointer_layout(config)
    assert pointer is structs.pointer_layout(config) is struct(isa.pointer_layout(config))
    assert issubclass(pointer, data.Struct)
    widths = {"start": config.start_bits, "count": config.count_bits}
    assert {name: field.width for name, field in pointer.as_shape()} == widths
