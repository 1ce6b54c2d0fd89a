"""The whole main job on a small network and the smallest config: every stage real but the bitstream's.

The demo finds one that quick tools have made of the same design: the real one takes minutes, in the slow suite.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fpga.boards import BAUD, board
from fpga.flow.build import build
from hw.config import preset
from hw.program import program
from models import zoo
from models.integer import golden
from models.recipes.checkpoint import load_compressed
from offramp import cli, stages
from offramp.files import paths
from offramp.rtl import simulators
from tests.fpga.tools import quick_tools

#: A clock in MHz that a PLL can make, and for which the design of the quick tools is too slow.
TOO_FAST = 75.0
#: A rate of the serial link that isn't the usual one.
SLOW_LINE = 115_200


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with the simulator as it is, and the bitstreams that the demo will look for."""
    cache = tmp_path_factory.mktemp("cache")
    with quick_tools(cache / "tools"):
        for clock, baud in ((50.0, BAUD), (TOO_FAST, SLOW_LINE)):
            build(preset("tiny"), board("ulx3s-25f"), cache / "fpga", clock_mhz=clock, baud=baud, seed=0)
    simulator = simulators.build(preset("tiny"))
    (cache / simulator.name).symlink_to(simulator)
    return cache


@pytest.fixture
def result(folder, cache, quick_recipe, monkeypatch, capsys):
    """What the demo writes; done once."""
    monkeypatch.setenv("OFFRAMP_CACHE", str(cache))
    path = folder / "result.json"
    if not path.exists():
        arguments = (
            "demo",
            "--config",
            "tiny",
            "--images",
            "8",
            "--attacked",
            "60",
            "--out",
            str(folder),
            "--json",
            str(path),
        )
        monkeypatch.setattr(sys, "argv", ["offramp", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        output = capsys.readouterr()
        (folder / "stdout").write_text(output.out)
        (folder / "stderr").write_text(output.err)
    return json.loads(path.read_text())


def test_stages_come_in_order_and_are_visible(result, folder):
    shown = (folder / "stderr").read_text()
    places = [shown.index(f"✓ {number}/8") for number in range(1, 9)]
    assert places == sorted(places)
    assert "RTL = golden = simulator" in (folder / "stdout").read_text()


def test_golden_simulator_and_rtl_are_equal_on_early_and_late_images(result):
    verified = result["verify"]
    assert verified["values_equal"]
    assert verified["cycles_equal"]
    assert verified["images"] == 8
    assert 0 < verified["early"] < 8
    assert verified["mismatches"] == []


def test_the_bitstream_of_this_config_is_taken(result, folder, cache):
    built = result["build"]
    assert built["cached"]
    assert Path(built["log"]).parent.parent == cache / "fpga"
    assert (folder / "ulx3s-25f.bit").read_bytes() == Path(built["bitstream"]).read_bytes()
    assert result["config"]["digest"] == preset("tiny").digest()


@pytest.mark.slow
def test_bitstream_is_of_this_config_and_fits(tmp_path):
    built = build(preset("tiny"), board("ulx3s-25f"), tmp_path, clock_mhz=50.0, seed=0).to_dict()
    assert built["timing_met"]
    assert built["fmax_mhz"] >= built["clock_mhz"] == 50.0
    for name in ("logic", "flip_flops", "block_rams", "multipliers"):
        assert 0 < built[name]["used"] <= built[name]["available"]
    assert built["multipliers"]["used"] >= preset("tiny").multipliers
    assert b"LFE5U-25F" in built["bitstream"].read_bytes()[:200]


def test_figures_are_those_of_the_files(result, folder):
    loaded = program.load(folder / paths.PROGRAM, preset("tiny"))
    source = stages.dataset("digits", None)
    found = stages.evaluated(loaded, source.test.images, source.test.labels)
    assert found == result["golden"]
    clean = result["inputs"]["clean"]
    assert (clean["accuracy"], clean["exit_share"]) == (found["accuracy"], found["exit_share"])
    # An image of 64 codes, RUN's header and its options are 20 words of 40 bits: less than the core takes.
    there, built = clean["board"], result["build"]
    assert (there["clock_mhz"], there["baud"], there["bottleneck"]) == (built["clock_mhz"], BAUD, "link")
    assert there["images_per_second"] == there["link_images_per_second"] == BAUD / (20 * 40)
    assert there["core_images_per_second"] == pytest.approx(built["clock_mhz"] * 1e6 / clean["back_to_back"])
    alone = built["fmax_mhz"] * 1e6 / clean["back_to_back"]
    assert clean["core_images_per_second_at_fmax"] == pytest.approx(alone)
    dense = program.load(folder / paths.UNPRUNED)
    codes = stages.encode(source.test.images, dense.network)
    unpruned = golden.run(dense.network, codes, keep=False).accuracy(source.test.labels)
    assert result["inputs"]["unpruned"]["accuracy"] == unpruned
    unpruned = result["inputs"]["unpruned"]
    assert unpruned["cycles"]["mean"] > clean["cycles"]["mean"]
    assert (unpruned["board"] is None) == (dense.config != loaded.config)
    for found in result["inputs"].values():
        assert found["cycles"]["worst"] <= found["cycles"]["bound"]


def test_robustness_names_the_easy_and_the_honest_number(result):
    robust, inputs = result["robustness"], result["inputs"]
    assert robust["easy"] == inputs["pgd"]["accuracy"]
    assert robust["adaptive"] <= min(inputs[name]["accuracy"] for name in ("clean", "fgsm", "pgd", "adaptive"))


def test_report_is_written(result, folder):
    text = (folder / "report.html").read_text()
    assert "Offramp on digits" in text
    assert f"{result['inputs']['clean']['cycles']['mean']:,.0f}" in text


def without_early_exit(compressed):
    """The same network, as a recipe without exits would have left it."""
    network, needed = compressed.network, {compressed.network.exits[-1].logits}
    for layer in reversed(network.layers):
        if layer.name in needed:
            needed.update(layer.inputs)
    layers = tuple(layer for layer in network.layers if layer.name in needed)
    metrics = {"float_final": 0.9, "pruned_final": 0.9, "int8_final": 0.9, "int8_exits": 0.9, "exit_share": 0.0}
    whole = replace(network, layers=layers, exits=network.exits[-1:])
    activity = {name: shares for name, shares in compressed.activity.items() if name in whole.tensors()}
    return replace(compressed, network=whole, activity=activity, metrics=metrics, curve={})


def test_a_network_of_the_zoo_without_exits_on_a_clock_that_is_too_fast(result, folder, tmp_path, monkeypatch, capsys):
    found = without_early_exit(load_compressed(folder / paths.COMPRESSED))
    monkeypatch.setattr(
        zoo, "entry", lambda name: replace(zoo.entries()[0], dataset="digits", recipe="digits", part="network")
    )
    monkeypatch.setattr(zoo, "load", lambda entry: found)
    path = tmp_path / "result.json"
    arguments = ("demo", "--model", "zoo:plain", "--config", "tiny", "--images", "2", "--attacked", "8")
    more = ("--clock", str(TOO_FAST), "--baud", str(SLOW_LINE), "--out", str(tmp_path), "--json", str(path))
    monkeypatch.setattr(sys, "argv", ["offramp", *arguments, *more])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    made = json.loads(path.read_text())
    assert made["verify"]["values_equal"]
    assert made["verify"]["cycles_equal"]
    assert not made["build"]["timing_met"]
    assert made["build"]["baud"] == made["inputs"]["clean"]["board"]["baud"] == SLOW_LINE
    assert set(made["inputs"]) == set(result["inputs"])
    assert made["inputs"]["slowdown"]["cycles"]["mean"] > made["inputs"]["clean"]["cycles"]["mean"]
    shown, report = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    for text in ("exit threshold", "with exits"):
        assert text not in shown + report
    assert "pruning brings" in shown
    for text in (shown, report):
        assert "115,200 baud" in text
        assert "75 MHz: TIMING NOT MET" in text


def test_the_bitstream_can_be_left_out(result, folder, tmp_path, monkeypatch, capsys):
    """Then its clock doesn't matter, and what needs it isn't there; table and report say so."""
    found = without_early_exit(load_compressed(folder / paths.COMPRESSED))
    monkeypatch.setattr(
        zoo, "entry", lambda name: replace(zoo.entries()[0], dataset="digits", recipe="digits", part="network")
    )
    monkeypatch.setattr(zoo, "load", lambda entry: found)
    arguments = ("demo", "--model", "zoo:plain", "--config", "tiny", "--images", "1", "--attacked", "2")
    more = ("--no-bitstream", "--clock", "51.37", "--out", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["offramp", *arguments, *more])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    made, shown = json.loads((tmp_path / "demo.json").read_text()), capsys.readouterr()
    assert made["verify"]["values_equal"]
    assert made["build"] is None
    assert {found["board"] for found in made["inputs"].values()} == {None}
    assert made["inputs"].keys() == result["inputs"].keys()
    assert not list(tmp_path.glob("*.bit"))
    assert "7/8 synthesize, place and route: left out" in shown.err
    for text in (" ".join(shown.out.split()), (tmp_path / "report.html").read_text()):
        assert "left out (--no-bitstream)" in text
        assert "highest clock" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--board", "ulx4"), "board must be one of ulx3s-12f, .*, colorlight-i9, not 'ulx4'"),
        (("--clock", "51.37"), "ulx3s-25f: the clock must be a frequency its PLL can make, .* not 51.37 MHz"),
        (("--clock", "25"), "baud must be within 2 % of 25 MHz / n with n of at least 8, as 1000000 is, not 3000000"),
        (("--baud", "9000000"), "baud must be within 2 % of 50 MHz / n .*, as 3000000 is, not 9000000"),
        (("--config", "tiny,loader=2"), "ulx3s-25f: no memory to read lists from: loader must be 0, not 2"),
    ],
)
def test_what_cannot_be_built_is_refused_before_work_starts(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["offramp", "demo", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    *begun, said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"offramp: {message}", said)
    assert all(line.split()[1] == "prepare" for line in begun)
    assert not list(tmp_path.rglob("*.*"))
