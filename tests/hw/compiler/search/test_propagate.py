"""What is said to fit in no partition fits in none of all choices; and the number is right by hand."""

from itertools import product

import numpy as np
import pytest

from hw.compiler import attempts
from hw.compiler.compile import compile_network
from hw.compiler.expand import Expanded, expand
from hw.compiler.lower import lower
from hw.compiler.memory.memory_plan import excess
from hw.compiler.prove import prove
from hw.compiler.search.least import activations_lack
from hw.compiler.search.partition_options import Options
from hw.compiler.search.propagate import channels_lack
from hw.config import AcceleratorConfig
from hw.network.network import INPUT, Network
from hw.rules import ShortageError
from tests.hw.equality import assert_equals_golden
from tests.random_networks import NetworkMaker, random_codes

CONFIG = AcceleratorConfig(cores=2, list_words=8192, accumulators=1024, accumulator_bits=32)


def expanded(network: Network, config: AcceleratorConfig) -> Expanded:
    return expand(prove(lower(network), config), Options(network, config))


def lack(network: Network, config: AcceleratorConfig, *, in_place: bool = False) -> ShortageError | None:
    whole = expanded(network, config)
    return channels_lack(network, whole.proven.steps, whole.options, config, in_place=in_place)


def least_channels(network: Network, config: AcceleratorConfig, *, in_place: bool) -> int | None:
    """The fewest words of channel memory of all choices whose maps fit the activation memories; None without one."""
    whole = expanded(network, config)
    planner = whole.planner(in_place=in_place)
    different = [
        {(each.partition.bands, each.partition.groups): (n, each.cost.channels) for n, each in enumerate(some)}
        for some in whole.options
    ]
    return min(
        (
            int(sum(channels for _, channels in choice).max())
            for choice in product(*(each.values() for each in different))
            if not excess(planner.requests(tuple(n for n, _ in choice)), config)
        ),
        default=None,
    )


def narrowing(widths: tuple[int, ...], *, residual: bool) -> Network:
    """Convolutions on maps of 8x8 positions, perhaps with an addition; one that halves them; a pool and a head."""
    maker = NetworkMaker(np.random.default_rng(0), (8, 8, 8))
    here = INPUT
    for width in widths:
        here = maker.conv(here, width, (1, 1))
    if residual:
        here = maker.block(here, density=0.5)
    maker.head(maker.pool(maker.conv(here, 16, (2, 2), (2, 2))), 3)
    return maker.network("net")


NETWORKS = [
    narrowing((16,), residual=False),
    narrowing((32, 8), residual=False),
    narrowing((8,), residual=True),
    narrowing((16, 24), residual=False),
]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("words", [32, 64, 128, 256])
@pytest.mark.parametrize("network", NETWORKS)
def test_no_choice_fits_where_something_is_short(network, words, in_place):
    config = CONFIG.replace(activation_words=words, channel_words=16)
    least, found = least_channels(network, config, in_place=in_place), lack(network, config, in_place=in_place)
    assert found is not None
    if str(found).startswith("activation memory has "):
        assert least is None
    else:
        assert least is None or 16 + found.words <= least


def test_channels_by_hand():
    """Only in two bands do 64 words hold the map that the second layer reads: all of its channels are in both cores."""
    network, config = narrowing((16,), residual=False), CONFIG.replace(activation_words=64)
    needed = 8 + 16 + 8 + 8
    assert str(lack(network, config.replace(channel_words=32))) == (
        "channel memory holds 32 words; this network needs at least 40 in every partition in which its maps fit the "
        "activation memory's 2 banks of 64 words, 8 too many"
    )
    assert lack(network, config.replace(channel_words=32, activation_words=128)) is None
    assert lack(network, config.replace(channel_words=64)) is None
    program = compile_network(network, config.replace(channel_words=64))
    assert program.images["bias"].shape[1] >= needed
    assert_equals_golden(program, random_codes(network, 2, 0))


def test_what_fits_each_memory_and_not_both_is_refused_before_a_search(monkeypatch):
    monkeypatch.setattr(attempts, "choose", None)
    network, config = narrowing((16,), residual=False), CONFIG.replace(activation_words=64, channel_words=32)
    assert activations_lack(network, lower(network).steps, config, in_place=False) is None
    with pytest.raises(ShortageError, match=r"^channel memory holds 32 words; .* at least 40 in every"):
        compile_network(network, config)
