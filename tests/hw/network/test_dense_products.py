from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from hw.network.dense_products import final_products, source_products
from hw.network.layers import multiply_accumulates
from hw.network.network import INPUT
from models.frontends.identities import averaged, concatenated, rescaled
from tests.random_networks import NetworkMaker


def made():
    """Two convolutions and two heads."""
    maker = NetworkMaker(np.random.default_rng(4), (5, 5, 2))
    first = maker.conv(INPUT, 3, (3, 3), density=1.0)
    maker.head(first, 3, threshold=7)
    maker.head(maker.conv(first, 4, (3, 3), density=1.0), 3)
    return maker.network("made")


def test_branches_of_early_exits_do_not_count():
    network = made()
    every = {layer.name: multiply_accumulates(layer) for layer in network.layers}
    early = every[network.exits[0].logits]
    assert early > 0
    assert source_products(network) == final_products(network) == sum(every.values()) - early


def test_layers_that_an_importer_adds_do_not_count():
    network = made()
    before = source_products(network)
    first = network.layers[0]
    copied = rescaled("copy", first.name, first.output)
    following = [
        replace(layer, inputs=("copy",)) if layer.inputs == (first.name,) else layer for layer in network.layers[1:]
    ]
    changed = replace(network, layers=(first, copied, *following))
    assert multiply_accumulates(copied) > 0
    assert source_products(changed) == before
    assert final_products(changed) == before + multiply_accumulates(copied)


def test_concatenations_and_averages_do_not_count():
    network = made()
    first, image = network.layers[0], network.layers[0].output
    height, width, channels = image.shape
    both = replace(image, shape=(height, width, 2 * channels))
    small = replace(image, shape=(1, 1, channels))
    added = [
        *concatenated("both", [(first.name, image), (first.name, image)], both),
        averaged("mean", first.name, image, small, (height, width), (1, 1)),
    ]
    assert all(multiply_accumulates(layer) for layer in added if layer.kind != "add")
    ends = SimpleNamespace(exits=[SimpleNamespace(logits="both")], layers=[first, *added])
    assert source_products(ends) == multiply_accumulates(first) < final_products(ends)
    ends.exits[0].logits = "mean"
    assert source_products(ends) == multiply_accumulates(first) < final_products(ends)
