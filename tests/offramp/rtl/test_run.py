"""Runs on the RTL, with what a simulation would report in its place: what is said of them, and what is recorded."""

from dataclasses import replace

import numpy as np
import pytest

from hw.network.exits import Conditions
from offramp.rtl import run as rtl
from offramp.rtl.job import BatchOutcome, Job, LayerTime, load_layers, load_outcomes, save_outcomes
from offramp.rtl.run import run_work, verify
from offramp.rtl.waves import Waves
from sim import time_batch


def test_jobs_and_outcomes_survive_their_files(case, tmp_path):
    program, golden, _, outcomes = case
    codes = golden.tensors["input"]
    work = [(program, codes), (program, codes[:1])]
    conditions = [Conditions(deadline=5, audit=256, seed=9, constant=True), Conditions()]
    Job(work=work, conditions=conditions, step=False, stall=0.25, seed=3).save(tmp_path)
    job = Job.load(tmp_path)
    assert (job.step, job.stall, job.seed, len(job.work)) == (False, 0.25, 3, 2)
    assert job.conditions == conditions
    np.testing.assert_array_equal(job.work[1][1], codes[:1])
    batch = BatchOutcome(outcomes=[replace(outcome, outputs=[]) for outcome in outcomes], results=[5, 9, 20])
    times = [LayerTime(0, 0, 100, 200), LayerTime(1, 0, 300, 450)]
    save_outcomes(tmp_path, [outcomes, outcomes[:1]], [batch], times)
    assert load_layers(tmp_path) == times
    (first, second), batches = load_outcomes(tmp_path)
    assert batches == [batch]
    assert [o.layers for o in first] == [o.layers for o in outcomes]
    for found, saved in zip(second[0].outputs, outcomes[0].outputs, strict=True):
        for part, wanted in zip(found, saved, strict=True):
            np.testing.assert_array_equal(part, wanted)


def test_no_image_is_refused(case):
    program, golden, _, _ = case
    with pytest.raises(ValueError, match=r"^verify needs at least 1 image of each program, not 0$"):
        verify([(program, golden.tensors["input"][:0])])


@pytest.fixture
def simulation(monkeypatch, tmp_path):
    """In the place of a simulation: records two changes, and then does what it is told."""
    monkeypatch.setenv("OFFRAMP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "enumerations.json").write_text("{}")
    built, done = [], {}

    def build(config, simulator, *, waves, netlist, progress):
        built.append(waves)
        return tmp_path

    def run_test(directory, simulator, module, testcase, work, *, variables, waves, seed):
        if waves:
            (work / "dump.vcd").write_text("$var wire 1 ! clk $end $enddefinitions $end\n#0\n0!\n#5\n1!\n")
        done["run"](work)

    monkeypatch.setattr(rtl, "build", build)
    monkeypatch.setattr(rtl, "run_test", run_test)
    done["built"] = built
    return done


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_that_fails_names_the_waveform_that_was_asked_for(case, simulation, tmp_path, recorded):
    program, golden, _, _ = case

    def fail(work):
        raise RuntimeError("verify_images failed")

    simulation["run"] = fail
    path = tmp_path / "run.fst"
    waves = Waves(path=path) if recorded else None
    with pytest.raises(RuntimeError, match=r"^verify_images failed" + (rf"\nwaveform {path}$" if recorded else "$")):
        run_work([(program, golden.tensors["input"])], waves=waves)
    assert path.exists() == path.with_suffix(".gtkw").exists() == recorded
    assert simulation["built"] == [recorded]


def outcomes_of(case, simulation, changed, *, late=0):
    """A simulation that reports the case's outcomes, one of them changed; returns the conditions it was asked for.

    ``late``: cycles by which the last result of a batch comes later.
    """
    program, _, timing, outcomes = case
    asked = []

    def report(work):
        job = Job.load(work)
        asked.append(job.conditions)
        if not job.together:
            save_outcomes(work, [outcomes[1:2]], [], [])
            return
        results = time_batch(program, timing, selected=True).results.tolist()
        wrong = [replace(outcomes[1], margin=outcomes[1].margin + 1)] if changed else outcomes[1:2]
        results[-1] += late
        batch = BatchOutcome(outcomes=[replace(each, outputs=[], layers=[]) for each in outcomes], results=results)
        save_outcomes(work, [[outcomes[0], *wrong, outcomes[2]]], [batch], [])

    simulation["run"] = report
    return asked


def test_what_was_asked_for_is_recorded_at_once(case, simulation, tmp_path):
    program, golden, _, _ = case
    outcomes_of(case, simulation, changed=True)
    result = verify([(program, golden.tensors["input"])], waves=Waves(path=tmp_path / "run.fst"))
    assert (result["differing"], result["waveform"]) == ([1], str(tmp_path / "run.fst"))
    assert simulation["built"] == [True]


def test_an_image_that_differs_is_recorded_in_a_run_like_its_own(case, simulation, tmp_path):
    program, golden, _, _ = case
    asked = outcomes_of(case, simulation, changed=True)
    result = verify([(program, golden.tensors["input"])], conditions=Conditions(seed=65535), first=4)
    assert result["mismatches"][0].startswith("image 5: margin: RTL ")
    assert simulation["built"] == [False, True]
    assert [each.seed for (each,) in asked] == [3, 4]
    waveform = tmp_path / "cache" / "runs" / result["waveform"].split("/")[-2] / "waves.fst"
    assert result["waveform"] == str(waveform)
    assert waveform.exists()
    assert waveform.with_suffix(".gtkw").exists()


@pytest.mark.parametrize(
    ("changed", "late", "equal"),
    [(False, 0, [True] * 3), (True, 0, [True, False, True]), (False, 1, [True, True, False])],
)
def test_every_image_has_a_row(case, simulation, tmp_path, changed, late, equal):
    """Also one that differs only where images come back to back."""
    program, golden, timing, _ = case
    outcomes_of(case, simulation, changed, late=late)
    found = verify([(program, golden.tensors["input"])], waves=Waves(path=tmp_path / "run.fst"), first=4)
    assert found["per_image"] == {
        "program": [0, 0, 0],
        "image": [4, 5, 6],
        "class": golden.classes.tolist(),
        "exit": golden.exit_index.tolist(),
        "margin": timing.decisions.margin.tolist(),
        "cycles": timing.cycles.tolist(),
        "equal": {"RTL": equal},
    }
    assert found["differing"] == [number for number in range(3) if not equal[number]]


def test_what_differs_only_back_to_back_is_not_recorded_alone(case, simulation):
    """A run of its own would show nothing of it."""
    program, golden, _, _ = case
    outcomes_of(case, simulation, changed=False, late=1)
    result = verify([(program, golden.tensors["input"])])
    assert (result["cycles_equal"], result["differing"]) == (False, [2])
    assert "waveform" not in result
    assert simulation["built"] == [False]


def test_without_differences_nothing_is_recorded(case, simulation, tmp_path):
    program, golden, _, _ = case
    outcomes_of(case, simulation, changed=False)
    assert "waveform" not in verify([(program, golden.tensors["input"])])
    assert simulation["built"] == [False]
    assert list((tmp_path / "cache" / "runs").iterdir()) == []
