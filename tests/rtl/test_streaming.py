"""Networks whose lists don't fit: RTL, golden model and simulator agree on every value and every cycle."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig, preset
from hw.program.program import Program
from models.integer.golden import run
from offramp.rtl.expected import compare
from offramp.rtl.run import run_work
from sim import WeightSource, simulate, worst_case
from tests.random_networks import random_codes, random_network, with_selects
from tests.rtl.design import QUICK

_IMAGES = 2


def streaming(config: AcceleratorConfig, seeds: Iterable[int], most: int) -> list[tuple[Program, np.ndarray]]:
    """Random programs that read lists during the run, with images."""
    work: list[tuple[Program, np.ndarray]] = []
    for seed in seeds:
        if len(work) == most:
            break
        network = with_selects(random_network(seed), np.random.default_rng(seed), 0.5 * (seed % 2))
        codes = random_codes(network, _IMAGES, seed)
        if len(network.exits) > 1:
            # At least one image leaves at the first.
            branch = replace(network.exits[0], threshold=int(run(network, codes).margins[:, 0].max()))
            network = replace(network, exits=(branch, *network.exits[1:]))
        try:
            program = compile_network(network, config)
        except ValueError as error:
            if "too many" not in str(error):
                raise
        else:
            if len(program.images["weights"]):
                work.append((program, codes))
    return work


def check(work: list[tuple[Program, np.ndarray]], source: WeightSource, **options) -> None:
    """Run everything in one simulation and compare; layers wait, and dispatchers are held."""
    early = waited = held = 0
    for (program, codes), outcomes in zip(work, run_work(work, source=source, **options), strict=True):
        golden = run(program.network, codes)
        timing = simulate(program, codes, golden=golden, source=source)
        result = compare(program, outcomes, golden, timing)
        assert result["mismatches"] == [], program.network.name
        assert timing.cycles.max() <= worst_case(program, source=source)
        early += result["early"]
        waited += int(timing.waited.sum())
        held += int(timing.spent["load"].sum()) - int(timing.waited.sum()) * program.config.multipliers
    assert early > 0
    assert waited > 0
    assert held > 0


def test_random_networks_agree(simulator, waves):
    """Early exits among them, which leave beats on their way; stepped, the loader waits with the run."""
    work = streaming(QUICK, (410, 424), 2)
    check(work, WeightSource(latency=1, cycles_per_beat=3), step=True, simulator=simulator, waves=waves)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cores", "loader", "source", "step"),
    [
        (2, 1, WeightSource(latency=1, cycles_per_beat=3), True),
        (1, 1, WeightSource(latency=1, cycles_per_beat=3), True),
        (2, 4, WeightSource(latency=30), False),
        (4, 1, WeightSource(), False),
    ],
)
def test_more_random_networks_agree(simulator, waves, cores, loader, source, step):
    config = preset("tiny").replace(cores=cores, list_words=128, loader=loader)
    check(streaming(config, count(50 * cores), 10), source, step=step, simulator=simulator, waves=waves)


@pytest.mark.parametrize(
    ("config", "seeds", "most"),
    [
        (QUICK, (420,), 1),
        pytest.param(
            preset("tiny").replace(cores=2, list_words=128, loader=1), range(500, 600), 6, marks=pytest.mark.slow
        ),
    ],
    ids=["quick", "two"],
)
def test_values_are_right_whatever_external_memory_does(simulator, waves, config, seeds, most):
    """It pauses at random, and so does the host; only time depends on it."""
    work = streaming(config, seeds, most)
    assert len(work) == most
    for (program, codes), outcomes in zip(work, run_work(work, stall=0.3, seed=5, step=False), strict=True):
        timing = simulate(program, codes)
        found = [(outcome.label, outcome.exit, outcome.margin) for outcome in outcomes]
        decided = [timing.decisions.result(image) for image in range(len(codes))]
        assert found == [(d["label"], d["exit"], d["margin"]) for d in decided]
        products = [[record["products"] for record in outcome.layers] for outcome in outcomes]
        assert products == [
            [int(n) for n in row[: len(made)]] for row, made in zip(timing.products, products, strict=True)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("pes", "lanes", "words", "loader"), [(2, 1, 256, 2), (4, 2, 64, 1), (8, 2, 128, 4), (8, 1, 64, 2)]
)
def test_random_networks_agree_for_other_sizes(cores, pes, lanes, words, loader):
    config = preset("tiny").replace(cores=cores, pes=pes, lanes=lanes, list_words=words, loader=loader)
    config = config.replace(accumulators=512)
    source = WeightSource(latency=1 + 7 * cores, cycles_per_beat=1 + pes % 4)
    check(streaming(config, count(1000 * cores + 100 * pes), 30), source)
