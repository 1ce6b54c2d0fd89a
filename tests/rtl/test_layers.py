"""Constrained-random networks: RTL, golden model and simulator agree on every value and every cycle."""

from collections.abc import Callable

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.network.network import INPUT, Network
from hw.network.packing import most_packed
from hw.program.program import Program
from models.integer.golden import run
from offramp.rtl.expected import compare
from offramp.rtl.run import run_work
from sim import simulate
from tests.hw.equality import strips_of
from tests.hw.partitions import only
from tests.random_networks import (
    NetworkMaker,
    odd_network,
    random_codes,
    random_network,
    two_blocks,
    wide_network,
    with_selects,
)
from tests.rtl.design import QUICK

#: Images per network: all zero, sparse and dense ones among them.
_IMAGES = 2
#: Cores and lanes of the slow tests.
SIZES = [(1, 1), (2, 2), (4, 1), (4, 2), (8, 2)]


def fitting(
    config: AcceleratorConfig, first_seed: int, count: int, made: Callable[[int], Network] = random_network
) -> list[tuple[Program, np.ndarray]]:
    """Random programs that fit a config, with images."""
    work = []
    seed = first_seed
    while len(work) < count:
        network = with_selects(made(seed), np.random.default_rng(seed), 0.5 * (seed % 2))
        try:
            program = compile_network(network, config)
        except ValueError as error:
            if "too many" not in str(error):
                raise
        else:
            work.append((program, random_codes(network, _IMAGES, seed)))
        seed += 1
    return work


def programs(cores: int, lanes: int) -> list[tuple[Program, np.ndarray]]:
    """Random programs for a size, with images; some of them odd."""
    config = preset("tiny").replace(cores=cores, lanes=lanes)
    odd = 6 if cores < 4 else 3
    return fitting(config, 100 * cores, 2 * odd) + fitting(config, 10 * cores, odd, odd_network)


def packed_network(seed: int) -> Network:
    """A network whose image has columns side by side in its words (:mod:`hw.network.packing`)."""
    rng = np.random.default_rng(seed)
    channels, together = ((1, 4), (3, 2), (2, 2))[seed % 3]
    maker = NetworkMaker(rng, (5, 4 * together, channels))
    here = maker.conv(INPUT, 9, (3, int(rng.integers(1, 5))), (2, together), (1, 1, *rng.integers(0, 4, 2).tolist()))
    maker.head(maker.conv(here, 5, (1, 1)), 4)
    network = maker.network(f"packed{seed}")
    assert most_packed(network) == together
    return network


def many_classes_network(seed: int) -> Network:
    """More classes than most designs have logits."""
    maker = NetworkMaker(np.random.default_rng(seed), (2, 3, 1))
    maker.head(maker.conv(INPUT, 5, (2, 3)), 240)
    return maker.network(f"classes{seed}")


def quick_programs() -> list[tuple[Program, np.ndarray]]:
    """Random programs for the quick design, with images; some odd, some of packed images, one of many classes."""
    makers = {random_network: (402, 4), odd_network: (40, 2), packed_network: (1, 3), many_classes_network: (1, 1)}
    return [work for make, (seed, count) in makers.items() for work in fitting(QUICK, seed, count, make)]


def check(work: list[tuple[Program, np.ndarray]], **options) -> None:
    """Run everything in one simulation and compare."""
    for (program, codes), outcomes in zip(work, run_work(work, **options), strict=True):
        golden = run(program.network, codes)
        result = compare(program, outcomes, golden, simulate(program, codes, golden=golden))
        assert result["mismatches"] == [], program.network.name
        assert result["layers"] >= 2 * _IMAGES - 2


def test_random_networks_agree(simulator, waves):
    check(quick_programs(), simulator=simulator, waves=waves)


@pytest.mark.slow
@pytest.mark.parametrize(("cores", "lanes"), SIZES)
def test_more_random_networks_agree(simulator, waves, cores, lanes):
    check(programs(cores, lanes), simulator=simulator, waves=waves)


@pytest.mark.slow
def test_random_networks_with_split_lists_agree(simulator, waves, monkeypatch):
    """Whatever lists can be split are, and accumulators are of logic cells."""
    only(monkeypatch, split=True)
    config = preset("tiny").replace(cores=4, accumulators=32, second_bank_words=128)
    work = fitting(config, 700, 8)
    split = [
        any(row.parts for each in p.decoded.layers for core in each.working.values() for row in core.rows)
        for p, _ in work
    ]
    assert sum(split) >= 6
    check(work, simulator=simulator, waves=waves)


def sums_agree(config: AcceleratorConfig, size: int, channels: int, images: int, **options) -> None:
    network = two_blocks(size, channels)
    program = compile_network(network, config)
    windows = {c.tensor: layer.cores for c, layer in zip(program.commands, program.decoded.layers, strict=True)}
    first, *sums = [layer.name for layer in network.layers if layer.kind == "add" or layer.name == "layer0"]
    assert all([c.window for c in windows[name]] == [c.window for c in windows[first]] for name in sums)
    codes = random_codes(network, _IMAGES, 0)[-images:]
    assert (codes != network.input.zero_point).any()
    check([(program, codes)], **options)


def test_sums_in_the_places_of_their_operands_agree(simulator, waves):
    """The memories don't hold three of its maps."""
    sums_agree(QUICK, 22, 8, 1, simulator=simulator, waves=waves)


@pytest.mark.slow
@pytest.mark.parametrize(("cores", "lanes", "size"), [(1, 1, 16), (4, 1, 20)])
def test_larger_sums_in_the_places_of_their_operands_agree(simulator, waves, cores, lanes, size):
    config = preset("tiny").replace(cores=cores, lanes=lanes)
    sums_agree(config, size, 16, _IMAGES, simulator=simulator, waves=waves)


def strips_agree(config: AcceleratorConfig, networks: list[Network], images: int, **options) -> None:
    work = [(compile_network(network, config), random_codes(network, _IMAGES, 0)[-images:]) for network in networks]
    assert all(strips_of(program) for program, _ in work)
    assert all((codes != program.network.input.zero_point).any() for program, codes in work)
    check(work, **options)


def test_networks_in_strips_agree(simulator, waves):
    """The memories don't hold the maps between the first layers."""
    strips_agree(QUICK, [wide_network(418, most=20)], 1, simulator=simulator, waves=waves)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cores", "lanes", "seeds"),
    [(1, 1, (105, 113)), (2, 2, (207, 223)), (4, 1, (406, 415)), (4, 2, (406,)), (8, 2, (829,))],
)
def test_larger_networks_in_strips_agree(simulator, waves, cores, lanes, seeds):
    config = preset("tiny").replace(cores=cores, lanes=lanes)
    strips_agree(config, [wide_network(seed) for seed in seeds], _IMAGES, simulator=simulator, waves=waves)


@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_random_networks_agree_with_stalls_on_the_host_streams(simulator, waves, count):
    check(fitting(preset("tiny"), 1000, count), stall=0.3, seed=7, simulator=simulator, waves=waves)


@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize(("pes", "lanes", "job_queue"), [(2, 1, 8), (4, 2, 2), (8, 1, 2), (8, 2, 8)])
def test_random_networks_agree_for_other_sizes(cores, pes, lanes, job_queue):
    config = preset("tiny").replace(cores=cores, pes=pes, lanes=lanes, job_queue=job_queue, output_queue=4)
    config = config.replace(accumulators=512, list_words=4096)
    check(fitting(config, 10_000 * cores + 1000 * pes + job_queue, 50))
