"""Lists that are followed position by position make the products of the definition of a convolution."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hw.compiler.memory.kernel_lists import Lists, kernel_lists, list_cells
from hw.compiler.steps.blocks import block_of, blocks_of
from hw.compiler.steps.expansion import CoreTask
from hw.compiler.steps.geometry import Axis, column_classes
from hw.compiler.steps.split import split_of
from hw.compiler.steps.step import Kernel
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.list_memory import marks_of, pack_entries, unpack_split_entries
from hw.program.tiles import Tile
from tests.hw.compiler.steps.test_geometry import axes, contributions

#: Of an input position and channel: how often a weight goes to an output position and channel.
Products = Counter[tuple[tuple[int, int, int], tuple[int, int, int], int]]


@dataclass(frozen=True)
class Work:
    """A core's task over some input channels."""

    task: CoreTask
    inputs: tuple[int, int]
    config: AcceleratorConfig

    @property
    def dump_length(self) -> int:
        """Channels of an output position in each PE."""
        return self.task.words * WORD_CHANNELS // self.config.pes

    @property
    def axis(self) -> Axis:
        """Along the rows of the walk."""
        return self.task.kernel.rows.band(*self.task.rows)[1]

    def lists(self) -> Lists:
        """What is tested."""
        return kernel_lists(self.task, self.inputs, self.config)

    def place(self, pe: int, top: int, left: int, offset: int) -> tuple[int, int, int]:
        """Output row, column and channel of an entry's accumulator, where the activation's are counted from."""
        accumulator = (top * self.task.kernel.columns.outputs + left) * self.dump_length + offset
        position, number = divmod(accumulator, self.dump_length)
        row, column = divmod(position, self.task.kernel.columns.outputs)
        return row, column, self.task.channels[0] + number * self.config.pes + pe


def fields(work: Work, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, accumulator offsets and marks."""
    if work.task.split is None:
        return entries[:, 0], entries[:, 1], np.zeros(len(entries), dtype=np.int64)
    words = pack_entries(entries[:, 0], entries[:, 1])
    return *unpack_split_entries(words), marks_of(words)


def expected(work: Work) -> Products:
    """By the definition."""
    kernel, (first, last) = work.task.kernel, work.task.channels
    found = Products()
    for y, i, down in contributions(work.axis):
        for x, j, right in contributions(kernel.columns):
            for made in range(first, last):
                for channel in [made] if kernel.depthwise else range(*work.inputs):
                    weight = int(kernel.weight[made, i, j, 0 if kernel.depthwise else channel])
                    if weight:
                        found[(y, x, channel), (down, right, made), weight] += 1
    return found


def followed(work: Work) -> Products:
    """As the lists say it, which aren't split."""
    task, kernel, pes, lists = work.task, work.task.kernel, work.config.pes, work.lists()
    channels = work.dump_length if kernel.depthwise else work.inputs[1] - work.inputs[0]
    assert lists.cuts is None
    assert len(lists.entries) == task.list_count(work.inputs, work.config)
    found = Products()
    for y in range(work.axis.size):
        taps = work.axis.taps(y)
        whole, top = block_of(taps, work.axis)
        # Kernel rows one by one, or all that meet the row together.
        met = [(whole, top)] if whole in task.blocks else [(((kernel_row, 0),), down) for kernel_row, down in taps]
        for x, (number, left) in enumerate(column_classes(kernel.columns)[1]):
            for block, start in met:
                first = (number * len(task.blocks) + task.blocks.index(block)) * channels
                for channel, parts in enumerate(lists.entries[first : first + channels]):
                    for pe, entries in enumerate(parts):
                        given = task.channels[0] + channel * pes + pe if kernel.depthwise else work.inputs[0] + channel
                        for weight, offset in entries.tolist():
                            found[(y, x, given), work.place(pe, start, left, offset), weight] += 1
    return found


def followed_in_parts(work: Work) -> Products:
    """As split lists say it: a position takes the parts that it meets, but for entries with a mark that it skips."""
    task, split, lists = work.task, work.task.split, work.lists()
    assert split is not None
    assert lists.cuts is not None
    depth = work.inputs[1] - work.inputs[0]
    assert len(lists.entries) == len(lists.cuts) == split.lists * depth
    found = Products()
    for y in range(work.axis.size):
        top = block_of(work.axis.taps(y), work.axis)[1]
        for x, (_, left) in enumerate(column_classes(task.kernel.columns)[1]):
            along, across = (y, x) if split.rows_parted else (x, y)
            parts, (number, skip) = split.parted.masks[along], split.marked.places[across]
            met = [part for part in range(3) if parts >> part & 1]
            for channel in range(depth):
                each = lists.entries[number * depth + channel]
                for pe, (entries, cuts) in enumerate(zip(each, lists.cuts[number * depth + channel], strict=True)):
                    edges = [0, *cuts.tolist(), len(entries)]
                    taken = entries[edges[met[0]] : edges[met[-1] + 1]]
                    for weight, offset, marks in np.stack(fields(work, taken), axis=1).tolist():
                        if not marks & skip:
                            found[(y, x, work.inputs[0] + channel), work.place(pe, top, left, offset), weight] += 1
    return found


@st.composite
def works(draw, *, depthwise: bool = False, split: bool = False) -> Work:
    """A band of some rows, and some channels, of a random kernel with zeros."""
    small = axes().filter(lambda axis: axis.size <= 6)
    rows, columns = draw(small), draw(small)
    config = AcceleratorConfig(pes=draw(st.sampled_from([2, 2, 4, 8])), list_words=4096, accumulators=1024)
    depth, words = draw(st.sampled_from([1, 3, 9])), draw(st.sampled_from([(0, 1), (0, 2), (1, 3)]))
    channels = words[0] * WORD_CHANNELS, draw(st.integers((words[1] - 1) * WORD_CHANNELS + 1, words[1] * WORD_CHANNELS))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = (channels[1], rows.kernel, columns.kernel, 1 if depthwise else depth)
    weight = rng.integers(-127, 128, shape) * (rng.random(shape) < draw(st.sampled_from([0.1, 0.5, 1.0])))
    kernel = Kernel(weight=weight.astype(np.int8), rows=rows, columns=columns, depthwise=depthwise)
    first = draw(st.integers(0, rows.outputs - 1))
    band = first, draw(st.integers(first + 1, rows.outputs))
    walk = None
    if split:
        walk = split_of(rows.band(*band)[1], columns, column_major=draw(st.booleans()))
        assume(walk is not None)
    blocks = () if split else blocks_of(kernel, band, draw(st.booleans()))
    task = CoreTask(Tile(0, band, words), channels, 0, kernel, band, blocks, walk)
    inputs = (8, depth) if depth > 8 and not depthwise and draw(st.booleans()) else (0, depth)
    return Work(task, inputs, config)


#: The fewest accumulators that a config can have.
FEW = 64
KINDS = [
    pytest.param(works(), id="whole"),
    pytest.param(works(depthwise=True), id="depthwise"),
    pytest.param(works(split=True), id="split"),
]


@settings(max_examples=40)
@given(works())
def test_lists_of_a_convolution(work):
    assert followed(work) == expected(work)


@settings(max_examples=20)
@given(works(depthwise=True))
def test_lists_of_groups_of_channels(work):
    assert followed(work) == expected(work)


@settings(max_examples=40)
@given(works(split=True))
def test_split_lists(work):
    assert followed_in_parts(work) == expected(work)


@pytest.mark.parametrize(("depthwise", "split"), [(False, False), (True, False), (False, True)])
def test_offsets_wrap_around_the_accumulators(depthwise, split):
    axis = Axis(size=6, kernel=3, stride=1, pad=1, outputs=6)
    kernel = Kernel(weight=np.ones((16, 3, 3, 1), dtype=np.int8), rows=axis, columns=axis, depthwise=depthwise)
    walk = split_of(axis, axis, column_major=False) if split else None
    blocks = () if split else blocks_of(kernel, (0, 6), merged=True)
    task = CoreTask(Tile(0, (0, 6), (0, 2)), (0, 16), 0, kernel, (0, 6), blocks, walk)
    config = AcceleratorConfig(pes=2, list_words=4096, accumulators=1024)
    # Of split lists an offset has 8 bits, which these all fit.
    whole, wrapped = (kernel_lists(task, (0, 1), config.replace(accumulators=size)) for size in (1024, FEW))
    work, beyond = Work(task, (0, 1), config), 0
    for many, few in zip(whole.entries, wrapped.entries, strict=True):
        for one, other in zip(many, few, strict=True):
            (weights, offsets, marks), found = fields(work, one), fields(work, other)
            np.testing.assert_array_equal(found, (weights, offsets % FEW, marks))
            beyond += np.count_nonzero(offsets >= FEW)
    assert beyond


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(st.data())
def test_cells_are_as_many_in_every_list_and_nothing_lies_beyond_the_channels(kind, data):
    """An estimate of a layer's lists takes the cells for the entries that they could have."""
    work = data.draw(kind)
    lists = work.lists()
    cells = list(list_cells(work.task, work.inputs, work.config))
    assert [entries for each in cells for entries in np.count_nonzero(each.weights, axis=2).tolist()] == [
        [len(part) for part in parts] for parts in lists.entries
    ]
    beyond = work.task.channels[1] - work.task.channels[0] - (work.dump_length - 1) * work.config.pes
    for each in cells:
        assert each.weights.shape[1] == work.config.pes
        assert each.weights.shape[2] == each.offsets.shape[2]
        if not work.task.kernel.depthwise:
            # Of the last accumulator of a position only so many PEs make a channel.
            last = each.weights[:, max(beyond, 0) :, work.dump_length - 1 :: work.dump_length]
            assert not last.any()


def test_a_global_pool_has_a_weight_of_1_for_every_channel():
    axis = Axis(size=3, kernel=3, stride=1, pad=0, outputs=1)
    weight = np.ones((20, 1, 1, 1), dtype=np.int8)
    kernel = Kernel(weight=weight, rows=axis, columns=axis, depthwise=True, global_pool=True)
    blocks = blocks_of(kernel, (0, 1), merged=False)
    task = CoreTask(Tile(0, (0, 1), (1, 3)), (8, 20), 0, kernel, (0, 1), blocks)
    lists = kernel_lists(task, (0, 20), AcceleratorConfig(pes=4))
    found = [[part.tolist() for part in parts] for parts in lists.entries]
    # Twelve channels in four PEs, and four dummies without a weight.
    assert found == [[[[1, group]]] * 4 for group in range(3)] + [[[]] * 4]


@pytest.mark.parametrize(("cuts", "words"), [(None, 1), (np.zeros((1, 4, 2), dtype=np.int64), 2)])
def test_a_pointer_of_split_lists_has_its_cuts_behind_it(cuts, words):
    assert Lists([[np.zeros((0, 2), dtype=np.int64)] * 4], cuts).pointer_words == words
