import numpy as np
import pytest

from hw.network import INPUT
from models import golden
from models.activity import activity
from tests.random_networks import random_codes, random_network


def test_shares_are_those_of_the_tensors_by_channel():
    net = random_network(4, size=5)
    codes = random_codes(net, 6, 4)
    found = activity(net, codes)
    tensors = golden.run(net, codes).tensors
    assert set(found) == set(tensors) - {head.logits for head in net.exits}
    for name, shares in found.items():
        values = tensors[name]
        for channel, share in enumerate(shares):
            used = values[..., channel] != net.tensors()[name].zero_point
            assert share == used.sum() / used.size


def test_an_empty_image_has_none():
    net = random_network(4, size=5)
    blank = np.full((1, *net.input.shape), net.input.zero_point, dtype=np.int8)
    assert not activity(net, blank)[INPUT].any()


def test_no_image_is_refused():
    net = random_network(4, size=5)
    with pytest.raises(ValueError, match=r"^activity needs at least 1 image, not 0$"):
        activity(net, np.zeros((0, *net.input.shape), dtype=np.int8))
