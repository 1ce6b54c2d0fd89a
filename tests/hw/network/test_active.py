from dataclasses import replace

import numpy as np
import pytest

from hw.network.active import active_mask
from hw.network.network import INPUT, Select
from tests.random_networks import NetworkMaker


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
@pytest.mark.parametrize("threshold", [1, 3, 200, 255])
@pytest.mark.parametrize("select", [None, Select(kind="channels", count=100)])
def test_a_magnitude_as_large_as_the_threshold_is_multiplied(threshold, zero_point, select):
    """For all codes: some thresholds reach beyond the largest and the smallest. Of channels in one position, as here,
    those with the largest magnitudes win."""
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 256))
    maker.head(maker.conv(INPUT, 8, (1, 1)), 4)
    layer = replace(maker.network("net").layers[0], threshold=threshold, select=select)
    magnitudes = [abs(code - zero_point) for code in range(-128, 128)]
    winners = sorted(range(256), key=lambda channel: -magnitudes[channel])[: select.count if select else 256]
    codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 1, 256)
    found = active_mask(layer, codes, zero_point)
    assert found.shape == codes.shape
    assert found.ravel().tolist() == [
        magnitude >= threshold and channel in winners for channel, magnitude in enumerate(magnitudes)
    ]
