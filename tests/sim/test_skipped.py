"""Split lists as the kernel takes them, against the words of the list memories read one by one."""

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import INPUT
from hw.program.bits import decode
from hw.program.isa import SplitEntry, cuts_layout, pointer_layout
from sim.skipped import Skipped, split_lists
from tests.hw.partitions import only
from tests.random_networks import NetworkMaker

CONFIG = AcceleratorConfig(cores=2, pes=4, list_words=2048, accumulators=64, layer_words=1024, accumulator_bits=32)
#: The first activation of the walks: that of any position of two words.
FIRST = 6 * WORD_CHANNELS


@pytest.fixture(scope="module", params=[(1, False), (1, True), (2, False), (2, True)], ids=str)
def cores(request):
    """The cores of a second convolution, of that stride, row by row or column by column, and their list memories."""
    stride, column_major = request.param
    maker = NetworkMaker(np.random.default_rng(stride), (9, 6, 3))
    here = maker.conv(INPUT, 11, (3, 3), pads=(1, 1, 1, 1))
    here = maker.conv(here, 16, (3, 3), (stride, stride), (1, 1, 1, 1), density=0.7)
    maker.head(maker.pool(here), 3)
    with pytest.MonkeyPatch.context() as monkeypatch:
        only(monkeypatch, split=True, column_major=column_major)
        program = compile_network(maker.network("net"), CONFIG)
    lists = program.images["lists"].astype(np.int64).reshape(CONFIG.cores, CONFIG.pes, -1)
    layers = zip(program.commands, program.decoded.layers, strict=True)
    found = next(instruction.working for command, instruction in layers if command.layer == "layer1")
    assert all(core.source.first_list for core in found.values())
    assert any(core.source.blank_rows for core in found.values()) or stride == 2
    return [(number, core, lists[number]) for number, core in found.items()]


def met(words: np.ndarray, number: int, parts: int) -> list[int]:
    """Marks of the entries that a position meets in one PE's list of that number."""
    pointer, cuts = (
        decode(layout(CONFIG), [int(words[2 * number + n])]) for n, layout in enumerate((pointer_layout, cuts_layout))
    )
    bounds = [0, cuts["first"], cuts["second"], pointer["count"]]
    places = [place for part in range(3) if parts >> part & 1 for place in range(bounds[part], bounds[part + 1])]
    return [decode(SplitEntry, [int(words[pointer["start"] + place])])["marks"] for place in places]


def test_every_position_has_the_entries_that_it_meets_and_those_without_a_product_are_told(cores):
    rng, told = np.random.default_rng(0), 0
    for number, core, memory in cores:
        source, found = core.source, split_lists(number, core, FIRST, memory, CONFIG)
        channels, filled = source.words * WORD_CHANNELS, len(core.rows) - source.blank_rows
        pitches = WORD_CHANNELS * source.row_pitch, WORD_CHANNELS * source.column_pitch
        size = FIRST + filled * pitches[0] + len(core.columns) * pitches[1] + channels
        active = rng.random((2, size)) < 0.5
        active.reshape(2, -1, WORD_CHANNELS)[:, 1::2, 3:] = False  # 11 channels in two words
        skipped = np.zeros((2, CONFIG.pes), dtype=np.int64)
        for y, row in enumerate(core.rows):
            for x, column in enumerate(core.columns):
                first, at = found.rows[y] + found.columns[x], FIRST + y * pitches[0] + x * pitches[1]
                for channel in range(11):
                    name = source.first_list + row.list + column.list + channel
                    each = [met(words, name, row.parts & column.parts) for words in memory]
                    counts = found.counts[first + channel]
                    assert counts.tolist() == [*map(len, each), *[0] * (len(counts) - CONFIG.pes)]
                    if y < filled:
                        without = [sum(marks & (row.skip | column.skip) != 0 for marks in some) for some in each]
                        skipped += active[:, at + channel, None] * np.array(without)
        products = sum(each.products(active) for each in found.skipped)
        np.testing.assert_array_equal(products, skipped)
        assert {each.core for each in found.skipped} == {number}
        told += int(skipped.sum())
    assert told


def test_positions_that_leave_the_same_share_their_lists(cores):
    for number, core, memory in cores:
        found = split_lists(number, core, FIRST, memory, CONFIG)
        rows = {(row.list, row.parts, row.skip): first for row, first in zip(core.rows, found.rows, strict=True)}
        columns = {(c.list, c.parts, c.skip): first for c, first in zip(core.columns, found.columns, strict=True)}
        channels = core.source.words * WORD_CHANNELS
        assert len(found.counts) == len(rows) * len(columns) * channels
        firsts = [row + column for row in rows.values() for column in columns.values()]
        assert sorted(firsts) == [*range(0, len(found.counts), channels)]


def test_products_are_counted_of_active_channels_at_each_position():
    skipped = Skipped(core=1, first=np.array([2, 6]), entries=np.array([[1, 0], [10, 3]]))
    active = np.zeros((3, 9), dtype=bool)
    active[1, [2, 3, 7]] = active[2, [1, 4, 5, 6, 8]] = True
    assert skipped.products(active).tolist() == [[0, 0], [21, 6], [1, 0]]
