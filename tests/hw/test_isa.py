import re

import pytest
from amaranth import Shape
from amaranth.lib import data, enum
from hypothesis import given
from hypothesis import strategies as st

from hw import isa
from hw.config import LIST_WORD_BITS, PRESETS, preset

LAYOUTS = {
    name: value
    for name, value in vars(isa).items()
    if isinstance(value, type) and issubclass(value, data.Struct) and value is not data.Struct
}
ENUMS = {
    name: value
    for name, value in vars(isa).items()
    if isinstance(value, type) and value.__module__ == isa.__name__ and issubclass(value, enum.Enum)
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
            fields[name] = st.integers(0, (1 << Shape.cast(field.shape).width) - 1)
    return st.fixed_dictionaries(fields)


def plain(values):
    """Enum members as their numbers."""
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    return getattr(values, "value", values)


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_decode_is_the_inverse_of_encode(name, data):
    layout = LAYOUTS[name]
    values = data.draw(values_of(layout))
    words = isa.encode(layout, **values)
    assert len(words) == isa.words_of(layout)
    assert all(0 <= word < 1 << 32 for word in words)
    assert isa.decode(layout, words) == plain(values)


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_packing_is_that_of_the_hardware(name, data):
    layout = LAYOUTS[name]
    values = data.draw(values_of(layout))
    packed = sum(word << 32 * i for i, word in enumerate(isa.encode(layout, **values)))
    assert packed == layout.const(values).as_bits()


def test_every_layout_is_there():
    assert {"Operation", "Decision", "Layer", "Header", "Row", "Column", "Entry", "Result"} <= LAYOUTS.keys()


def test_reserved_bits_need_no_value():
    assert isa.encode(isa.Operation, op=isa.Opcode.STOP, index=5, target=0) == [3 | 5 << 4]
    assert isa.encode(isa.Operation, op=isa.Opcode.STOP, index=5, target=0, reserved=0) == [3 | 5 << 4]


ROW = {"list": 1, "accumulator": 2, "count": 3, "final": 1}
HEADER = dict.fromkeys(dict(isa.Header.as_shape()), 0)
LAYER = isa.decode(isa.Layer, [0] * isa.words_of(isa.Layer))
WINDOW = {"bank": 0, "base": 1, "low": 2, "count": 3}


@pytest.mark.parametrize(
    ("layout", "values", "message"),
    [
        (isa.Row, ROW | {"count": 16}, "Row.count must be in 0..15, not 16"),
        (isa.Row, ROW | {"accumulator": -1}, "Row.accumulator must be in 0..1023, not -1"),
        (isa.Row, ROW | {"final": 2}, "Row.final must be in 0..1, not 2"),
        (isa.Layer, LAYER | {"window": WINDOW | {"bank": 2}}, "Layer.window.bank must be in 0..1, not 2"),
        (isa.Header, HEADER | {"limit": 1 << 32}, "Header.limit must be in 0..4294967295, not 4294967296"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_their_path(layout, values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        isa.encode(layout, **values)


@pytest.mark.parametrize(
    ("layout", "values", "path"),
    [
        (isa.Row, {"list": 1, "accumulator": 2, "count": 3}, "Row"),
        (isa.Row, ROW | {"colour": 1}, "Row"),
        (isa.Layer, LAYER | {"window": {"bank": 0}}, "Layer.window"),
        (isa.Layer, LAYER | {"window": WINDOW | {"size": 3}}, "Layer.window"),
    ],
)
def test_missing_and_unknown_fields_are_refused_by_their_path(layout, values, path):
    with pytest.raises(TypeError, match=rf"^{re.escape(path)} takes the fields .*, not "):
        isa.encode(layout, **values)


def test_other_numbers_of_words_are_refused():
    with pytest.raises(ValueError, match=r"^Row is 1 words long, not 2$"):
        isa.decode(isa.Row, [0, 0])


@pytest.mark.parametrize("layout", [isa.Operation, isa.Row, isa.Column, isa.CommandHeader, isa.ReplyHeader])
def test_words_of_the_program_and_the_stream_are_words(layout):
    assert isa.words_of(layout) == 1
    assert isa.bits_of(layout) <= 32


def test_headers_of_the_stream_fill_a_word():
    assert isa.bits_of(isa.Operation) == isa.bits_of(isa.CommandHeader) == isa.bits_of(isa.ReplyHeader) == 32


def test_list_words_are_as_wide_as_the_list_memory():
    assert isa.bits_of(isa.Entry) == LIST_WORD_BITS
    for config in PRESETS.values():
        assert isa.bits_of(isa.pointer_layout(config)) == LIST_WORD_BITS


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_shapes_that_hold_distinct_members(name):
    shape = Shape.cast(ENUMS[name])
    numbers = [member.value for member in ENUMS[name]]
    assert shape.width in (4, 8)
    assert not shape.signed
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 << shape.width for number in numbers)


def test_an_empty_memory_holds_no_instruction():
    assert 0 not in [member.value for member in isa.Opcode]


def test_addresses_reach_every_word_of_the_largest_memories():
    def bits(layout):
        return {name: Shape.cast(field.shape).width for name, field in data.Layout.cast(layout)}

    sizes = {"activation_words": 4096, "accumulators": 1024, "channel_words": 4096, "layer_words": 4096}
    largest = preset("base").replace(program_words=4096, **sizes)
    source, lane, window = bits(isa.Source), bits(isa.Lane), bits(isa.Window)
    assert 1 << source["row_table"] == 1 << source["column_table"] == largest.layer_words
    assert 1 << source["base"] == 1 << bits(isa.Residual)["base"] == 1 << window["base"] == largest.activation_words
    assert 1 << window["count"] > largest.activation_words
    for layout, name in ((isa.Row, "accumulator"), (isa.Column, "accumulator"), (isa.Entry, "offset")):
        assert 1 << bits(layout)[name] == largest.accumulators
    assert 1 << source["accumulator_step"] == 1 << source["slots"] == largest.accumulators
    assert 1 << lane["channel_base"] == largest.channel_words
    # LAYER's address of a description, BRANCH's of an instruction, the first instruction.
    assert 1 << bits(isa.Operation)["target"] == 1 << bits(isa.Header)["entry"] == largest.program_words
    assert 1 << bits(isa.Operation)["target"] == largest.layer_words
    assert 1 << bits(isa.Place)["address"] >= max(isa.memory_depths(largest).values())


@pytest.mark.parametrize("name", PRESETS)
def test_memory_depths_name_every_memory_that_a_program_fills(name):
    config = preset(name)
    depths = isa.memory_depths(config)
    assert depths[isa.Memory.PROGRAM.value] == config.program_words
    channels = {isa.Memory.BIAS, isa.Memory.MULTIPLIER, isa.Memory.SHIFT}
    assert {depths[memory.value] for memory in channels} == {config.channel_words}
    lists = {number: depth for number, depth in depths.items() if number >= isa.Memory.LISTS.value}
    assert lists == {isa.Memory.LISTS.value + pe: config.list_words for pe in range(config.pes)}
    assert depths[isa.Memory.LAYERS.value] == config.layer_words
    assert len(depths) == 5 + config.pes
