"""Images back to back: what the simulator says of them, by itself. The RTL is asked in tests.rtl.test_batch."""

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import Conditions
from hw.network.network import INPUT
from hw.program.bits import words_of
from hw.program.isa import NEVER, Header
from hw.program.program import Program
from models.integer import golden
from sim import has_known_time, simulate, time_batch, worst_case
from sim.timing import BETWEEN_RUNS, SWITCH_CYCLES
from tests.random_networks import NetworkMaker, random_codes, random_network


def program(side: int = 6, channels: int = 5, cores: int = 2) -> Program:
    """Three convolutions and a head."""
    maker = NetworkMaker(np.random.default_rng(3), (side, side, channels))
    here = INPUT
    for _ in range(3):
        here = maker.conv(here, 8, (3, 3), pads=(1, 1, 1, 1), density=0.8)
    maker.head(here, 4, None)
    return compile_network(maker.network("batch"), preset("tiny").replace(cores=cores))


def codes_for(made: Program, count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-128, 128, (count, *made.network.input.shape)).astype(np.int8)


def without_overlap(made: Program) -> Program:
    """The same, but the next image must wait for the end."""
    header = replace(made.decoded.header, image_free=NEVER).pack()
    words = np.concatenate([header, made.images["program"][words_of(Header) :]]).astype(np.uint32)
    return Program(
        network=made.network, config=made.config, commands=made.commands, images=made.images | {"program": words}
    )


def test_a_long_run_hides_the_load_of_the_next_image():
    made = program()
    assert made.decoded.header.image_free == 1
    timing = simulate(made, codes_for(made, 6))
    batch = time_batch(made, timing)
    assert batch.waits[1:].tolist() == [0] * 5
    assert np.diff(batch.results).tolist() == (timing.cycles[1:] + BETWEEN_RUNS).tolist()
    assert batch.cycles_per_image == batch.results[-1] / 6


def test_in_constant_time_results_are_equally_far_apart():
    made = program()
    timing = simulate(made, codes_for(made, 5), conditions=Conditions(constant=True))
    batch = time_batch(made, timing)
    assert np.diff(batch.results).tolist() == [worst_case(made) + BETWEEN_RUNS] * 4


def test_without_a_free_place_every_load_is_waited_for():
    made = program()
    timing = simulate(made, codes_for(made, 4))
    late = time_batch(without_overlap(made), timing)
    size = int(np.prod(made.network.input.shape))
    assert (late.waits[1:] >= size).all()
    assert (np.diff(late.results) == np.diff(time_batch(made, timing).results) + late.waits[1:]).all()


def test_a_load_longer_than_a_run_begins_as_soon_as_its_place_is_free():
    """Earlier by as much as the run goes on after the last layer that reads the image; no load's words are apart."""
    maker = NetworkMaker(np.random.default_rng(3), (12, 12, 8))
    maker.head(maker.conv(INPUT, 8, (1, 1), stride=(4, 4), density=0.1), 4, None)
    made = compile_network(maker.network("batch"), preset("tiny"))
    timing = simulate(made, codes_for(made, 4))
    free = timing.layer_ends[:, made.decoded.header.image_free - 1]
    early, late = time_batch(made, timing), time_batch(without_overlap(made), timing)
    assert (timing.cycles < early.loads).all()
    assert (late.waits - early.waits)[1:].tolist() == (timing.cycles - free)[:-1].tolist()


def test_loads_take_a_code_a_cycle_and_words_are_spaced_while_a_run_is_at_work():
    for channels, spaced in ((5, 5), (8, 8), (1, 4), (3, 4)):
        made = program(channels=channels)
        positions = made.network.input.shape[0] * made.network.input.shape[1]
        batch = time_batch(made, simulate(made, codes_for(made, 2)))
        # The first image comes alone. A word is as long on its way as its last code waits for the word before.
        assert batch.loads[0] == positions * channels + 1
        assert batch.loads[1] == positions * spaced + 1 - (spaced - channels)


def test_another_program_before_costs_its_selection():
    made = program()
    timing = simulate(made, codes_for(made, 3))
    there, other = time_batch(made, timing, selected=True), time_batch(made, timing)
    assert (other.results - there.results).tolist() == [SWITCH_CYCLES] * 3


def test_a_batch_needs_an_image():
    made = program()
    timing = simulate(made, codes_for(made, 1)[:0])
    with pytest.raises(ValueError, match=r"^a batch needs at least 1 image, not 0$"):
        time_batch(made, timing)


def test_a_batch_that_reads_lists_has_a_known_time_if_every_run_goes_to_the_end():
    """In constant time, too, whatever exit it reports; where one ends early, its lists may still be on their way."""
    network = random_network(514)
    codes = random_codes(network, 4, 514)
    margins = np.sort(golden.run(network, codes).margins[:, 0])
    branch = replace(network.exits[0], threshold=int(margins[2]))
    network = replace(network, exits=(branch, *network.exits[1:]))
    made = compile_network(network, preset("tiny").replace(list_words=128, loader=1))
    assert made.decoded.header.chunks
    free, steady = simulate(made, codes), simulate(made, codes, conditions=Conditions(constant=True))
    early = int((free.exit_index[:-1] == 0).sum())
    assert early
    assert not has_known_time(made, free)
    with pytest.raises(ValueError, match=f"has a known time only if no run leaves early, not if {early} do$"):
        time_batch(made, free)
    np.testing.assert_array_equal(steady.exit_index, free.exit_index)
    assert has_known_time(made, steady)
    assert np.diff(time_batch(made, steady).results).tolist() == [worst_case(made) + BETWEEN_RUNS] * 3
