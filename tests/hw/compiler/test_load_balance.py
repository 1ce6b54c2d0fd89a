from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.load_balance import _dealt, balance, deal, orders
from hw.config import preset
from hw.network.layers import is_raw
from hw.network.network import INPUT, Add, Conv2D, Linear, Select
from models.integer import golden
from tests.random_networks import random_codes, random_network, with_selects

CONFIG = preset("single")


@pytest.mark.parametrize("seed", range(20))
def test_a_deal_is_an_order_and_no_less_even_than_the_one_before(seed):
    rng = np.random.default_rng(seed)
    channels, pes = int(rng.integers(1, 70)), int(rng.choice([2, 4, 8]))
    work = rng.lognormal(0, 1, channels)
    order = deal(work[None], pes)
    assert sorted(order) == list(range(channels))
    if channels % pes == 0:
        before = max(work[p::pes].sum() for p in range(pes))
        after = max(work[order][p::pes].sum() for p in range(pes))
        assert after <= before * 1.000001 or after <= 4 / 3 * max(work.sum() / pes, work.max())


def test_two_heavy_filters_go_to_different_pes():
    work = np.array([9, 1, 1, 1, 9, 1, 1, 1])
    order = deal(work[None], 4)
    loads = [work[order][p::4].sum() for p in range(4)]
    assert sorted(loads) == [2, 2, 10, 10]


def test_the_least_loaded_pe_comes_before_the_emptiest():
    work = np.array([8, 8, 7, 6, 5, 4, 2])
    owner = _dealt(work, 2)
    assert [work[owner == pe].sum() for pe in range(2)] == [21, 19]


def test_every_layer_that_makes_the_channels_is_dealt_evenly():
    """Their sum alone would be even however the channels were dealt."""
    work = np.array([[8, 8, 1, 1], [1, 1, 8, 8]])
    order = deal(work, 2)
    assert [[layer[order][p::2].sum() for p in range(2)] for layer in work] == [[9, 9], [9, 9]]


@pytest.mark.parametrize("seed", range(10))
def test_exchanges_never_lengthen_the_layers(seed):
    rng = np.random.default_rng(seed)
    work = rng.lognormal(0, 1, (int(rng.integers(1, 4)), 32))
    greedy = deal(work.sum(axis=0)[None], 8)

    def cycles(order):
        return sum(max(layer[order][p::8].sum() for p in range(8)) for layer in work)

    assert cycles(deal(work, 8)) <= cycles(greedy) * 1.001


def test_words_that_a_pool_reads_are_equally_active():
    rng = np.random.default_rng(0)
    work, active = np.ones((1, 64)), rng.random(64)
    order = deal(work, 8, active)
    assert sorted(order) == list(range(64))
    sums = active[order].reshape(8, 8).sum(axis=1)
    assert sums.max() - sums.min() < 0.5 < np.ptp(active.reshape(8, 8).sum(axis=1))


@pytest.mark.parametrize("seed", range(40))
def test_the_network_computes_the_same(seed):
    net = with_selects(random_network(seed, size=6), np.random.default_rng(seed))
    codes = random_codes(net, 4, seed)
    found, expected = golden.run(balance(net, CONFIG), codes), golden.run(net, codes)
    for one, other in zip(found.logits, expected.logits, strict=True):
        np.testing.assert_array_equal(one, other)
    order = orders(net, CONFIG)
    for name, tensor in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], tensor[..., order[name]])


@pytest.mark.parametrize("seed", range(10))
def test_image_and_logits_keep_their_order_and_added_maps_share_one(seed):
    net = random_network(seed, size=6)
    order = orders(net, CONFIG)
    fixed = [INPUT, *(layer.name for layer in net.layers if is_raw(layer))]
    for name in fixed:
        np.testing.assert_array_equal(order[name], np.arange(len(order[name])))
    for layer in net.layers:
        if isinstance(layer, Add):
            for name in layer.inputs:
                np.testing.assert_array_equal(order[name], order[layer.name])


def test_maps_with_winners_keep_their_order_and_masks_follow():
    net = random_network(3, size=6)
    selects = (Select(kind="mask", channels=(1, 2)), Select(kind="elements", count=3), Select(kind="channels", count=1))
    changed = 0
    for layer in net.layers:
        name = layer.inputs[0]
        if not isinstance(layer, Conv2D | Linear) or name == INPUT or net.tensors()[name].shape[2] < 3:
            continue
        free = orders(net, CONFIG)[name]
        mask, *dynamic = (
            replace(net, layers=tuple(replace(one, select=s) if one is layer else one for one in net.layers))
            for s in selects
        )
        for other in dynamic:
            np.testing.assert_array_equal(orders(other, CONFIG)[name], np.arange(len(free)))
        np.testing.assert_array_equal(orders(mask, CONFIG)[name], free)
        kept = balance(mask, CONFIG).layer(layer.name).select.channels
        assert sorted(free[list(kept)]) == [1, 2]
        changed += free.tolist() != sorted(free)
    assert changed


def test_the_activity_of_input_channels_counts():
    net = random_network(3, size=6)
    first = net.layers[0]
    active = {INPUT: np.zeros(net.input.shape[2])}
    np.testing.assert_array_equal(orders(net, CONFIG, active)[first.name], np.arange(first.output.shape[2]))
    even = orders(net, CONFIG, {INPUT: np.ones(net.input.shape[2])})
    for name, order in orders(net, CONFIG, {INPUT: 1.0}).items():
        np.testing.assert_array_equal(order, even[name])
