import json
from dataclasses import replace

import pytest

from fpga.boards import BOARDS
from hw.config import preset
from offramp.measure import recorded
from offramp.measure.recorded import RecordedBuild, recorded_builds


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "BASELINES", tmp_path)

    def record(name, config, device, fmax, met=True):
        built = {"device": device, "fmax_mhz": fmax, "timing_met": met}
        (tmp_path / f"build-{name}.json").write_text(json.dumps({"config": config, "build": built}))

    record("a", "single", "25k", 83.0)
    record("b", "small", "25k", 85.0)
    record("c", "small-85f", "85k", 82.0)
    record("d", "base-85f", "85k", 87.0)
    record("e", "base", "45k", 40.0, met=False)


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
    assert RecordedBuild(config="small", device="25k", fmax_mhz=85.0) in found


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_every_board_is_offered_a_config(board):
    assert preset(recorded_builds(board)[0].config).multipliers >= preset("small").multipliers
