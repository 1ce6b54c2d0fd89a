"""Networks compute the same in their normal form, which importers' own additions don't change."""

from dataclasses import replace

import numpy as np
import pytest

from hw.network.network import INPUT, Conv2D, DepthwiseConv2D, Linear
from models.backends.normal_form import normal_form
from models.frontends.identities import rescaled
from models.integer import golden
from tests.random_networks import NetworkMaker, odd_network, random_codes, random_network


@pytest.mark.parametrize("seed", range(12))
def test_logits_stay_what_they_are(seed):
    network = (random_network, odd_network)[seed % 2](seed)
    codes = random_codes(network, 3, seed)
    first, second = (golden.run(each, codes).logits for each in (network, normal_form(network)))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_copies_are_left_out_and_kinds_are_the_simplest():
    maker = NetworkMaker(np.random.default_rng(0), (4, 3, 1))
    maker.depthwise(INPUT, (1, 1))
    maker.conv("layer0", 2, (4, 3))
    maker.head("layer1", 3)
    network = maker.network("made")
    copy = rescaled("copy", INPUT, network.input)
    first = replace(network.layers[0], inputs=("copy",))
    found = normal_form(replace(network, layers=(copy, first, *network.layers[1:])))
    assert [layer.name for layer in found.layers] == ["layer0", "layer1", "layer2"]
    assert [type(layer) for layer in found.layers] == [Conv2D, Linear, Linear]
    assert found.layers[0].inputs == (INPUT,)


@pytest.mark.parametrize("change", [{"stride": (1, 2)}, {"threshold": 2}, {"clamp": (-128, 126)}])
def test_what_changes_codes_is_no_copy(change):
    maker = NetworkMaker(np.random.default_rng(0), (4, 3, 2))
    copy = rescaled("layer0", INPUT, maker.input)
    if "stride" in change:
        change["output"] = replace(copy.output, shape=(4, 2, 2))
    elif "clamp" in change:
        change["clamp"] = (-128, max(126, maker.input.zero_point))
        change = change if maker.input.zero_point < 127 else {"clamp": (-127, 127)}
    maker._append(replace(copy, **change))
    maker.head("layer0", 3)
    (layer, _) = normal_form(maker.network("made")).layers
    assert isinstance(layer, DepthwiseConv2D)


def test_channels_without_weights_have_one_form():
    maker = NetworkMaker(np.random.default_rng(0), (4, 3, 2))
    maker.conv(INPUT, 2, (1, 1))
    maker.head("layer0", 3)
    network = maker.network("made")
    first = network.layers[0]
    dead = replace(first, weight=np.zeros_like(first.weight), bias=np.array([700, -9000], dtype=np.int32))
    network = replace(network, layers=(dead, *network.layers[1:]))
    layer = normal_form(network).layers[0]
    assert (layer.multiplier == 1 << 30).all()
    assert not layer.shift.any()
    codes = random_codes(network, 2, 0)
    made = [golden.run(each, codes).tensors["layer0"] for each in (network, normal_form(network))]
    np.testing.assert_array_equal(*made)
