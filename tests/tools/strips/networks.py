"""A small network with all that strips meet."""

import numpy as np

from hw.network.network import INPUT, Network
from tests.random_networks import NetworkMaker


def exiting() -> Network:
    """A convolution, a residual block and an exit; a convolution with a stride, and the last exit."""
    maker = NetworkMaker(np.random.default_rng(3), (8, 8, 3))
    here = maker.conv(INPUT, 16, (3, 3), pads=(1, 1, 1, 1), density=0.3)
    here = maker.block(here, density=0.3)
    maker.head(maker.pool(here), 3, threshold=14_000)
    here = maker.conv(here, 24, (3, 3), (2, 2), pads=(1, 0, 1, 0), density=0.3)
    maker.head(maker.pool(here), 3)
    return maker.network("exiting")


def shortcut() -> Network:
    """A block with a stride, whose shortcut is a convolution of the same input."""
    maker = NetworkMaker(np.random.default_rng(5), (8, 8, 8))
    first = maker.conv(INPUT, 16, (3, 3), (2, 2), pads=(1, 0, 1, 0), density=0.3)
    other = maker.conv(INPUT, 16, (1, 1), (2, 2), density=0.5)
    second = maker.conv(first, 16, (3, 3), pads=(1, 1, 1, 1), density=0.3)
    both = maker.add(second, other)
    maker.head(maker.pool(both), 3)
    return maker.network("shortcut")
