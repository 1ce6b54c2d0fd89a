import re
from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.network.network import INPUT
from hw.program.check.image_shape import packed_as
from tests.hw.compiler.test_compile import ROOMY
from tests.random_networks import NetworkMaker


def program():
    maker = NetworkMaker(np.random.default_rng(0), (4, 8, 1))
    maker.head(maker.conv(INPUT, 3, (2, 2), (2, 4)), 3)
    return compile_network(maker.network("net"), ROOMY)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_the_header_says_how_the_image_is_packed(channels):
    good = program()
    found = packed_as(good.network, replace(good.decoded.header, image_channels=channels))
    assert found.input.shape == (4, 8 // channels, channels)


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("image_bytes", lambda n: n - 4, "program image takes images of (codes, channels, zero point) (28, 4, "),
        ("image_zero_point", lambda n: n ^ 1, "program image takes images of (codes, channels, zero point) (32, 4, "),
        ("image_channels", lambda n: 8, "columns of its image that lie together must be a divisor of 4, not 8"),
        ("image_channels", lambda n: 3, "columns of its image that lie together must be a divisor of 4, not 3"),
        ("image_channels", lambda n: 0, "columns of its image that lie together must be a divisor of 4, not 0"),
    ],
)
def test_other_images_are_refused(field, change, message):
    good = program()
    header = good.decoded.header
    with pytest.raises(ValueError, match=re.escape(message)):
        packed_as(good.network, replace(header, **{field: change(getattr(header, field))}))
