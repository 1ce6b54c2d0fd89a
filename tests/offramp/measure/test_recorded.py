import json
from dataclasses import replace

import pytest

from fpga.boards import BOARDS
from fpga.flow.build import build
from hw.config import preset
from offramp.measure import recorded
from offramp.measure.recorded import RecordedBuild, recorded_build, recorded_builds
from tests.fpga.tools import quick_tools


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "BASELINES", tmp_path)

    def record(name, config, device, fmax, met=True, digest=None):
        built = {"device": device, "fmax_mhz": fmax, "timing_met": met}
        sizes = {"config": config, "config_digest": digest or preset(config).digest()}
        (tmp_path / f"build-{name}.json").write_text(json.dumps(sizes | {"build": built}))

    record("single", "single", "25k", 83.0)
    record("small", "small", "25k", 85.0)
    record("c", "small-85f", "85k", 82.0)
    record("d", "base-85f", "85k", 87.0)
    record("e", "medium-85f", "45k", 40.0, met=False)
    return record


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("12k", ["small", "single"]),
        ("25k", ["small", "single"]),
        ("um5g-45k", ["small", "single"]),
        ("um5g-85k", ["base-85f", "small-85f", "small", "single"]),
    ],
)
def test_builds_for_no_larger_device_and_fast_enough_the_largest_first(records, device, expected):
    found = recorded_builds(replace(BOARDS["ulx3s-25f"], device=device))
    assert [each.config for each in found] == expected
    report = {"device": "25k", "fmax_mhz": 85.0, "timing_met": True}
    small = RecordedBuild(config="small", config_digest=preset("small").digest(), report=report)
    assert small in found
    assert [recorded_build(name) for name in ("small", "medium-85f")] == [small, None]


def test_a_build_of_other_sizes_than_the_config_has_now_is_left_out(records):
    now, then = preset("small").digest(), preset("small").replace(list_words=512).digest()
    records("small", "small", "25k", 85.0, digest=then)
    records("gone", "smallest", "25k", 85.0, digest=then)
    records("slow", "small", "25k", 40.0, digest=then, met=False)
    said = []
    assert [each.config for each in recorded_builds(BOARDS["ulx3s-25f"], said.append)] == ["single"]
    assert recorded_build("small") is None
    gone, changed = said
    assert gone.startswith("the recorded build of smallest is left out: config must be one of tiny, single, ")
    assert changed == (
        "the recorded build of small is left out: the config's sizes have changed since, "
        f"so that its digest must be {now[:16]}, not {then[:16]}; build it again"
    )


def test_a_build_from_before_digests_were_recorded_counts(records):
    path = recorded.BASELINES / "build-small.json"
    record = json.loads(path.read_text())
    del record["config_digest"]
    path.write_text(json.dumps(record))
    assert recorded_build("small").config_digest is None


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_every_board_is_offered_a_config(board):
    assert preset(recorded_builds(board)[0].config).multipliers >= preset("small").multipliers


def test_a_build_is_current_until_what_it_is_made_of_changes(tmp_path, monkeypatch):
    with quick_tools(tmp_path / "tools"):
        made = build(preset("tiny"), BOARDS["ulx3s-25f"], tmp_path, clock_mhz=50.0, seed=3).to_dict()
    # Another version of a tool since then changes nothing about the hardware that was built.
    monkeypatch.setattr("fpga.flow.build.version", lambda name: "later")
    before_baud = {name: value for name, value in made.items() if name != "baud"}
    for report in (made, before_baud):
        assert RecordedBuild(config="tiny", report=report).is_current()
    for changed in ({"seed": 4}, {"baud": 1_000_000}, {"clock_mhz": 62.5}, {"tools": {}}):
        assert not RecordedBuild(config="tiny", report=made | changed).is_current()
    assert not RecordedBuild(config="single", report=made).is_current()
