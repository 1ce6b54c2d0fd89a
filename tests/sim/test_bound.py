from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import Conditions
from hw.network.layers import threshold_of
from hw.program.chunks import ChunkRows, ListChunk
from models.integer import golden
from sim import WeightSource, constant_time, layer_bounds, simulate, worst_case
from sim.plan import Plan
from tests.large_machine import LARGE
from tests.random_networks import random_codes, random_network, with_selects
from tests.sim.test_simulate import CONFIG, MACHINES, several


def dense_codes(network, count, seed):
    """Images without a zero, of magnitudes of at least 100."""
    low, high = (-128, 27) if network.input.zero_point >= 0 else (100 - 128, 128)
    far = np.random.default_rng(seed).integers(low, high, (count, *network.input.shape))
    return np.where(np.abs(far - network.input.zero_point) < 100, low if low == -128 else 127, far).astype(np.int8)


@pytest.mark.parametrize("seed", range(12))
def test_no_image_takes_longer_than_the_bound(seed):
    network = random_network(seed, size=6)
    cores, pes, lanes = MACHINES[seed % len(MACHINES)]
    config = CONFIG.replace(cores=cores, pes=pes, lanes=lanes, job_queue=(2, 8)[seed % 2])
    program = compile_network(network, config)
    codes = np.concatenate([random_codes(network, 6, seed), dense_codes(network, 6, seed)])
    found = simulate(program, codes)
    bounds = layer_bounds(program)
    assert (found.layer_cycles <= bounds).all()
    # The first layer of an image without a zero takes all of it, unless its threshold makes zeros.
    assert (found.layer_cycles[6:, 0] == bounds[0]).all() or threshold_of(network.layers[0]) > 100
    assert found.cycles.max() <= worst_case(program) <= program.decoded.header.timeout


@pytest.mark.parametrize("seed", range(8))
def test_no_image_takes_longer_than_the_bound_with_selections(seed):
    network = with_selects(random_network(seed, size=6), np.random.default_rng(seed), 0.8)
    cores, pes, lanes = MACHINES[seed % len(MACHINES)]
    program = compile_network(network, CONFIG.replace(cores=cores, pes=pes, lanes=lanes, selector=(1, 2, 4)[seed % 3]))
    codes = np.concatenate([random_codes(network, 6, seed), dense_codes(network, 6, seed)])
    found = simulate(program, codes)
    assert (found.layer_cycles <= layer_bounds(program)).all()
    assert found.cycles.max() <= worst_case(program) <= program.decoded.header.timeout


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_more_nonzeros_never_take_less_time(data):
    """What the bound rests on, for every layer and activations that no image may lead to."""
    seed = data.draw(st.integers(0, 30))
    network = random_network(seed, size=5)
    cores, pes, lanes = MACHINES[data.draw(st.integers(0, len(MACHINES) - 1))]
    queues = data.draw(st.sampled_from(((2, 2), (8, 2), (2, 16), (8, 16))))
    sizes = {"cores": cores, "pes": pes, "lanes": lanes, "job_queue": queues[0], "output_queue": queues[1]}
    program = compile_network(network, CONFIG.replace(**sizes))
    plan, tensors = Plan(program), network.tensors()
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 20)))
    for number, layer in enumerate(plan.layers):
        height, width, channels = tensors[layer.source].shape
        stored = np.arange(program.config.padded_channels(channels)) < channels
        stored = np.tile(stored, height * width)
        draws = rng.random(stored.size)
        active = np.array([stored & (draws < share) for share in (0.0, 0.1, 0.4, 0.7, 0.95, 1.0)])
        cycles, *_ = plan.times(number, active, np.ones(len(active), dtype=bool))
        assert (np.diff(cycles) >= 0).all(), (seed, number, cycles)


@pytest.mark.parametrize("name", ["tiny", LARGE])
def test_a_deadline_bounds_runs_and_forces_them_out(name):
    network, codes = several()
    program = compile_network(network, CONFIG if name == "tiny" else preset(name))
    codes = np.concatenate([codes, dense_codes(network, 8, 5)])
    free = simulate(program, codes)
    head = next(n for n, command in enumerate(program.commands) if command.layer == network.exits[0].logits)
    plan = Plan(program)
    at_branch = free.layer_cycles[:, : head + 1].sum(axis=1) + sum(plan.fetch[: head + 1] + plan.control[: head + 1])
    late = np.flatnonzero(free.exit_index == 1)
    deadlines = {1, *at_branch[late].tolist(), *(at_branch[late] - 1).tolist(), int(free.cycles.max())}
    expected = golden.run(network, codes)
    seen = set()
    for deadline in sorted(deadlines):
        found = simulate(program, codes, conditions=Conditions(deadline=deadline))
        forced = (free.exit_index == 1) & (at_branch > deadline)
        np.testing.assert_array_equal(found.decisions.forced, forced)
        np.testing.assert_array_equal(found.exit_index, np.where(forced, 0, free.exit_index))
        np.testing.assert_array_equal(found.cycles[~forced], free.cycles[~forced])
        np.testing.assert_array_equal(found.decisions.margin, expected.margins[np.arange(len(codes)), found.exit_index])
        np.testing.assert_array_equal(found.classes[forced], expected.logits[0].argmax(axis=1)[forced])
        assert found.cycles.max() <= worst_case(program, deadline=deadline) <= worst_case(program)
        seen |= set(forced[late].tolist())
    assert seen == {False, True}
    # With all images forced out at the first branch, no more than that remains.
    last = sum(layer_bounds(program)[head + 1 :])
    assert worst_case(program, deadline=1) <= worst_case(program) - max(0, int(at_branch.max()) - 1)
    assert worst_case(program, deadline=1) > last


def test_without_a_deadline_the_decisions_are_the_golden_models():
    network, codes = several()
    found, expected = simulate(compile_network(network, CONFIG), codes), golden.run(network, codes)
    np.testing.assert_array_equal(found.exit_index, expected.exit_index)
    np.testing.assert_array_equal(found.classes, expected.classes)
    assert not found.decisions.forced.any()


def test_a_row_of_lists_makes_a_slow_layer_two_cycles_longer(monkeypatch):
    """Its lanes take values in every second cycle: one that comes a cycle later is taken two later."""
    network = random_network(28, size=5)
    network = replace(network, layers=(replace(network.layers[0], threshold=1), *network.layers[1:]))
    cores, pes, lanes = MACHINES[28 % len(MACHINES)]
    program = compile_network(network, CONFIG.replace(cores=cores, pes=pes, lanes=lanes, job_queue=2, loader=1))
    codes = dense_codes(network, 1, 28)
    alone = layer_bounds(program)
    row = ChunkRows(cores=tuple(range(cores)), address=4095, words=np.zeros((1, pes), dtype=np.uint32), beat=1)
    chunk = ListChunk(address=0, beats=1 + program.config.list_row_beats, after=0, segments=(row,))
    monkeypatch.setitem(vars(program), "decoded", replace(program.decoded, chunks=(chunk,)))
    assert Plan(program).layers[0].slow
    bound = layer_bounds(program)[0]
    times = [simulate(program, codes, source=WeightSource(latency=n)).layer_cycles[0, 0] for n in range(1, 121)]
    assert (min(times), max(times)) == (alone[0], bound) == (bound - 2, bound)


def test_in_constant_time_every_run_takes_the_worst_case():
    """Or what is asked for; layers still take what they take, and a run that takes longer says so."""
    network, codes = several()
    program = compile_network(network, CONFIG)
    free = simulate(program, codes)
    assert len(np.unique(free.cycles)) > 2
    natural = simulate(program, codes, conditions=Conditions(audit=256)).cycles
    steady = simulate(program, codes, conditions=Conditions(constant=True))
    np.testing.assert_array_equal(steady.cycles, worst_case(program))
    np.testing.assert_array_equal(steady.exit_index, free.exit_index)
    np.testing.assert_array_equal(steady.classes, free.classes)
    assert (steady.layer_cycles > 0).all()
    assert not steady.decisions.overrun.any()
    assert not steady.decisions.forced.any()
    for deadline in (1, int(np.sort(natural)[len(natural) // 2]), 2 * worst_case(program)):
        found = simulate(program, codes, conditions=Conditions(constant=True, deadline=deadline), batch=5)
        np.testing.assert_array_equal(found.cycles, np.maximum(natural, deadline))
        np.testing.assert_array_equal(found.decisions.overrun, natural > deadline)
        np.testing.assert_array_equal(found.layer_cycles, steady.layer_cycles)
        assert not found.decisions.forced.any()


def test_only_constant_time_without_a_deadline_is_given_one():
    network, _ = several()
    program = compile_network(network, CONFIG)
    for conditions in (Conditions(), Conditions(deadline=7), Conditions(constant=True, deadline=7)):
        assert constant_time(program, conditions) == conditions
    filled = constant_time(program, Conditions(constant=True, audit=3, seed=9))
    assert filled == Conditions(constant=True, audit=3, seed=9, deadline=worst_case(program))
