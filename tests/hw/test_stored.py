from dataclasses import replace

import numpy as np
import pytest

from hw.network import INPUT, Network
from hw.stored import code_ranges, stored_zero_points
from tests.random_networks import NetworkMaker


def pooled(clamp: tuple[int, int], zero_point: int = -20, *, early: bool = False) -> Network:
    """A convolution with this clamp, behind it an average pool and a max pool."""
    maker = NetworkMaker(np.random.default_rng(0), (6, 6, 2))
    conv = maker.conv(INPUT, 4, (3, 3), pads=(1, 1, 1, 1))
    average = maker.average_pool(conv, (2, 2), (1, 1))
    if early:
        maker.head(average, 3, threshold=5)
    maker.head(maker.max_pool(average, (2, 2), (1, 1)), 3)
    network = maker.network("net")
    changed = {conv: clamp, average: (-128, 127), "largest": (-100, 100)}
    layers = [
        layer
        if layer.kind == "linear"
        else replace(
            layer,
            output=replace(layer.output, scale=0.1, zero_point=zero_point),
            clamp=changed.get(layer.name, changed["largest"]),
        )
        for layer in network.layers
    ]
    return replace(network, layers=tuple(layers))


def test_codes_of_a_pool_lie_between_those_of_its_input():
    network = pooled((-60, 90))
    conv, average, largest, head = (layer.name for layer in network.layers)
    assert code_ranges(network) == {
        INPUT: (-128, 127),
        conv: (-60, 90),
        average: (-60, 90),
        largest: (-60, 90),
        head: network.layers[-1].clamp,
    }
    assert code_ranges(pooled((-128, 127)))[largest] == (-100, 100)


@pytest.mark.parametrize(("low", "stored"), [(-128, -128), (-60, -60), (-20, -20)])
def test_what_only_max_pools_read_is_stored_against_its_lowest_code(low, stored):
    network = pooled((low, 127))
    conv, average, largest, _ = (layer.name for layer in network.layers)
    found = stored_zero_points(network)
    assert (found[conv], found[average], found[largest]) == (-20, stored, -20)
    assert found[INPUT] == network.input.zero_point


def test_what_others_read_too_is_stored_against_its_zero_point():
    network = pooled((-128, 127), early=True)
    assert set(stored_zero_points(network).values()) <= {-20, 0, network.input.zero_point}
