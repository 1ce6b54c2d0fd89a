import pytest
from amaranth import Shape
from amaranth.lib import data, enum

from hw import isa
from hw.config import LIST_WORD_BITS, PRESETS, WORD_CHANNELS, preset
from hw.words import bits_of, words_of

ENUMS = {
    name: value
    for name, value in vars(isa).items()
    if isinstance(value, type) and value.__module__ == isa.__name__ and issubclass(value, enum.Enum)
}


@pytest.mark.parametrize("layout", [isa.Operation, isa.Row, isa.Column, isa.CommandHeader, isa.ReplyHeader])
def test_words_of_the_program_and_the_stream_are_words(layout):
    assert words_of(layout) == 1
    assert bits_of(layout) <= 32


def test_headers_of_the_stream_fill_a_word():
    assert bits_of(isa.Operation) == bits_of(isa.CommandHeader) == bits_of(isa.ReplyHeader) == 32


def test_list_words_are_as_wide_as_the_list_memory():
    assert bits_of(isa.Entry) == LIST_WORD_BITS
    for config in PRESETS.values():
        assert bits_of(isa.pointer_layout(config)) == LIST_WORD_BITS


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_shapes_that_hold_distinct_members(name):
    shape = Shape.cast(ENUMS[name])
    numbers = [member.value for member in ENUMS[name]]
    assert shape.width in (2, 4, 8)
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
    assert WORD_CHANNELS << lane["channel_base"] == largest.channel_words
    # LAYER's address of a description, BRANCH's of an instruction, the first instruction.
    assert 1 << bits(isa.Operation)["target"] == 1 << bits(isa.Header)["entry"] == largest.program_words
    assert 1 << bits(isa.Operation)["target"] == largest.layer_words
    assert 1 << bits(isa.Place)["address"] >= max(isa.memory_depths(largest).values())


@pytest.mark.parametrize("name", PRESETS)
def test_memory_depths_name_every_memory_that_a_program_fills(name):
    config = preset(name)
    depths = isa.memory_depths(config)
    assert depths[isa.Memory.PROGRAM.value] == config.program_words
    assert depths[isa.Memory.BIAS.value] == config.channel_words
    assert depths[isa.Memory.SCALE.value] == 2 * config.channel_words
    lists = {number: depth for number, depth in depths.items() if number >= isa.Memory.LISTS.value}
    assert lists == {isa.Memory.LISTS.value + pe: config.list_words for pe in range(config.pes)}
    assert depths[isa.Memory.LAYERS.value] == config.layer_words
    assert len(depths) == 4 + config.pes
