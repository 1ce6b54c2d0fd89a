"""Tasks cover a step: every output row and channel word once, by the cores that the partition says."""

import numpy as np
import pytest

from hw.compiler.lower import lower
from hw.compiler.steps.expansion import expand_step
from hw.compiler.steps.partition import Partition
from hw.compiler.steps.step import Step
from hw.config import AcceleratorConfig
from hw.network.network import INPUT
from tests.random_networks import NetworkMaker

CONFIG = AcceleratorConfig(cores=4, list_words=8192, accumulators=1024)


def conv(shape: tuple[int, int, int], channels: int) -> Step:
    maker = NetworkMaker(np.random.default_rng(0), shape)
    maker.head(maker.conv(INPUT, channels, (3, 3), pads=(1, 1, 1, 1)), 3)
    return lower(maker.network("net")).steps[0]


@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(("bands", "groups", "commands"), [(1, 1, 1), (2, 2, 1), (4, 1, 3), (1, 4, 1), (2, 1, 2)])
def test_every_output_is_made_once(bands, groups, commands, merged, column_major):
    step = conv((6, 5, 3), 33)
    expansion = expand_step(step, Partition(bands, groups, commands, merged, column_major=column_major), CONFIG)
    made = np.zeros((6, 40), dtype=np.int64)
    for command in expansion.commands:
        assert [task.tile.core for task in command] == list(range(bands * groups))
        for task in command:
            made[slice(*task.tile.rows), slice(*(8 * word for word in task.tile.words))] += 1
            assert task.channels == (8 * task.tile.words[0], min(8 * task.tile.words[1], 33))
            # The walk's outputs are the tile's rows, or the columns of all of them.
            assert task.rows == ((0, 5) if column_major else task.tile.rows)
            assert task.top == max(0, task.tile.rows[0] - 1)
    assert len(expansion.commands) == commands
    assert (made == 1).all()
    assert len(list(expansion.layers())) == commands
    assert [tile.rows for tile in expansion.tiles] == [task.tile.rows for task in expansion.commands[0]]


@pytest.mark.parametrize(("depth", "passes", "inputs"), [(20, 1, [(0, 20)]), (20, 2, [(0, 8), (8, 20)])])
def test_passes_are_of_whole_words(depth, passes, inputs):
    expansion = expand_step(conv((6, 5, depth), 8), Partition(1, 1, passes=passes), CONFIG)
    assert list(expansion.passes) == inputs
    assert [each for _, each in expansion.layers()] == inputs


def test_lists_are_one_for_each_class_block_and_channel():
    """Three classes of columns; three kernel rows, or the three ways in which some of them meet a row."""
    for merged in (False, True):
        ((task,),) = expand_step(conv((6, 5, 20), 8), Partition(1, 1, merged=merged), CONFIG).commands
        assert task.list_count((8, 20), CONFIG) == 3 * 3 * 12


def test_cores_with_equal_channels_and_walks_have_the_same_lists():
    expansion = expand_step(conv((8, 8, 3), 16), Partition(4, 1, merged=True), CONFIG)
    first, second, third, last = (task.same_lists for task in expansion.commands[0])
    assert second == third
    assert len({first, second, last}) == 3
