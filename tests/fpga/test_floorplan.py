import json
import re
from itertools import pairwise

import pytest

from fpga.floorplan import SITES, fix_block_rams, sites_of


def netlist(path, rams: dict[str, int]):
    """A netlist with so many block RAMs of each name, in modules of which one is the top."""
    cells = {f"{name}.{n}": {"type": "DP16KD"} for name, count in rams.items() for n in range(count)}
    cells["shell.core.core_0.pe_0.product"] = {"type": "MULT18X18D", "attributes": {"src": "here"}}
    top = {"attributes": {"top": "00000000000000000000000000000001"}, "cells": cells}
    path.write_text(json.dumps({"modules": {"DP16KD": {"attributes": {}}, "board": top}}))
    return path


def placed(path) -> dict[str, str]:
    cells = json.loads(path.read_text())["modules"]["board"]["cells"]
    return {name: cell["attributes"]["BEL"] for name, cell in cells.items() if "BEL" in cell.get("attributes", {})}


def column(site: str) -> int:
    return int(re.fullmatch(r"X(\d+)/Y\d+/EBR[0-3]", site)[1])


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
def test_every_site_belongs_to_one_core(cores):
    columns, rows = SITES["85k"]
    sites = [site for share in sites_of("85k", cores) for site in share]
    assert len(sites) == len(set(sites)) == len(columns) * len(rows) == 208
    assert {len(share) for share in sites_of("85k", cores)} == {208 // cores}


def test_cores_lie_in_a_ring_and_their_sites_in_a_line():
    shares = sites_of("85k", 8)
    assert [min(map(column, share)) for share in shares] == [4, 33, 62, 93, 93, 62, 33, 4]
    for share in shares:
        assert max(abs(column(a) - column(b)) for a, b in pairwise(share)) <= 5


def test_the_rams_of_a_pe_get_sites_beside_one_another(tmp_path):
    names = {f"shell.core.core_{k}.pe_{n}.lists": 2 for k in range(8) for n in range(8)}
    names |= {f"shell.core.core_{k}.layers": 8 for k in range(8)} | {"shell.core.program": 1}
    path = netlist(tmp_path / "board.json", names)
    assert fix_block_rams(path, "85k") == "192 block RAMs of 8 cores"
    found = placed(path)
    assert len(found) == len(set(found.values())) == 8 * 24
    for k, share in enumerate(sites_of("85k", 8)):
        assert {site for name, site in found.items() if f"core_{k}." in name} == set(share[:24])
        order = sorted((name for name in found if f"core_{k}." in name), key=lambda name: share.index(found[name]))
        assert [re.search(r"core_\d\.(\w+)", name)[1] for name in order] == [
            *(f"pe_{n}" for n in range(4) for _ in range(2)),
            *["layers"] * 8,
            *(f"pe_{n}" for n in range(4, 8) for _ in range(2)),
        ]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"shell.core.program": 3}, "no core has block RAMs"),
        (
            {f"shell.core.core_{k}.layers": 104 + k for k in range(2)},
            "none, core 1 has 105 block RAMs for 104 sites",
        ),
    ],
)
def test_netlists_that_are_left_as_they_are(tmp_path, names, said):
    path = netlist(tmp_path / "board.json", names)
    before = path.read_bytes()
    assert fix_block_rams(path, "85k") == said
    assert path.read_bytes() == before
