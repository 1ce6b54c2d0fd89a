import numpy as np

from hw.compiler.lower import lower
from hw.compiler.steps.blocks import block_of, blocks_of
from hw.network.network import INPUT
from tests.random_networks import NetworkMaker


def kernel():
    """A kernel of three rows at stride 1 over six rows, with a pad of a row above and below."""
    maker = NetworkMaker(np.random.default_rng(0), (6, 5, 3))
    maker.head(maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1)), 3)
    return lower(maker.network("net")).steps[0].kernel


def test_kernel_row_by_kernel_row_each_is_a_block():
    assert blocks_of(kernel(), (0, 6), False) == (((0, 0),), ((1, 0),), ((2, 0),))


def test_kernel_rows_that_meet_a_row_are_a_block():
    """Rows of the middle meet all three; those at the edges two of them, the same distance apart."""
    top, middle, bottom = (((0, 2), (1, 1)), ((0, 2), (1, 1), (2, 0)), ((1, 1), (2, 0)))
    assert blocks_of(kernel(), (0, 6), True) == (top, middle, bottom)


def test_distances_at_the_top_count_from_above_the_map():
    """Row 0 feeds outputs 0 and 1 by kernel rows 1 and 0; that of kernel row 2 would be output -1."""
    axis = kernel().rows.band(0, 6)[1]
    assert block_of(((0, 1), (1, 0)), axis) == (((0, 2), (1, 1)), -1)
    assert block_of(((0, 3), (1, 2), (2, 1)), axis) == (((0, 2), (1, 1), (2, 0)), 1)
