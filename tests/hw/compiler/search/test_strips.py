from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.compiler.lower import lower
from hw.compiler.search.strips import _apart, cut, cuts_in_strips
from hw.compiler.steps.partition import bands_of
from hw.compiler.steps.step import Step
from hw.config import AcceleratorConfig
from hw.network.network import INPUT, Network
from hw.network.selection import Select
from hw.rules import ShortageError
from models.integer.golden import run
from sim import simulate, worst_case
from tests.hw.equality import assert_equals_golden, strips_of
from tests.random_networks import NetworkMaker, random_codes, two_blocks, wide_network

CONFIG = AcceleratorConfig(
    pes=4, list_words=8192, accumulators=1024, activation_words=512, channel_words=4096, layer_words=4096
)


def chain(size: int = 24, channels: int = 24, density: float = 0.3) -> Network:
    """Two maps of many channels between an image and a map of 8."""
    maker = NetworkMaker(np.random.default_rng(0), (size, size, 3))
    first = maker.conv(INPUT, channels, (3, 3), pads=(1, 1, 1, 1), density=density)
    second = maker.conv(first, channels, (3, 3), pads=(1, 1, 1, 1), density=density)
    last = maker.conv(second, 8, (3, 3), (2, 2), pads=(0, 1, 0, 1), density=0.3)
    maker.head(maker.pool(last), 5)
    return maker.network("chain")


def strips(steps: list[Step]) -> dict[int, list[Step]]:
    """The steps of each strip, in order."""
    found: dict[int, list[Step]] = {}
    for step in steps:
        if step.strip is not None:
            found.setdefault(step.strip.number, []).append(step)
    return found


@pytest.mark.parametrize("bands", [1, 2])
@pytest.mark.parametrize("seed", range(12))
def test_a_strip_makes_the_rows_that_its_later_steps_read(seed, bands):
    steps = lower(wide_network(seed, least=50, most=60)).steps
    last = next(n for n, step in enumerate(steps) if step.kernel.global_pool)
    done = cut(steps, 0, last, bands, 2)
    assert done is not None
    for strip in strips(done).values():
        made = {step.result.name: step.strip.rows for step in strip}
        needed: dict[str, set[tuple[int, int]]] = {name: set() for name in made}
        for step in strip:
            for band, rows in enumerate(step.strip.rows):
                reads = [(step.layer.inputs[0], step.kernel.reads(*rows))]
                reads += [(name, rows) for name in (step.add.inputs if step.add else ()) if name in made]
                for name, (first, end) in reads:
                    if name in made:
                        assert made[name][band][0] <= first < end <= made[name][band][1]
                        needed[name] |= {(band, first), (band, end - 1)}
        for name, rows in made.items():  # and none beyond
            if strip[0].strip.between >= {name}:
                assert {(b, edge) for b, (first, end) in enumerate(rows) for edge in (first, end - 1)} <= needed[name]


@pytest.mark.parametrize(("bands", "count"), [(1, 2), (1, 4), (2, 2), (2, 3)])
def test_what_stays_whole_is_made_once_and_each_core_has_a_band_of_it(bands, count):
    done = cut(lower(chain(48)).steps, 0, 3, bands, count)
    assert done is not None
    whole = [step.strip.rows for step in done if step.strip is not None and step.result.name == "layer2"]
    assert all(len(rows) == bands for rows in whole)
    for band in range(bands):
        edges = [rows[band] for rows in whole]
        assert all(before[1] == after[0] for before, after in pairwise(edges))
        assert (edges[0][0], edges[-1][1]) == bands_of(lower(chain(48)).steps[2], bands)[band]


def test_strips_run_one_after_the_other():
    done = cut(lower(chain()).steps, 0, 3, 1, 2)
    assert [step.writes for step in done] == [
        *("layer0@0", "layer1@0", "layer2", "layer0@1", "layer1@1", "layer2"),
        *("layer3", "layer4"),
    ]
    assert [step.reads for step in done] == [
        *("input", "layer0@0", "layer1@0", "input", "layer0@1", "layer1@1"),
        *("layer2", "layer3"),
    ]


def test_steps_that_cannot_be_cut():
    steps = lower(chain()).steps
    assert cut(steps, 0, 3, 1, 2)
    assert cut(steps, 1, 2, 1, 2) is None  # nothing lies between
    assert cut(steps, 0, 3, 4, 4) is None  # 12 rows
    assert cut(steps, 0, 4, 1, 2) is None  # a mean of all rows
    assert cut(steps, 2, 5, 1, 1) is None  # logits
    assert cut(cut(steps, 0, 3, 1, 2), 0, 3, 1, 2) is None  # in strips already
    select = Select(kind="elements", count=100)
    selecting = [steps[0], replace(steps[1], layer=replace(steps[1].layer, select=select)), *steps[2:]]
    assert cut(selecting, 0, 3, 1, 2) is None
    blocks = lower(two_blocks(16, 16)).steps
    assert cut(blocks, 0, 2, 1, 2) is None  # the stem's map is added later, too
    assert cut(blocks, 0, 3, 1, 2)


def test_networks_that_fit_are_left_whole():
    network = chain()
    steps = lower(network).steps
    assert list(cuts_in_strips(network, steps, CONFIG.replace(activation_words=4096))) == []
    assert list(cuts_in_strips(network, steps, CONFIG.replace(activation_words=256))) == []  # the image alone needs 576
    program = compile_network(network, CONFIG.replace(activation_words=4096))
    assert [command.name for command in program.commands] == [f"layer{n}" for n in range(5)]


def test_strips_share_lists_and_channel_parameters():
    whole = compile_network(chain(), CONFIG.replace(activation_words=4096)).images
    assert 1024 < whole["lists"].shape[1] < 2048
    in_strips = compile_network(chain(), CONFIG.replace(activation_words=1024, list_words=2048))
    assert len(in_strips.commands) == 3 * 8 + 2
    np.testing.assert_array_equal(in_strips.images["bias"], whole["bias"])


@pytest.mark.parametrize(
    ("network", "cores", "words", "loader"),
    [
        (chain(), 1, 1024, 1),
        pytest.param(chain(32), 2, 1024, 0, marks=pytest.mark.slow),
        pytest.param(chain(), 1, 1024, 0, marks=pytest.mark.slow),
        pytest.param(chain(32, 64, 0.02), 4, 2048, 0, marks=pytest.mark.slow),
    ],
)
def test_networks_whose_maps_exceed_the_memories_run_in_strips(network, cores, words, loader):
    config = CONFIG.replace(cores=cores, activation_words=words, loader=loader)
    config = config.replace(list_words=1024 if loader else 8192)
    program = compile_network(network, config)
    assert strips_of(program) == {"layer0", "layer1"}
    assert len(program.images["weights"]) > 0 or not loader
    codes = random_codes(network, 2, 0)
    assert_equals_golden(program, codes[:1])
    cycles = simulate(program, codes, golden=run(network, codes)).cycles
    assert (cycles <= worst_case(program)).all()


@pytest.mark.parametrize(
    ("cores", "seed", "words"),
    [
        *((1, 100, 1024), (2, 203, 256)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1, 103, 1024), (2, 204, 1024), (4, 410, 256), (4, 415, 512), (8, 829, 512))
        ),
    ],
)
def test_random_networks_run_in_strips(cores, seed, words):
    network = wide_network(seed)
    program = compile_network(network, CONFIG.replace(cores=cores, activation_words=words))
    assert strips_of(program)
    assert_equals_golden(program, random_codes(network, 1, seed))


def test_a_network_that_does_not_fit_in_strips_either_is_refused():
    with pytest.raises(
        ShortageError, match=r"activation memory has banks of 256 words; \S+ alone needs \d+, \d+ too many"
    ):
        compile_network(chain(), CONFIG.replace(activation_words=256))


def test_bands_that_overlap_share_their_rows_if_there_is_one_for_each():
    assert _apart([(0, 2), (0, 2), (4, 7)]) == [(0, 1), (1, 2), (4, 7)]
    assert _apart([(0, 2), (0, 2), (1, 2)]) is None
