"""Records have room for what software packs, and carry it bit for bit."""

import pytest
from amaranth import Module, Shape
from amaranth.lib import stream
from amaranth.lib.data import Layout
from amaranth.sim import Simulator

from hw.config import LARGEST, LIST_WORD_BITS, PRESETS, WORD_CHANNELS, preset
from hw.network.selection import Select
from hw.program import protocol
from hw.program.bits import bits_of, encode, words_of
from hw.program.isa import Segment
from hw.program.protocol import ErrorCode, Reply
from hw.program.selection_encoding import masks_of
from hw.rtl import records
from hw.rtl.structs import struct


def widths(layout) -> dict[str, int]:
    return {name: field.width for name, field in Layout.cast(layout)}


def signed_word(bits: int, channel: int) -> int:
    """The 9-bit activation of a channel."""
    value = bits >> 9 * channel & 0x1FF
    return value - (value >> 8 << 9)


def test_words_hold_every_difference_of_two_codes():
    values = [-255, 255, 0, -1, 1, -256, 128, -128]
    bits = records.WORD.const(values).as_bits()
    assert [signed_word(bits, channel) for channel in range(WORD_CHANNELS)] == values
    assert records.PAIR.const(values[:2]).as_bits() == bits & 0x3FFFF
    written = records.WordWrite.const({"index": 0xABCD, "values": values}).as_bits()
    assert (written & 0xFFFF, written >> 16) == (0xABCD, bits)


def test_a_load_names_any_place_that_a_host_can():
    place = protocol.Place.fields
    assert widths(records.LoadWord) == {
        "core": place["core"].bits,
        "memory": bits_of(protocol.Memory),
        "address": place["address"].bits,
        "data": 32,
    }


def test_channel_parameters_are_a_bias_a_multiplier_and_a_shift():
    scale = {"multiplier": (1 << 31) - 1, "shift": 31}
    bits = records.ChannelParameters.const({"bias": -2, "scale": scale}).as_bits()
    assert bits == (1 << 32) - 2 | (1 << 31) - 1 << 32 | 31 << 63
    assert Shape.cast(records.ChannelParameters).width == 32 + 31 + 5


def test_an_order_carries_a_mask_as_the_compiler_packs_it():
    [_, mask] = masks_of(Select(kind="mask", channels=(1, 8, 11, 15)), 2)
    packed = records.MaskWrite.const({"channels": mask, "word": 1}).as_bits()
    assert packed == 0b1000_1001 | 1 << WORD_CHANNELS
    assert Shape.cast(records.MaskWrite).width == widths(records.Order)["value"]


def test_an_order_numbers_every_word_and_channel_of_a_map():
    most = 1 << widths(records.Order)["value"]
    assert most >= LARGEST["activation_words"] * 8
    assert widths(records.PLACE) == {"word": 16, "channel": 3}
    assert Shape.cast(records.OrderKind).width == 3


@pytest.mark.parametrize("layout", [protocol.LayerRecord, protocol.RunResult, protocol.RunError])
def test_an_offered_record_is_the_payload_that_the_host_decodes(layout):
    values = {
        name: (1 << field.bits) - 1 - n for n, (name, field) in enumerate(layout.fields.items()) if field.bits > 8
    }
    offered = stream.Signature(records.ReplyRecord).create()
    dut = Module()
    dut.d.comb += records.offer_record(offered, Reply.RESULT, struct(layout), **values)

    async def look(ctx):
        record = ctx.get(offered.payload)
        assert ctx.get(offered.valid) == 1
        assert (record.reply, record.code, record.length) == (Reply.RESULT, ErrorCode.NONE, words_of(layout))
        expected = encode(layout, **dict.fromkeys(layout.fields, 0) | values)
        assert record.payload == sum(word << 32 * n for n, word in enumerate(expected))

    simulator = Simulator(dut)
    simulator.add_testbench(look)
    simulator.run()


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_a_row_of_lists_has_a_word_for_every_pe(config):
    row = records.list_row(config)
    assert widths(row) == {
        "cores": Segment.fields["cores"].bits,
        "address": config.start_bits,
        "words": LIST_WORD_BITS * config.pes,
    }
    words = [(1 << LIST_WORD_BITS) - 1 - pe for pe in range(config.pes)]
    bits = row.const({"cores": 1, "address": 3, "words": words}).as_bits()
    assert bits >> 8 + config.start_bits == sum(word << LIST_WORD_BITS * pe for pe, word in enumerate(words))


@pytest.mark.parametrize("accumulators", [32, 256, 1024])
def test_a_job_names_any_accumulator_and_marks_only_where_lists_are_split(accumulators):
    config = preset("tiny").replace(accumulators=accumulators)
    found = widths(records.job_layout(config))
    assert 1 << found["accumulator"] == accumulators
    assert ("skip" in found) == config.split_lists
