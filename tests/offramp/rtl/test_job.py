"""Jobs and outcomes come back from their files as they were."""

from dataclasses import asdict, replace
from itertools import chain

import numpy as np
import pytest

from fpga.runs import RunOutcome
from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import Conditions
from hw.weight_source import PROMPT, WeightSource
from offramp.rtl.job import BatchOutcome, Job, LayerTime, load_layers, load_outcomes, save_outcomes
from tests.random_networks import random_codes, random_network


@pytest.fixture(scope="module")
def programs():
    return [compile_network(random_network(seed), preset("tiny")) for seed in (1, 6)]


def test_a_job_with_all_that_can_be_said(programs, tmp_path):
    work = [(program, random_codes(program.network, count, 3)) for count, program in zip((3, 0), programs, strict=True)]
    conditions = [Conditions(deadline=99, audit=7, seed=65535, constant=True), Conditions()]
    job = Job(
        work=work, conditions=conditions, together=True, step=False, stall=0.125, seed=4,
        source=WeightSource(latency=3, cycles_per_beat=2),
    )  # fmt: skip
    job.save(tmp_path)
    found = Job.load(tmp_path)
    for (program, codes), (other, read) in zip(work, found.work, strict=True):
        assert other.config == program.config
        assert other.commands == program.commands
        assert all((other.images[name] == image).all() for name, image in program.images.items())
        assert (read.dtype, read.shape) == (np.int8, codes.shape)
        np.testing.assert_array_equal(read, codes)
    assert replace(found, work=work) == job


def test_a_job_with_nothing_said(programs, tmp_path):
    job = Job(work=[(programs[0], random_codes(programs[0].network, 1, 3))], conditions=[Conditions()])
    job.save(tmp_path)
    found = Job.load(tmp_path)
    assert (found.together, found.step, found.stall, found.seed, found.source) == (False, True, 0.0, 0, PROMPT)


def outcome(seed: int, *outputs: list[np.ndarray]) -> RunOutcome:
    layers = [{"index": n, "cycles": 10 * seed + n} for n in range(len(outputs))]
    return RunOutcome(
        label=seed, exit=1, margin=1 << 40, cycles=99, flags={"forced": 1}, layers=layers, outputs=list(outputs)
    )  # fmt: skip


def equal(one: RunOutcome, other: RunOutcome) -> bool:
    """Whether outcomes are the same to the type of every array."""
    pairs = [pair for both in zip(one.outputs, other.outputs, strict=True) for pair in zip(*both, strict=True)]
    same = all(a.dtype == b.dtype and a.shape == b.shape and (a == b).all() for a, b in pairs)
    return same and asdict(replace(one, outputs=[])) == asdict(replace(other, outputs=[]))


def test_outcomes_of_several_programs(tmp_path):
    words = [np.arange(-8, 8, dtype=np.int16).reshape(2, 8), np.zeros((0, 8), np.int16)]
    logits = np.array([-(1 << 31), (1 << 31) - 1], np.int32)
    runs = [[outcome(1, words, [logits]), outcome(2)], [], [outcome(3, [logits + 1], words[::-1])]]
    batches = [BatchOutcome(outcomes=[outcome(4), outcome(5)], results=[7, 1 << 40])]
    times = [LayerTime(program=0, layer=2, first=100, last=1 << 50), LayerTime(program=2, layer=0, first=0, last=1)]
    save_outcomes(tmp_path, runs, batches, times)
    found, found_batches = load_outcomes(tmp_path)
    assert [len(each) for each in found] == [2, 0, 1]
    for one, other in zip(chain(*runs), chain(*found), strict=True):
        assert equal(one, other)
    assert found_batches == batches
    assert load_layers(tmp_path) == times


def test_nothing_that_was_done(tmp_path):
    save_outcomes(tmp_path, [], [], [])
    assert load_outcomes(tmp_path) == ([], [])
    assert load_layers(tmp_path) == []
