from itertools import product

import numpy as np
import pytest

from hw.compiler.memory.memory_plan import plan
from hw.compiler.search.planner import Planner
from hw.compiler.steps.partition import Partition
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT, Network
from tests.hw.compiler import passes
from tests.large_machine import LARGE
from tests.random_networks import NetworkMaker, random_network

CONFIG = AcceleratorConfig(cores=4, list_words=8192, accumulators=1024, layer_words=4096)


def planner(network: Network, config: AcceleratorConfig = CONFIG, **densities: float | None) -> Planner:
    return passes.planner(network, config, **densities)


def cycles(found: Planner, choice: tuple[int, ...]) -> float:
    """Expected cycles of the whole network."""
    return sum(found.command_cycles(choice))


def in_place(network: Network, config: AcceleratorConfig = CONFIG) -> Planner:
    return passes.planner(network, config, in_place=True)


def partitions(found: Planner, choice: tuple[int, ...]) -> list[Partition]:
    return [options[number].partition for options, number in zip(found._options, choice, strict=True)]


def residual(channels: int = 16, size: int = 12) -> Network:
    """A block between two convolutions, the second of stride 2."""
    maker = NetworkMaker(np.random.default_rng(0), (size, size, 3))
    here = maker.conv(INPUT, channels, (3, 3), pads=(1, 1, 1, 1))
    here = maker.block(here, density=0.5)
    here = maker.conv(here, 2 * channels, (3, 3), (2, 2), pads=(1, 0, 1, 0))
    maker.head(maker.pool(here), 3)
    return maker.network("net")


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 8))])
def test_the_choice_is_nearly_the_cheapest_of_all(seed):
    network = random_network(seed, size=8)
    found = planner(network)
    choice, fits = found.cheapest(CONFIG.list_words)
    assert fits
    options = [range(len(options)) for options in found._options]
    everything = product(*options) if np.prod([len(o) for o in options]) <= 5000 else [choice]
    assert cycles(found, choice) <= 1.02 * min(cycles(found, choice) for choice in everything)


def test_maps_are_cut_in_bands_where_banks_are_short():
    network = residual()
    free, _ = planner(network).cheapest(8192)
    short = CONFIG.replace(activation_words=256)
    found = planner(network, short)
    choice, fits = found.cheapest(8192)
    assert fits
    assert max(request.words for request in planner(network).requests((0,) * 6)) == 288
    assert plan(found.requests(choice), short)
    assert max(request.words for request in found.requests(choice)) <= 256
    assert cycles(found, choice) >= cycles(planner(network), free)


def test_sums_lie_where_their_operands_did_in_turn():
    maker = NetworkMaker(np.random.default_rng(0), (12, 12, 3))
    stem = maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1))
    first = maker.block(stem, density=0.5)
    second = maker.block(first, density=0.5)
    maker.head(maker.pool(maker.conv(second, 16, (3, 3), (2, 2), pads=(1, 0, 1, 0))), 3)
    found = in_place(maker.network("net"))
    choice, _ = found.cheapest(8192)
    requests = {request.name: request for request in found.requests(choice)}
    assert {stem, first, second} & set(requests) == {stem}
    assert (requests[stem].first, requests[stem].last) == (0, 5)
    assert requests[stem].apart == {step.reads for step in found._steps if step.residual}
    assert found.together[stem] == found.together[first] == found.together[second] == (stem, first, second)
    windows = found.windows(choice)
    assert windows[stem] == windows[first] == windows[second]


def test_an_operand_that_is_read_again_keeps_its_place():
    maker = NetworkMaker(np.random.default_rng(0), (12, 12, 3))
    stem = maker.conv(INPUT, 8, (3, 3), pads=(1, 1, 1, 1))
    total = maker.block(stem, density=0.5)
    maker.head(total, 3, threshold=1)
    maker.head(maker.pool(stem), 3)
    names = {request.name for request in in_place(maker.network("net")).requests((0,) * 6)}
    assert {stem, total} <= names


def test_an_image_keeps_its_place():
    """The next one may arrive there while the sum is still read."""
    maker = NetworkMaker(np.random.default_rng(0), (12, 12, 8))
    total = maker.block(INPUT, density=0.5)
    maker.head(maker.pool(total), 3)
    names = {request.name for request in in_place(maker.network("net")).requests((0,) * 4)}
    assert {INPUT, total} <= names


def test_maps_in_one_place_are_cut_in_bands_together():
    """No change of one step makes a place smaller whose maps have five readers, and groups save lists at once."""
    maker = NetworkMaker(np.random.default_rng(0), (16, 16, 3))
    here = maker.block(maker.conv(INPUT, 16, (3, 3), pads=(1, 1, 1, 1)), density=1.0)
    here = maker.block(maker.conv(here, 32, (3, 3), (2, 2), pads=(1, 0, 1, 0)), density=1.0)
    maker.head(maker.pool(maker.conv(here, 64, (3, 3), (2, 2), pads=(1, 0, 1, 0))), 3)
    short = CONFIG.replace(activation_words=256, list_words=4096)
    found = in_place(maker.network("net"), short)
    choice, fits = found.cheapest(short.list_words)
    assert fits
    assert plan(found.requests(choice), short)
    bands = [partition.bands for partition in partitions(found, choice)]
    assert bands[0] == bands[1] == bands[2] == 4
    assert bands[5] == 1


def test_channels_are_cut_in_groups_where_lists_are_short():
    network = residual(channels=32)
    found = planner(network)
    free, _ = found.cheapest(8192)
    chosen = [options[number].cost for options, number in zip(found._options, free, strict=True)]
    words = sum(int(cost.pointers[0, 0] + cost.entries[0, 0].max()) for cost in chosen)
    for held in (words - 1, words - 200):
        choice, fits = found.cheapest(held)
        assert fits
        assert cycles(found, choice) >= cycles(found, free)
        costs = [options[n].cost for options, n in zip(found._options, choice, strict=True)]
        pointers, entries = (sum(getattr(c, name).sum(axis=0) for c in costs) for name in ("pointers", "entries"))
        lists = pointers + entries.max(axis=1)
        assert lists.max() <= held


def test_channels_are_cut_in_groups_where_their_memory_is_short():
    network = residual(channels=32)
    found = planner(network, CONFIG.replace(channel_words=64))
    choice, fits = found.cheapest(8192)
    assert fits
    channels = sum(options[n].cost.channels for options, n in zip(found._options, choice, strict=True))
    assert channels.max() <= 64
    free, _ = planner(network).cheapest(8192)
    assert sum(options[n].cost.channels for options, n in zip(found._options, free, strict=True)).max() > 64


def test_what_cannot_fit_is_said_to():
    choice, fits = planner(residual()).cheapest(10)
    assert not fits
    assert len(choice) == 6


def test_words_for_all_cores_cost_the_lanes_their_second_turn():
    """In eight cores with two lanes: an output of many channels and few products is slow where it goes everywhere."""
    config = preset(LARGE).replace(accumulator_bits=32)
    assert config.slow_exchange
    maker = NetworkMaker(np.random.default_rng(0), (16, 16, 8))
    here = maker.conv(INPUT, 64, (1, 1), density=0.05)
    here = maker.conv(here, 64, (1, 1), density=0.05)
    maker.head(maker.pool(maker.conv(here, 8, (1, 1), (4, 4), density=0.1)), 3)
    found = planner(maker.network("net"), config)
    choice, fits = found.cheapest(config.list_words)
    assert fits
    assert all(partition.bands >= 4 for partition in partitions(found, choice)[:2])
    splits = [[(each.partition.bands, each.partition.groups) for each in options] for options in found._options[:2]]
    groups = [split.index((1, 8)) for split in splits]
    apart = (groups[0], groups[1], *choice[2:])
    assert cycles(found, apart) > 1.5 * cycles(found, choice)


def test_densities_decide():
    network = residual()
    sparse, dense = planner(network, layer0=0.05), planner(network, layer0=None)
    assert cycles(sparse, (0,) * 6) < cycles(dense, (0,) * 6)
    assert (
        cycles(dense, (0,) * 6) == cycles(planner(network), (0,) * 6) == cycles(planner(network, layer0=0.5), (0,) * 6)
    )


@pytest.mark.parametrize(
    ("densities", "message"),
    [
        ({"layer9": 0.5}, r"^densities: net has no tensor 'layer9'$"),
        ({"layer0": 1.5}, r"^densities: layer0 must be from 0 to 1, not 1\.5$"),
        ({"layer0": -0.1}, r"^densities: layer0 must be from 0 to 1, not -0\.1$"),
    ],
)
def test_impossible_densities_are_refused(densities, message):
    with pytest.raises(ValueError, match=message):
        planner(residual(), **densities)
