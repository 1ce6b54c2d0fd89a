import json
import re
from itertools import pairwise

import pytest

from fpga.flow.floorplan import DEVICES, fix_sites, shares_of

DEVICE = DEVICES["85k"]


def netlist(path, cells: dict[str, tuple[str, int]]):
    """A netlist with cells of a type, so many of each name, in modules of which one is the top."""
    found = {f"{name}.{n}": {"type": kind} for name, (kind, count) in cells.items() for n in range(count)}
    found["shell.core.core_0.pe_0.sum"] = {"type": "CCU2C", "attributes": {"src": "here"}}
    top = {"attributes": {"top": "00000000000000000000000000000001"}, "cells": found}
    path.write_text(json.dumps({"modules": {"DP16KD": {"attributes": {}}, "board": top}}))
    return path


def of_cores(cores: int, others: int) -> dict[str, tuple[str, int]]:
    """What each core has: two block RAMs and a multiplier in each PE, ``others`` and 5 besides; and the host's."""
    names: dict[str, tuple[str, int]] = {"shell.core.program": ("DP16KD", 1), "shell.core.address": ("MULT18X18D", 1)}
    for k in range(cores):
        for n in range(8):
            names[f"shell.core.core_{k}.pe_{n}.lists"] = ("DP16KD", 2)
            names[f"shell.core.core_{k}.pe_{n}.product"] = ("MULT18X18D", 1)
        names[f"shell.core.core_{k}.layers"] = ("DP16KD", others)
        names[f"shell.core.core_{k}.lane"] = ("MULT18X18D", 5)
    return names


def placed(path, kind: str) -> dict[str, str]:
    cells = json.loads(path.read_text())["modules"]["board"]["cells"]
    return {
        name: cell["attributes"]["BEL"]
        for name, cell in cells.items()
        if cell["type"] == kind and "BEL" in cell.get("attributes", {})
    }


def column(site: str) -> int:
    return int(re.fullmatch(r"X(\d+)/Y\d+/(EBR[0-3]|MULT18_[0145])", site)[1])


def test_a_device_has_blocks_of_four_multipliers_nine_columns_apart_or_eleven():
    first = DEVICE.multipliers[::4]
    assert {b - a for a, b in pairwise(first)} == {9, 11}
    assert list(DEVICE.multipliers) == [start + offset for start in first for offset in (0, 1, 4, 5)]


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("kind", "count", "needed"), [("DP16KD", 208, 13), ("MULT18X18D", 156, 13), ("MULT18X18D", 156, 18)]
)
def test_every_site_belongs_to_one_core(cores, kind, count, needed):
    shares = [share[kind] for share in shares_of(DEVICE, cores, needed)]
    sites = [site for share in shares for site in share]
    assert len(sites) == len(set(sites)) == count
    # Of eight cores the lower four have one row of multipliers, and what they lack of the upper ones' two.
    upper, lower = (count // cores, count // cores)
    if (cores, kind) == (8, "MULT18X18D"):
        upper, lower = 39 - needed, needed
    assert [len(share) for share in shares] == [upper] * (cores - cores // 2) + [lower] * (cores // 2)


def test_cores_lie_in_a_ring_and_their_block_rams_in_a_line():
    shares = shares_of(DEVICE, 8, 13)
    assert [min(map(column, share["DP16KD"])) for share in shares] == [4, 33, 62, 93, 93, 62, 33, 4]
    assert [min(map(column, share["MULT18X18D"])) for share in shares] == [4, 32, 62, 92, 92, 62, 32, 4]
    for share in shares:
        assert max(abs(column(a) - column(b)) for a, b in pairwise(share["DP16KD"])) <= 5


def test_lower_cores_get_the_middle_of_a_row_of_the_upper_ones_where_theirs_is_too_short():
    upper, *_, lower = shares_of(DEVICE, 8, 18)
    middle = [site for site in lower["MULT18X18D"] if "/Y34/" in site]
    row = sorted(shares_of(DEVICE, 8, 13)[0]["MULT18X18D"][:13], key=column)
    assert set(middle) == set(row[4:9])
    assert next(site for site in upper["MULT18X18D"] if "/Y34/" in site) in (row[3], row[9])


def test_the_block_rams_of_a_pe_get_sites_beside_one_another(tmp_path):
    path = netlist(tmp_path / "board.json", of_cores(8, 8))
    assert fix_sites(path, DEVICE) == "of 8 cores 192 block RAMs and 104 multipliers"
    found = placed(path, "DP16KD")
    assert len(found) == len(set(found.values())) == 8 * 24
    for k, shares in enumerate(shares_of(DEVICE, 8, 13)):
        share = shares["DP16KD"]
        assert {site for name, site in found.items() if f"core_{k}." in name} == set(share[:24])
        order = sorted((name for name in found if f"core_{k}." in name), key=lambda name: share.index(found[name]))
        assert [re.search(r"core_\d\.(\w+)", name)[1] for name in order] == [
            *(f"pe_{n}" for n in range(4) for _ in range(2)),
            *["layers"] * 8,
            *(f"pe_{n}" for n in range(4, 8) for _ in range(2)),
        ]


@pytest.mark.parametrize(("cores", "others"), [(2, 80), (4, 30), (8, 8)])
def test_multipliers_stand_in_the_order_of_their_block_rams(tmp_path, cores, others):
    path = netlist(tmp_path / "board.json", of_cores(cores, others))
    fix_sites(path, DEVICE)
    rams, multipliers = placed(path, "DP16KD"), placed(path, "MULT18X18D")
    assert len(multipliers) == len(set(multipliers.values())) == 13 * cores
    assert "shell.core.address.0" not in multipliers
    for k in range(cores):
        share = shares_of(DEVICE, cores, 13)[k]["MULT18X18D"]
        assert {site for name, site in multipliers.items() if f"core_{k}." in name} == set(share[:13])
        names = [f"shell.core.core_{k}.pe_{n}" for n in range(8)]
        near = [column(rams[f"{name}.lists.0"]) + column(rams[f"{name}.lists.1"]) for name in names]
        found = [column(multipliers[f"{name}.product.0"]) for name in names]
        assert [near[n] for n in sorted(range(8), key=found.__getitem__)] == sorted(near)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            {"shell.core.program": ("DP16KD", 3), "shell.product": ("MULT18X18D", 1)},
            "no core has block RAMs or multipliers",
        ),
        (
            {f"shell.core.core_{k}.layers": ("DP16KD", 104 + k) for k in range(2)},
            "none, core 1 has 105 block RAMs for 104 sites",
        ),
    ],
)
def test_netlists_that_are_left_as_they_are(tmp_path, names, said):
    path = netlist(tmp_path / "board.json", names)
    before = path.read_bytes()
    assert fix_sites(path, DEVICE) == said
    assert path.read_bytes() == before


def test_block_rams_are_fixed_where_multipliers_cannot_be(tmp_path):
    names = of_cores(8, 8) | {f"shell.core.core_{k}.lane": ("MULT18X18D", 12) for k in range(8)}
    path = netlist(tmp_path / "board.json", names)
    said = "of 8 cores 192 block RAMs and no multipliers, core 0 has 20 multipliers for 19 sites"
    assert fix_sites(path, DEVICE) == said
    assert (len(placed(path, "DP16KD")), len(placed(path, "MULT18X18D"))) == (192, 0)
