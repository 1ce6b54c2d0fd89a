import pytest

from hw.config import PRESETS, preset
from hw.program import protocol
from hw.program.bits import bits_of
from hw.program.protocol import CommandHeader, Place, ReplyHeader


@pytest.mark.parametrize("layout", [CommandHeader, ReplyHeader, Place])
def test_headers_and_places_fill_a_word(layout):
    assert bits_of(layout) == 32


@pytest.mark.parametrize("name", PRESETS)
def test_memory_depths_name_every_memory_that_a_program_fills(name):
    config = preset(name)
    depths = protocol.memory_depths(config)
    assert depths[protocol.Memory.PROGRAM.value] == config.program_words
    assert depths[protocol.Memory.BIAS.value] == config.channel_words
    assert depths[protocol.Memory.SCALE.value] == 2 * config.channel_words
    lists = {number: depth for number, depth in depths.items() if number >= protocol.Memory.LISTS.value}
    assert lists == {protocol.Memory.LISTS.value + pe: config.list_words for pe in range(config.pes)}
    assert depths[protocol.Memory.LAYERS.value] == config.layer_words
    assert len(depths) == 4 + config.pes
