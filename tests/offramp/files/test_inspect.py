import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.network import Select
from offramp.files import paths
from offramp.files.inspect import check_layer, describe, network_of
from offramp.measure.measure import layer_statistics
from offramp.report.tables.contents import contents
from offramp.report.tables.result_tables import layer_rows
from sim import simulate
from tests.hw.networks import runnable
from tests.random_networks import random_codes

NETWORK = runnable(
    {
        "stem": {"select": Select(kind="elements", count=7)},
        "early": {"select": Select(kind="channels", count=2)},
        "hidden": {"select": Select(kind="mask", channels=(0, 3))},
    }
)
CONFIG = preset("tiny").replace(accumulator_bits=32)


def test_what_layers_select_is_told(tmp_path):
    path = tmp_path / "program.off"
    compile_network(NETWORK, CONFIG).save(path)
    found = describe(path)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(contents(found))
    lines: dict[str, str] = {}
    for line in filter(str.strip, console.export_text().splitlines()):
        lines.setdefault(line.split()[0], line)
    for name, text in (("stem", "7 of 48 elements"), ("early", "2 of 4 channels"), ("sum", "-")):
        assert lines[name].rstrip().endswith(f"  {text}")
    assert lines["hidden"].rstrip().endswith("  2 of 4 channels, always the same")
    layers = {layer["name"]: layer.get("select") for layer in found["network"]["layers"]}
    assert layers["hidden"] == {"kind": "mask", "count": 0, "channels": [0, 3], "selected": 2, "of": 4}
    assert layers["sum"] is None


def test_the_table_of_layers_has_a_column_of_selections_where_there_are_some():
    codes = random_codes(NETWORK, 3, 0)
    plain = replace(
        NETWORK,
        layers=tuple(replace(layer, select=None) if hasattr(layer, "select") else layer for layer in NETWORK.layers),
    )
    for network, selects in ((NETWORK, True), (plain, False)):
        found = simulate(compile_network(network, CONFIG), codes)
        head, rows = layer_rows(layer_statistics(found))
        assert ("cycles, select" in head) == selects
        assert all(len(row) == len(head) for row in rows)
        if selects:
            reached = [row for row in rows if row[head.index("images")] != "0"]
            shown = [row[head.index("cycles, select")] != "0.0" for row in reached]
            assert shown == [row[0] in ("stem", "early", "hidden") for row in reached]
            assert len(reached) >= 2
            assert np.any(found.select_cycles)


def test_layers_are_named_with_or_without_the_part_of_an_instruction(tmp_path):
    path = tmp_path / "program.off"
    compile_network(NETWORK, CONFIG).save(path)
    for name in ("stem", "stem@1", "stem[0:8]", "stem<0:8>", "stem@12[0:8]<8:16>"):
        check_layer([path], name)
    for name in ("stem1", "stem[0]", "stems@1", "@1"):
        with pytest.raises(ValueError, match=f"^--layer must be one of stem\\.conv, .*, not {re.escape(repr(name))}$"):
            check_layer([Path("zoo:digits"), path], name)


def test_the_network_of_every_kind_of_file(small, tmp_path):
    compressed, program = (small.folder / name for name in (paths.COMPRESSED, paths.PROGRAM))
    names = [[layer.name for layer in network_of(path).layers] for path in (compressed, program)]
    assert names[0] == names[1]
    assert network_of(Path("zoo:digits@tiny")).name == network_of(Path("zoo:digits")).name == "digits"
    assert network_of(small.folder / paths.TRAINED) is None
    assert network_of(tmp_path / "net.onnx") is None
