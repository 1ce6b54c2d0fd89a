import numpy as np
import pytest

from hw.network.network import INPUT, Select
from models.compression.element_thresholds import with_element_thresholds
from models.integer import golden
from models.integer.activity import activity
from tests.hw.networks import network as mixed_network
from tests.random_networks import random_codes, random_network


@pytest.mark.parametrize("seed", [4, 15])
def test_shares_are_those_of_the_tensors_by_channel(seed):
    """Seed 15 has a map of both signs that only a sum reads."""
    net = random_network(seed, size=5)
    net = with_element_thresholds(net, {layer.name: 1 for layer in net.layers if hasattr(layer, "weight")})
    codes = random_codes(net, 6, seed)
    found = activity(net, codes)
    tensors = golden.run(net, codes).tensors
    assert set(found) == set(tensors) - {head.logits for head in net.exits}
    for name, shares in found.items():
        values = tensors[name]
        for channel, share in enumerate(shares):
            used = values[..., channel] != net.tensors()[name].zero_point
            assert share == used.sum() / used.size


def test_what_a_layers_threshold_skips_is_not_active():
    """Read by ``branch`` with a threshold, by ``early`` without, and by an add, which multiplies nothing."""
    net = mixed_network({"branch": {"threshold": 100}})
    codes = np.random.default_rng(0).integers(-128, 128, (5, *net.input.shape)).astype(np.int8)
    magnitudes = abs(golden.run(net, codes).tensors["stem"].astype(int) + 128)
    wanted = ((magnitudes >= 100).mean(axis=(0, 1, 2)) + (magnitudes > 0).mean(axis=(0, 1, 2))) / 2
    np.testing.assert_allclose(activity(net, codes)["stem"], wanted, rtol=1e-12)
    assert (wanted < (magnitudes > 0).mean(axis=(0, 1, 2))).any()


def test_what_a_layer_does_not_select_is_not_active():
    net = mixed_network({"branch": {"select": Select(kind="mask", channels=(1, 2))}, "early": {"threshold": 255}})
    codes = np.random.default_rng(0).integers(-128, 128, (5, *net.input.shape)).astype(np.int8)
    magnitudes = abs(golden.run(net, codes).tensors["stem"].astype(int) + 128)
    wanted = ((magnitudes > 0) * [0, 1, 1, 0] + (magnitudes == 255)).mean(axis=(0, 1, 2)) / 2
    np.testing.assert_allclose(activity(net, codes)["stem"], wanted, rtol=1e-12)
    assert wanted[1] > wanted[0]


def test_an_empty_image_has_none():
    net = random_network(4, size=5)
    blank = np.full((1, *net.input.shape), net.input.zero_point, dtype=np.int8)
    assert not activity(net, blank)[INPUT].any()


def test_no_image_is_refused():
    net = random_network(4, size=5)
    with pytest.raises(ValueError, match=r"^activity needs at least 1 image, not 0$"):
        activity(net, np.zeros((0, *net.input.shape), dtype=np.int8))
