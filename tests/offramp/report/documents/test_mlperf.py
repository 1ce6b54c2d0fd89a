import json
from pathlib import Path

import pytest

from offramp.measure.recorded import RecordedBuild
from offramp.report.documents.mlperf import mlperf_markdown

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("current", [True, False])
def test_what_differs_is_said(monkeypatch, current):
    monkeypatch.setattr(RecordedBuild, "is_current", lambda build: current)
    stage = {"images": 1000, "first": "conv2d_2"}
    taken = {
        "cycles": {"mean": 50_000.0},
        "share_of_limit": 0.8594,
        "macs_per_multiplier_cycle": 1.726,
        "rtl": {"images": 2},
    }
    found = {
        "stages": [stage],
        "accuracy_reference": 0.901,
        "accuracy_golden": None,
        "reference_equal": False,
        "values_equal": True,
        "cycles_equal": False,
        "configs": {"small-85f": taken, "tiny": taken},
    }
    lines = mlperf_markdown({"networks": {"a network": found}}).splitlines()
    assert lines[2] == "| a network | 1,000 | 90.10 | - | conv2d_2 differs | 2 images: values equal, cycles DIFFER |"
    clock = json.loads((ROOT / "baselines" / "build-small-85f.json").read_text())["build"]["fmax_mhz"]
    rate = f"{clock * 1e6 / 50_000:,.0f} at {clock:.1f} MHz{'' if current else ', earlier hardware'}"
    assert lines[-2:] == [
        f"| a network | `small-85f` | 50,000 | 85.9 | 1.73 | {rate} |",
        "| a network | `tiny` | 50,000 | 85.9 | 1.73 | - |",
    ]


def test_the_page_shows_what_is_recorded():
    recorded = json.loads((ROOT / "baselines" / "mlperf-tiny.json").read_text())
    assert mlperf_markdown(recorded) in (ROOT / "docs" / "results.md").read_text()
    for found in recorded["networks"].values():
        assert (found["values_equal"], found["cycles_equal"], found["reference_equal"]) == (True, True, True)
