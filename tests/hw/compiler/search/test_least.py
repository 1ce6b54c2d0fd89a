"""No lower bound is above what a program uses, and each is what it says by hand."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.lower import lower
from hw.compiler.search.least import activations_lack, check_memories, lists_lack
from hw.compiler.search.partition_options import Option, Options
from hw.compiler.steps.step import Step
from hw.config import AcceleratorConfig
from hw.network.network import INPUT, Network
from hw.rules import MisfitError
from tests.random_networks import NetworkMaker, random_network

CONFIG = AcceleratorConfig(cores=4, list_words=8192, accumulators=1024, layer_words=4096, accumulator_bits=32)


def lacks(network: Network, config: AcceleratorConfig) -> list[str]:
    """All that is said to be short."""
    steps, options = lower(network).steps, Options(network, config)
    found = [activations_lack(network, steps, config, in_place=in_place) for in_place in (False, True)]
    found.append(lists_lack(steps, options_of(steps, options), config))
    try:
        check_memories(network, steps, options, config)
    except MisfitError as error:
        found.append(error)
    return [str(error) for error in found if error is not None]


def options_of(steps: Sequence[Step], options: Options) -> list[list[Option]]:
    """All of every step."""
    return [[options.option(step, partition) for partition in options.of([step])] for step in steps]


def smallest(used: int, least: int) -> int:
    """The smallest power of two that holds so many words, and that a config may have."""
    return max(least, 1 << (used - 1).bit_length())


@pytest.mark.parametrize("cores", [1, 2, 8])
@pytest.mark.parametrize("seed", range(8))
def test_memories_of_the_size_that_a_program_uses_lack_nothing(seed, cores):
    network, config = random_network(seed), CONFIG.replace(cores=cores)
    images = compile_network(network, config).images
    tight = config.replace(
        list_words=smallest(images["lists"].shape[1], 64),
        channel_words=smallest(images["bias"].shape[1], 16),
        layer_words=smallest(images["layers"].shape[1], 128),
        program_words=smallest(len(images["program"]), 32),
    )
    # Fewer list words leave more bits to count a list's entries: the layers have no fewer options.
    assert lacks(network, tight) == []


def pointwise(depth: int, channels: int) -> Network:
    maker = NetworkMaker(np.random.default_rng(0), (4, 4, depth))
    maker.head(maker.pool(maker.conv(INPUT, channels, (1, 1))), 3)
    return maker.network("net")


def test_pointers_by_hand():
    """One list for each input channel; of the pool two, for each two of 16 channels in 8 PEs; and for the head 16."""
    config = CONFIG.replace(cores=1, list_words=64)
    network = pointwise(50, 16)
    steps, options = lower(network).steps, Options(network, config)
    error = lists_lack(steps, options_of(steps, options), config)
    assert error is not None
    # Entries that all of the convolution's lists have in common with none: two for each of its input channels at most.
    found = re.fullmatch(
        r"list memory holds 64 words a PE; this network needs at least (\d+) \(68 pointers, and (\d+) weights of "
        r"layer0\), (\d+) too many",
        str(error),
    )
    assert found
    needed, entries, missing = map(int, found.groups())
    assert needed == 68 + entries == 64 + missing == 64 + error.words
    assert 0 < entries <= 2 * 50


def test_equal_lists_count_once():
    """All lists of a PE are one entry of the same weight: what is stored is that one."""
    config = CONFIG.replace(cores=1, list_words=64)
    network = pointwise(45, 8)
    first, *others = network.layers
    same = replace(network, layers=(replace(first, weight=np.full((8, 1, 1, 45), 3, dtype=np.int8)), *others))
    steps = lower(same).steps
    assert lists_lack(steps, options_of(steps, Options(same, config)), config) is None
    used = compile_network(same, config).images["lists"].shape[1]
    assert used <= 64


@pytest.mark.parametrize(("cores", "least"), [(1, 64 + 64 + 8), (2, 32 + 32 + 8), (4, 16 + 16 + 8)])
def test_channels_by_hand(cores, least):
    """Core 0 makes its share of the layers, and the head alone."""
    network, config = pointwise(8, 64), CONFIG.replace(cores=cores, channel_words=16)
    with pytest.raises(MisfitError, match=f"^channel memory holds 16 words; this network needs at least {least}, "):
        check_memories(network, lower(network).steps, Options(network, config), config)


def test_maps_by_hand():
    """A map of 16 rows of 16 words: in two cores, each keeps 8 of them and what the kernel reaches beyond."""
    maker = NetworkMaker(np.random.default_rng(0), (16, 16, 8))
    here = maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1))
    maker.head(maker.conv(here, 8, (1, 1), (16, 16)), 3)
    network = maker.network("net")
    for cores, words in ((1, 16 * 16), (2, 9 * 16), (8, 4 * 16)):
        config = CONFIG.replace(cores=cores, activation_words=32)
        error = activations_lack(network, lower(network).steps, config, in_place=False)
        assert error is not None
        assert str(error).startswith(f"activation memory has banks of 32 words; input alone needs {words}, ")
        assert (
            activations_lack(network, lower(network).steps, config.replace(activation_words=256), in_place=False)
            is None
        )
