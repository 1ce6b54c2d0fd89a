import json

import pytest

from hw.config import PRESETS, preset
from offramp.measure import recorded
from offramp.measure.recorded import RecordedBuild
from offramp.report.documents.presets import presets_markdown


def rows():
    _, _, *lines = presets_markdown().splitlines()
    return {name: cells for name, *cells in (line.strip("| ").split(" | ") for line in lines)}


@pytest.mark.parametrize("current", [True, False])
def test_a_preset_shows_its_sizes_and_its_recorded_build(tmp_path, monkeypatch, current):
    monkeypatch.setattr(recorded, "BASELINES", tmp_path)
    monkeypatch.setattr(RecordedBuild, "is_current", lambda build: current)
    record = {"config": "base-85f", "build": {"board": "ecpix5-85f", "fmax_mhz": 92.26}}
    (tmp_path / "build-base-85f.json").write_text(json.dumps(record))
    found = rows()
    assert {f"`{name}`" for name in PRESETS} == found.keys()
    built = "ecpix5-85f, 92.3 MHz (`baselines/build-base-85f.json`)" + ("" if current else ", earlier hardware")
    assert (found["`base-85f`"][:2], found["`base-85f`"][-1]) == (["64", "8 x 8, 1"], built)
    assert (found["`medium-85f`"][:2], found["`medium-85f`"][-1]) == (["32", "4 x 8, 1"], "-")


def test_a_build_of_other_sizes_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "BASELINES", tmp_path)
    record = {"config": "small", "config_digest": preset("single").digest(), "build": {}}
    (tmp_path / "build-small.json").write_text(json.dumps(record))
    assert rows()["`small`"][-1] == "-"
