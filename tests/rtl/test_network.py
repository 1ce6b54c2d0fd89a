"""Whole networks with an early exit: four ways (program file, golden, simulator, RTL), equal values and cycles."""

import shutil

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import Conditions
from hw.network.network import INPUT, Network
from hw.program.program import Program, load
from models.integer.golden import run
from offramp.rtl.expected import compare
from offramp.rtl.job import Job
from offramp.rtl.run import _run as done
from offramp.rtl.run import run_work, verify
from sim import constant_time, simulate, worst_case
from sim.plan import Plan
from tests.large_machine import LARGE
from tests.random_networks import NetworkMaker, random_codes
from tests.rtl.design import QUICK


def exiting_network(seed: int, size: int, widths: tuple[int, int]) -> Network:
    """A residual network like the demo's: stem, block, branch head, strided block with a shortcut, head."""
    maker = NetworkMaker(np.random.default_rng(seed), (size, size, 1))
    stem = maker.conv(INPUT, widths[0], (3, 3), pads=(1, 1, 1, 1), density=0.7)
    block = maker.block(stem, density=0.3)
    maker.head(maker.pool(block), 10, threshold=0)
    wide = maker.conv(block, widths[1], (3, 3), (2, 2), (0, 1, 0, 1), density=0.3)
    maker.head(maker.pool(maker.block(wide, density=0.3)), 10)
    return maker.network(f"exiting{seed}")


def with_both_exits(program: Program, codes: np.ndarray) -> tuple[Program, np.ndarray]:
    """The program with a threshold that some of the images reach."""
    margins = np.unique(run(program.network, codes).margins[:, 0])
    network = program.network.to_dict()
    network["exits"][0]["threshold"] = int(margins[len(margins) // 2])
    changed = Network.from_dict(network, dict(program.network.arrays()))
    return compile_network(changed, program.config), codes


def through_the_file(program: Program, tmp_path) -> Program:
    program.save(tmp_path / "net.off")
    return load(tmp_path / "net.off", program.config)


@pytest.mark.parametrize(
    "config",
    [
        QUICK,
        *(
            pytest.param(preset(name), marks=pytest.mark.slow)
            for name in ("tiny,cores=4,lanes=2", "single", "small", LARGE)
        ),
    ],
    ids=["quick", "four", "single", "small", "large"],
)
def test_a_residual_network_with_both_exits(tmp_path, simulator, waves, config):
    network = exiting_network(3, 6, (4, 8))
    program, codes = with_both_exits(compile_network(network, config), random_codes(network, 3, 3))
    result = verify([(through_the_file(program, tmp_path), codes)], simulator=simulator, waves=waves)
    assert result["mismatches"] == []
    assert (result["values_equal"], result["cycles_equal"], result["images"]) == (True, True, 3)
    assert 0 < result["early"] < 3


@pytest.mark.slow
def test_a_deadline_forces_images_out(simulator, waves):
    """A deadline that one image just keeps."""
    network = exiting_network(6, 4, (4, 6))
    program, codes = with_both_exits(compile_network(network, preset("tiny")), random_codes(network, 12, 6))
    free = simulate(program, codes)
    late = free.exit_index == 1
    head = next(n for n, command in enumerate(program.commands) if command.layer == network.exits[0].logits)
    plan = Plan(program)
    before = free.layer_cycles[late, : head + 1].sum(axis=1) + sum(plan.fetch[: head + 1] + plan.control[: head + 1])
    deadline = int(np.sort(before)[late.sum() // 2 - 1])
    conditions = Conditions(deadline=deadline)
    timing = simulate(program, codes, conditions=conditions)
    (outcomes,) = run_work([(program, codes)], simulator=simulator, waves=waves, conditions=conditions)
    assert compare(program, outcomes, run(network, codes), timing)["mismatches"] == []
    assert 0 < timing.decisions.forced.sum() < late.sum()
    assert max(outcome.cycles for outcome in outcomes) <= worst_case(program, deadline=deadline)


def test_audits_constant_time_and_ranges_agree(simulator, waves):
    """Three exits, under all conditions; of the images some leave at each exit, and some margins are out of range."""
    maker = NetworkMaker(np.random.default_rng(4), (4, 4, 2))
    here = maker.conv(INPUT, 6, (3, 3), pads=(1, 1, 1, 1), density=0.7)
    for threshold in (0, 0, None):
        maker.head(here, 4, threshold)
        here = maker.conv(here, 6, (3, 3), pads=(1, 1, 1, 1), density=0.5) if threshold is not None else here
    network = maker.network("conditions")
    codes = np.random.default_rng(9).integers(-128, 128, (6, *network.input.shape)).astype(np.int8)
    margins = np.sort(run(network, codes).margins, axis=0)
    description = network.to_dict()
    for number, head in enumerate(description["exits"]):
        head |= {"low": int(margins[1, number]), "high": int(margins[4, number])}
        if head["threshold"] is not None:
            head["threshold"] = int(margins[3, number])
    program = compile_network(Network.from_dict(description, dict(network.arrays())), preset("tiny"))
    free = simulate(program, codes)
    deadline = int(np.median(free.cycles))
    usual = int(np.median(simulate(program, codes, conditions=Conditions(audit=256)).cycles))
    golden, seen = run(program.network, codes), set()
    conditions = [
        Conditions(audit=128, seed=77),
        Conditions(audit=256, deadline=deadline),
        Conditions(constant=True),
        Conditions(constant=True, audit=100, deadline=usual),
    ]
    # All in one simulation, the program loaded anew for each.
    resolved = [constant_time(program, each) for each in conditions]
    job = Job(work=[(program, codes)] * len(conditions), conditions=resolved, step=False)
    for each, outcomes in zip(conditions, done(job, simulator, waves, None)[0], strict=True):
        timing = simulate(program, codes, conditions=each)
        assert compare(program, outcomes, golden, timing)["mismatches"] == []
        if each.constant:
            assert timing.cycles.min() == (each.deadline or worst_case(program))
            assert (timing.cycles.max() == timing.cycles.min()) == (not each.deadline)
        else:
            assert timing.cycles.max() <= worst_case(program, deadline=each.deadline)
        found = [timing.decisions.result(image) for image in range(len(codes))]
        seen |= {(name, value) for result in found for name, value in result.items()}
    # Back to back as well.
    result = verify([(program, codes)], simulator=simulator, waves=waves, conditions=Conditions(constant=True))
    assert (result["values_equal"], result["cycles_equal"], result["mismatches"]) == (True, True, [])
    for flag in ("out_of_range", "forced", "passed", "differs", "overrun"):
        assert {(flag, 0), (flag, 1)} <= seen
    assert {("exit", n) for n in range(3)} | {("early_exit", 1)} <= seen


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
def test_a_small_network_on_icarus(tmp_path):
    network = exiting_network(6, 4, (4, 6))
    program, codes = with_both_exits(compile_network(network, preset("tiny")), random_codes(network, 4, 6))
    result = verify([(through_the_file(program, tmp_path), codes)], simulator="icarus")
    assert result["mismatches"] == []
    assert 0 < result["early"] < 4
