from dataclasses import replace

import numpy as np
import pytest

from hw.network.active import active_mask
from hw.network.network import INPUT
from tests.random_networks import NetworkMaker


@pytest.mark.parametrize("threshold", [1, 3])
def test_a_magnitude_as_large_as_the_threshold_is_multiplied(threshold):
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 5))
    maker.head(maker.conv(INPUT, 8, (1, 1)), 4)
    layer = replace(maker.network("net").layers[0], threshold=threshold)
    activations = np.array([0, threshold, -threshold, threshold - 1, -255]).reshape(1, 1, 1, 5)
    assert active_mask(layer, activations).ravel().tolist() == [False, True, True, False, True]
