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

BASELINES = Path(__file__).parents[3] / "baselines"
#: By result that is recorded: its config, and the least shares of the limit that it must have.
RECORDED = {
    "bench-85f": ("base-85f", {"resnet8-w20": 0.65, "resnet8-w10": 0.5, "ds-cnn": 0.77}),
    "bench-85f-loader": ("base-85f,loader=4", {"resnet8-dense": 0.91}),
}
CASES = [(file, name) for file, (_, least) in RECORDED.items() for name in least]


def check(row: dict) -> None:
    """A row of 64 multipliers adds up: limit, losses and cycles, of the whole and of every layer."""
    assert row["limit"] == pytest.approx(row["products"] / 64)
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
    assert (found["config"], found["multipliers"]) == ("base-85f", 64)
    (row,) = found["rows"]
    assert (row["workload"], row["images"]) == ("ds-cnn", 3)
    check(row)
    assert {"dispatch", "imbalance", "cores", "drain", "barrier", "load", "edges", "control"} == set(row["loss"])


def test_inferences_per_second_are_those_of_the_recorded_build():
    record = json.loads((BASELINES / "build-single.json").read_text())["build"]
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


@pytest.mark.parametrize(
    ("file", "name"), [case if case[1] == "ds-cnn" else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]
)
def test_the_recorded_cycles_are_found_again(file, name):
    """Those of the first images."""
    recorded = json.loads((BASELINES / f"{file}.json").read_text())
    assert recorded["config"] == RECORDED[file][0]
    (row,) = (row for row in recorded["rows"] if row["workload"] == name)
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


@pytest.mark.parametrize("file", RECORDED)
def test_the_record_meets_what_it_must(file):
    rows = {row["workload"]: row for row in json.loads((BASELINES / f"{file}.json").read_text())["rows"]}
    _, least = RECORDED[file]
    assert rows.keys() == least.keys()
    for name, share in least.items():
        assert rows[name]["share_of_limit"] >= share
        check(rows[name])


def test_unknown_workloads_end_in_a_sentence():
    outcome = CliRunner().invoke(app, ["bench", "--workload", "resnet9"])
    assert outcome.exit_code != 0
    assert "workload must be one of" in str(outcome.exception)
