import pytest

from hw.config import LIST_WORD_BITS, PRESETS, WORD_CHANNELS, preset
from hw.program import isa
from hw.program.bits import bits_of, words_of
from hw.program.protocol import Place, RunResult, memory_depths
from tests.large_machine import LARGE


@pytest.mark.parametrize("layout", [isa.Operation, isa.Row, isa.Column])
def test_words_of_the_program_are_words(layout):
    assert words_of(layout) == 1
    assert bits_of(layout) <= 32


def test_an_operation_fills_a_word():
    assert bits_of(isa.Operation) == 32


def test_list_words_are_as_wide_as_the_list_memory():
    assert bits_of(isa.Entry) == LIST_WORD_BITS
    for config in PRESETS.values():
        assert bits_of(isa.pointer_layout(config)) == LIST_WORD_BITS


def test_an_empty_memory_holds_no_instruction():
    assert 0 not in [member.value for member in isa.Opcode]


def test_addresses_reach_every_word_of_the_largest_memories():
    def bits(layout):
        return {name: field.bits for name, field in layout.fields.items()}

    sizes = {"activation_words": 4096, "accumulators": 1024, "channel_words": 4096, "layer_words": 4096}
    largest = preset(LARGE).replace(program_words=4096, **sizes)
    source, lane, window = bits(isa.Source), bits(isa.LaneDescription), bits(isa.Window)
    assert 1 << source["row_table"] == 1 << source["column_table"] == largest.layer_words
    assert 1 << source["base"] == 1 << bits(isa.Residual)["base"] == 1 << window["base"] == largest.activation_words
    assert 1 << window["count"] > largest.activation_words
    for layout, name in ((isa.Row, "accumulator"), (isa.Column, "accumulator"), (isa.Entry, "offset")):
        assert 1 << bits(layout)[name] == largest.accumulators
    assert 1 << source["accumulator_step"] == 1 << source["dump_length"] == largest.accumulators
    assert WORD_CHANNELS << lane["channel_base"] == largest.channel_words
    # LAYER's address of a description, BRANCH's of an instruction, the first instruction.
    assert 1 << bits(isa.Operation)["target"] == 1 << bits(isa.Header)["entry"] == largest.program_words
    assert 1 << bits(isa.Operation)["target"] == largest.layer_words
    assert 1 << bits(Place)["address"] >= max(memory_depths(largest).values())


def test_the_timeout_of_a_run_is_less_than_the_counter_of_cycles_can_count():
    assert isa.Header.fields["timeout"].bits < RunResult.fields["cycles"].bits
