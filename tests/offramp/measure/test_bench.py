import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hw.compiler.compile import compile_balanced
from hw.config import preset
from offramp.cli import app
from offramp.measure.bench import density_sweep, measure_workload, routed
from offramp.measure.workloads import make
from offramp.report.tables.bench_tables import workload_rows
from sim import simulate

CONFIG = preset("base")
BASELINE = Path(__file__).parents[3] / "baselines" / "bench-base.json"


def check(row: dict) -> None:
    """A row adds up: limit, losses and cycles, of the whole and of every layer."""
    multipliers = CONFIG.multipliers
    assert row["limit"] == pytest.approx(row["products"] / multipliers)
    assert row["share_of_limit"] == pytest.approx(row["limit"] / row["cycles"])
    assert row["limit"] + sum(row["loss"].values()) == pytest.approx(row["cycles"])
    assert all(lost >= 0 for lost in row["loss"].values())
    assert sum(layer["cycles"] for layer in row["layers"]) + row["loss"]["control"] == pytest.approx(row["cycles"])
    for layer in row["layers"]:
        assert layer["limit"] + sum(layer["loss"].values()) == pytest.approx(layer["cycles"])
    assert len(row["partition"]) == len(row["layers"])
    assert row["simulator_images_per_second"] > 0


def test_the_command_measures_a_workload_and_writes_it(tmp_path):
    file = tmp_path / "b.json"
    command = ["bench", "--workload", "ds-cnn", "--images", "3", "--json", str(file)]
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(file.read_text())
    assert (found["config"], found["multipliers"]) == ("base", 64)
    (row,) = found["rows"]
    assert (row["workload"], row["images"]) == ("ds-cnn", 3)
    check(row)
    assert {"dispatch", "imbalance", "cores", "drain", "barrier", "load", "control"} == set(row["loss"])


def test_inferences_per_second_are_those_of_the_recorded_build():
    record = json.loads((BASELINE.parent / "build-single.json").read_text())["build"]
    found = routed("single")
    assert (found["board"], found["fmax_mhz"]) == (record["board"], record["fmax_mhz"])
    assert routed("single,lanes=2") is None
    row = {"workload": "w", "cycles": 1000.0, "limit": 500.0, "share_of_limit": 0.5, "loss": {}}
    head, lines = workload_rows([row | {"simulator_images_per_second": 1.0}], found | {"fmax_mhz": 90.0})
    assert head[2].startswith("inferences/s of the core alone, 90.0 MHz routed")
    assert lines[0][2] == "90,000"


def test_all_workloads_of_a_config_have_the_same_causes():
    """Lists of DS-CNN aren't split, but they could be."""
    row = measure_workload("ds-cnn", preset("base-85f"), images=1, seed=0)
    assert row["loss"]["edges"] == 0
    assert {*row["loss"]} == {*row["layers"][0]["loss"], "control"}


def test_equal_seeds_measure_the_same():
    rows = [measure_workload("ds-cnn", preset("small-85f"), images=1, seed=5) for _ in range(2)]
    for row in rows:
        del row["simulator_images_per_second"], row["simulated_cycles_per_second"]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", ["ds-cnn", *(pytest.param(f"resnet8-w{n}", marks=pytest.mark.slow) for n in (10, 20))])
def test_what_an_ecp5_85f_makes_of_workloads_is_as_recorded(name):
    """The first images are simulated anew."""
    recorded = json.loads((BASELINE.parent / "bench-85f.json").read_text())
    (row,) = (row for row in recorded["rows"] if row["workload"] == name)
    check(row)
    workload = make(name, row["images"], recorded["seed"])
    program = compile_balanced(workload.network, preset(recorded["config"]), workload.activity)
    first = row["first_cycles"]
    assert simulate(program, workload.codes[: len(first)]).cycles.tolist() == first


def test_cycles_fall_with_both_densities():
    config = preset("small-85f")
    points = density_sweep(config, workload="ds-cnn", weights=(1.0, 0.2), active=(0.8, 0.3), images=1, seed=0)
    cycles = {(point["weights"], point["activations"]): point["cycles"] for point in points}
    assert cycles[1.0, 0.8] > cycles[1.0, 0.3] > cycles[0.2, 0.3]
    assert cycles[1.0, 0.8] > cycles[0.2, 0.8] > cycles[0.2, 0.3]
    assert all(point["cycles"] > point["limit"] > 0 for point in points)


@pytest.mark.parametrize("name", ["ds-cnn", pytest.param("resnet8-w10", marks=pytest.mark.slow)])
def test_the_recorded_cycles_are_found_again(name):
    recorded = json.loads(BASELINE.read_text())
    assert recorded["config"] == "base"
    (row,) = (row for row in recorded["rows"] if row["workload"] == name)
    workload = make(name, row["images"], recorded["seed"])
    program = compile_balanced(workload.network, CONFIG, workload.activity)
    first = row["first_cycles"]
    assert simulate(program, workload.codes[: len(first)]).cycles.tolist() == first


def test_the_record_meets_what_it_must():
    rows = {row["workload"]: row for row in json.loads(BASELINE.read_text())["rows"]}
    least = {"resnet8-dense": 0.75, "resnet8-w20": 0.70, "ds-cnn": 0.50, "mobilenet-025": 0.50}
    for name, share in least.items():
        assert rows[name]["share_of_limit"] >= share
        check(rows[name])


def test_unknown_workloads_end_in_a_sentence():
    outcome = CliRunner().invoke(app, ["bench", "--workload", "resnet9"])
    assert outcome.exit_code != 0
    assert "workload must be one of" in str(outcome.exception)
