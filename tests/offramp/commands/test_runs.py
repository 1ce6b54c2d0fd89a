"""Commands that run a network: golden model, simulator, RTL."""

import json
import re

import numpy as np
import pytest

from hw.network import network_file
from hw.network.exits import Conditions
from hw.network.network_file import NetworkFile
from offramp.files import paths, program_files
from offramp.report.trace import trace_events
from offramp.rtl import run as rtl
from offramp.rtl.waves import Waves
from tests.offramp.command_line import refused, run
from tests.offramp.intake.models import MODULE
from tests.offramp.results import VERIFY


def test_evaluate_simulate_and_the_files_agree(small, tmp_path):
    program, json_file = small.folder / paths.PROGRAM, tmp_path / "result.json"
    text, code = run("evaluate", program, "--json", json_file)
    evaluated = json.loads(json_file.read_text())
    assert code == 0
    assert f"{100 * evaluated['accuracy']:.2f} %" in text
    text, code = run("simulate", program, "--images", 10_000, "--json", json_file)
    simulated = json.loads(json_file.read_text())
    assert code == 0
    assert simulated["accuracy"] == evaluated["accuracy"]
    assert simulated["exit_share"] == evaluated["exit_share"]
    assert simulated["images"] == len(small.source.test)
    assert "stem.conv" in text
    for command, following in (("evaluate", "simulate"), ("simulate", "verify")):
        text, _ = run(command, program, "--data", "digits")
        assert text.splitlines()[-1] == f"next: offramp {following} {program} --data digits"
    options = ("--attack", "slowdown", "--images", 30, "--clock", "51.37")  # no PLL makes that clock exactly
    text, code = run("simulate", program, *options, "--json", json_file)
    assert code == 0
    assert "on a board with a clock of 51.37 MHz" in " ".join(text.split())
    assert "PLL" not in text
    assert json.loads(json_file.read_text())["eps"] == 0.1


def test_as_many_random_images_are_simulated_as_are_asked_for(small, tmp_path):
    """A network that isn't of a data set gets few if nothing is said."""
    network, json_file = tmp_path / "net.off", tmp_path / "result.json"
    network_file.save(network, NetworkFile(network=small.network.network, origin="a test", activity={}))
    for options, count in (((), 16), (("--images", 20), 20), (("--images", 5), 5)):
        assert run("simulate", network, "--config", "tiny", *options, "--json", json_file)[1] == 0
        result = json.loads(json_file.read_text())
        assert (result["images"], result["images_of"]) == (count, f"{count} random images, seed 0")


@pytest.mark.parametrize("equal", [(True, True), (False, True), (True, False)])
def test_verify_ends_with_1_when_anything_differs(small, tmp_path, monkeypatch, equal):
    asked = {}
    values, cycles = equal

    def verify(work, **options):
        ((_, codes),) = work
        asked.update(options, images=len(codes), type=codes.dtype)
        return VERIFY | {"values_equal": values, "cycles_equal": cycles, "images": len(codes)}

    monkeypatch.setattr(rtl, "verify", verify)
    json_file = tmp_path / "v.json"
    arguments = ("verify", small.folder / paths.PROGRAM, "--images", 4, "--seed", 5, "--json", json_file)
    arguments += ("--netlist", "routed")
    monkeypatch.setenv("SIM", "icarus")
    assert run(*arguments)[1] == (0 if all(equal) else 1)
    progress = asked.pop("progress")
    assert callable(progress)
    assert asked.pop("conditions") == Conditions()
    expected = {"images": 4, "type": np.int8, "simulator": "icarus", "netlist": "routed", "waves": None, "seed": 5}
    assert asked == expected | {"first": 0}
    result = json.loads(json_file.read_text())
    assert (result["values_equal"], result["cycles_equal"]) == (values, cycles)


def test_verify_records_one_layer_of_one_image(small, tmp_path, monkeypatch):
    asked = {}

    def verify(work, **options):
        asked.update(options, work=work)
        return VERIFY | {"values_equal": True, "cycles_equal": True}

    monkeypatch.setattr(rtl, "verify", verify)
    program = small.folder / paths.PROGRAM
    name = program_files.program(program).commands[1].name
    recorded = ("--waves", tmp_path / "run.fst", "--layer", name)
    assert run("verify", program, "--images", 4, "--image", 2, *recorded)[1] == 0
    assert asked["waves"] == Waves(path=tmp_path / "run.fst", layers=frozenset({(0, 1)}))
    ((_, codes),), first = asked["work"], asked["first"]
    assert (codes.shape[0], first) == (1, 2)
    assert run("verify", program, "--images", 4)[1] == 0
    np.testing.assert_array_equal(asked["work"][0][1][2:3], codes)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_fit_is_measured_nowhere_and_told_where_it_fits(monkeypatch, capsys):
    small = ("--config", "tiny,activation_words=32", "--images", 2)
    message = refused(monkeypatch, capsys, "bench", "zoo:digits-dense", *small)
    assert re.fullmatch(r"tiny,activation_words=32: .*activation.*; it fits --config single", message)


def test_a_trace_is_of_the_image_of_the_timeline(small, tmp_path):
    program = small.folder / paths.PROGRAM
    command = ("simulate", program, "--images", 4, "--json", tmp_path / "r.json", "--trace", tmp_path / "t.json")
    for chosen, options in ((0, ()), (2, ("--timeline", 2))):
        _, code = run(*command, *options)
        assert code == 0
        result, trace = (json.loads((tmp_path / name).read_text()) for name in ("r.json", "t.json"))
        assert result["timeline_image"] == chosen
        cycles = result["per_image"]["cycles"][chosen]
        assert trace == trace_events(result["timeline"], cycles, 50.0, result["board"])


def test_layers_of_a_model_from_outside_are_compared_with_its_source(small, tmp_path, monkeypatch, capsys):
    (tmp_path / "net.py").write_text(MODULE)
    file, data = tmp_path / "v.json", ("--calibrate", "digits", "--data", "digits", "--rtl", 0)
    arguments = ("verify", f"{tmp_path / 'net.py'}:net", *data, "--json", file)
    text, code = run(*arguments, "--layers")
    assert code == 0
    rows = json.loads(file.read_text())["by_layer"]
    assert [row["layer"] for row in rows] == ["stem", "body", "add", "pool", "head"]
    assert "SQNR, dB" in text
    assert f"{rows[0]['sqnr_db']:.1f}" in text
    assert "SQNR" not in run(*arguments)[0]
    said = refused(monkeypatch, capsys, "verify", small.folder / paths.PROGRAM, "--layers")
    assert said == "--layers must be left out with networks of ours, which have no source to compare with"
