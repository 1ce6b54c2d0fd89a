"""No layer stores fewer entries than is said, however much its lists have in common."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.lower import lower
from hw.compiler.memory.kernel_lists import kernel_lists
from hw.compiler.memory.sparse import ListStore
from hw.compiler.search.least_entries import least_entries
from hw.compiler.search.partition_options import Options
from hw.config import AcceleratorConfig
from hw.network.network import INPUT, Conv2D, DepthwiseConv2D, Linear, Network
from tests.random_networks import NetworkMaker, odd_network, random_network, wide_network

CONFIG = AcceleratorConfig(cores=2, pes=4, list_words=8192, accumulators=1024, layer_words=4096, accumulator_bits=32)


def with_few_weights(network: Network, rng: np.random.Generator, values: int) -> Network:
    """The network with only so many different weights, so that many lists are equal or parts of others."""

    def coarse(layer):
        if not isinstance(layer, Conv2D | DepthwiseConv2D | Linear):
            return layer
        drawn = rng.integers(1, values + 1, layer.weight.shape)
        return replace(layer, weight=np.where(layer.weight == 0, 0, drawn).astype(np.int8))

    return replace(network, layers=tuple(coarse(layer) for layer in network.layers))


def stored(expansion, pe: int, config: AcceleratorConfig = CONFIG) -> int:
    """Entries of core 0 in one PE, packed."""
    store = ListStore(config)
    for (task, *_), inputs in expansion.layers():
        for parts in kernel_lists(task, inputs, config).entries:
            store.append(parts, "layer")
    return len(store.pack()[pe]) - len(store)


@pytest.mark.parametrize("values", [1, 127, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [random_network, odd_network, wide_network])
def test_no_bound_is_above_what_is_packed(make, values):
    rng = np.random.default_rng(values)
    near = 0
    for seed in range(6):
        network = with_few_weights(make(seed), rng, values)
        options = Options(network, CONFIG)
        for step in lower(network).steps:
            partitions = options.of([step])
            for number in rng.integers(len(partitions), size=3):
                expansion, pe = options.option(step, partitions[number]).expansion, int(rng.integers(CONFIG.pes))
                least, packed = least_entries(expansion, pe, CONFIG), stored(expansion, pe)
                assert least <= packed
                near += 2 * least >= packed > 0
    assert near > 10


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("split", [False, True])
def test_no_bound_is_above_what_is_packed_of_strided_layers(stride, split):
    """With a stride, several entries of a split list have one offset: a list may begin inside an equal one."""
    rng = np.random.default_rng(stride)
    config, tried = CONFIG.replace(accumulators=64), 0
    for _ in range(30):
        kernel = tuple(rng.integers(2, 4, 2).tolist())
        pads = tuple(pad for size in kernel for pad in ((size - 1) // 2, size // 2))
        maker = NetworkMaker(rng, (6, 6, 5))
        maker.head(maker.conv(INPUT, int(rng.integers(1, 3)) * 8, kernel, (stride, stride), pads, density=0.4), 2)
        network = with_few_weights(maker.network("net"), rng, int(rng.integers(1, 3)))
        options, step = Options(network, config), lower(network).steps[0]
        partitions = [each for each in options.of([step]) if each.split is split]
        for partition in partitions[:3]:
            expansion = options.option(step, partition).expansion
            for pe in range(config.pes):
                assert least_entries(expansion, pe, config) <= stored(expansion, pe, config)
        tried += len(partitions)
    assert tried


def dense(weight: np.ndarray) -> int:
    """Entries of a 1x1 convolution of these weights, (8, inputs), in PE 0 of a core with 8 PEs."""
    maker = NetworkMaker(np.random.default_rng(0), (2, 2, weight.shape[1]))
    maker.head(maker.conv(INPUT, 8, (1, 1)), 2)
    network = maker.network("net")
    first, head = network.layers
    network = replace(network, layers=(replace(first, weight=weight[:, None, None].astype(np.int8)), head))
    config = AcceleratorConfig(list_words=8192)
    options = Options(network, config)
    step = lower(network).steps[0]
    return least_entries(options.option(step, options.of([step])[0]).expansion, 0, config)


def test_equal_lists_are_stored_once_and_others_each():
    assert dense(np.full((8, 5), 3)) == 1
    assert dense(np.arange(1, 6) * np.ones((8, 1))) == 5
    assert dense(np.zeros((8, 5))) == 0
