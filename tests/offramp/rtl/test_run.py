"""The comparison that verification rests on: equal reports pass, and every single difference is found."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fpga.runs import RunOutcome
from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.exits import Conditions
from hw.network.zero_points import storage_zero_points
from models.integer.golden import run
from offramp.rtl import run as rtl
from offramp.rtl.job import BatchOutcome, Job, LayerTime, load_layers, load_outcomes, save_outcomes
from offramp.rtl.run import compare, expected_outputs, run_work, verify
from offramp.rtl.waves import Waves
from sim import simulate, time_batch
from tests.random_networks import random_codes, random_network, two_blocks

_SEED = 6
FLAGS = ("early_label", "early_exit", "out_of_range", "forced", "passed", "differs", "overrun")


def ideal_output(program, golden, image, index):
    """What is in the memories after a layer: nonsense where it made nothing."""
    command = program.commands[index]
    tensor = program.network.tensors()[command.tensor]
    values = golden.tensors[command.tensor][image].astype(np.int64)
    values = values.reshape(-1, values.shape[-1]) - tensor.zero_point
    if any(head.logits == command.tensor for head in program.network.exits):
        return [values[0]]
    stored = np.pad(values, ((0, 0), (0, -values.shape[1] % 8)), constant_values=0)
    made = np.arange(stored.shape[1]) // 8 * 8
    stored[:, (made < command.channels[0]) | (made >= command.channels[1])] = 999
    words = stored.reshape(-1, 8)
    layer = program.decoded.layers[index]
    windows = [core.window for core in layer.cores]
    return [words[window.low :][: window.count] for window in windows]


@pytest.fixture(scope="module")
def case():
    """A program, its images, golden results, timing, and the reports that an ideal accelerator would send."""
    program = compile_network(random_network(_SEED), preset("tiny").replace(cores=2))
    codes = random_codes(program.network, 3, _SEED)
    golden = run(program.network, codes)
    timing = simulate(program, codes, golden=golden)
    outcomes = []
    for image in range(len(codes)):
        layers, outputs = [], []
        for index in np.flatnonzero(timing.layer_cycles[image]):
            outputs.append(ideal_output(program, golden, image, index))
            layers.append(
                {
                    "index": int(index),
                    "cycles": int(timing.layer_cycles[image, index]),
                    "products": int(timing.products[image, index]),
                    "stalls": int(timing.stalls[image, index]),
                    "waited": int(timing.waited[image, index]),
                }
            )
        leave = int(golden.exit_index[image])
        outcomes.append(
            RunOutcome(
                label=int(golden.classes[image]),
                exit=leave,
                margin=int(golden.margins[image, leave]),
                cycles=int(timing.cycles[image]),
                flags=dict.fromkeys(FLAGS, 0),
                layers=layers,
                outputs=outputs,
            )
        )
    return program, golden, timing, outcomes


def test_equal_reports_pass(case):
    program, golden, timing, outcomes = case
    result = compare(program, outcomes, golden, timing)
    assert (result["values_equal"], result["cycles_equal"], result["mismatches"]) == (True, True, [])
    assert result["images"] == 3
    assert result["layers"] == sum(len(outcome.layers) for outcome in outcomes)


@pytest.mark.parametrize("field", ["label", "exit", "margin", "cycles"])
def test_a_different_result_is_found(case, field):
    program, golden, timing, outcomes = case
    wrong = replace(outcomes[1], **{field: getattr(outcomes[1], field) + 1})
    result = compare(program, [outcomes[0], wrong, outcomes[2]], golden, timing)
    assert result["differing"] == [1]
    assert result["values_equal"] == (field == "cycles")
    assert result["cycles_equal"] == (field != "cycles")


@pytest.mark.parametrize("flag", FLAGS)
def test_a_different_flag_is_found(case, flag):
    program, golden, timing, outcomes = case
    wrong = replace(outcomes[0], flags=outcomes[0].flags | {flag: 1})
    result = compare(program, [wrong, *outcomes[1:]], golden, timing)
    assert (result["values_equal"], result["cycles_equal"], result["differing"]) == (False, True, [0])
    assert f"image 0: {flag}: RTL 1, expected 0" in result["mismatches"][0]


@pytest.mark.parametrize("counter", ["cycles", "products", "stalls", "waited"])
def test_a_different_counter_of_one_layer_is_found(case, counter):
    program, golden, timing, outcomes = case
    layers = [dict(record) for record in outcomes[2].layers]
    layers[-1][counter] += 1
    result = compare(program, [*outcomes[:2], replace(outcomes[2], layers=layers)], golden, timing)
    assert (result["values_equal"], result["cycles_equal"], result["differing"]) == (True, False, [2])
    assert counter in result["mismatches"][0]


def test_a_different_activation_is_found_in_every_layer_and_core(case):
    program, golden, timing, outcomes = case
    found = set()
    for number, parts in enumerate(outcomes[0].outputs):
        for core, part in enumerate(parts):
            if part.size == 0:
                continue
            outputs = [[array.copy() for array in arrays] for arrays in outcomes[0].outputs]
            outputs[number][core][..., -1] += 1
            result = compare(program, [replace(outcomes[0], outputs=outputs), *outcomes[1:]], golden, timing)
            assert (result["values_equal"], result["cycles_equal"]) == (False, True)
            name = program.commands[outcomes[0].layers[number]["index"]].name
            assert f"{name} in core {core}" in result["mismatches"][0]
            found.add(core)
    assert found == {0, 1}


def test_a_layer_that_did_not_run_is_found(case):
    program, golden, timing, outcomes = case
    short = replace(outcomes[0], layers=outcomes[0].layers[:-1], outputs=outcomes[0].outputs[:-1])
    result = compare(program, [short, *outcomes[1:]], golden, timing)
    assert not result["values_equal"]
    assert "layers run" in result["mismatches"][0]


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


@pytest.mark.parametrize("channels", [(0, 8), (8, 16)])
def test_an_instruction_makes_the_channels_of_its_command(channels):
    """Of a map of two words a position, one of them."""
    program = compile_network(two_blocks(4, 16), preset("tiny").replace(cores=2))
    golden, stored = run(program.network, random_codes(program.network, 1, 0)), storage_zero_points(program.network)
    number, layer = 1, program.decoded.layers[1]
    assert program.commands[number].channels == (0, 16)
    commands = list(program.commands)
    commands[number] = replace(commands[number], channels=channels)
    described = SimpleNamespace(commands=commands, network=program.network, config=program.config)
    whole = expected_outputs(program, layer, golden, 0, stored)
    found = expected_outputs(described, layer, golden, 0, stored)
    for core, (rows, words), (made, some) in zip(layer.cores, whole, found, strict=True):
        place = np.arange(core.window.low, core.window.end) % 2 * 8 == channels[0]
        np.testing.assert_array_equal(made, rows & place)
        np.testing.assert_array_equal(some, words[place[rows]])


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


def test_without_differences_nothing_is_recorded(case, simulation, tmp_path):
    program, golden, _, _ = case
    outcomes_of(case, simulation, changed=False)
    assert "waveform" not in verify([(program, golden.tensors["input"])])
    assert simulation["built"] == [False]
    assert list((tmp_path / "cache" / "runs").iterdir()) == []
