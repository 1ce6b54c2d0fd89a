import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hw.config import PRESETS
from hw.rtl.accelerator import CORE
from hw.rtl.core.dispatcher import Dispatcher
from hw.rtl.core.lanes import Lanes
from hw.rtl.verilog import TOP, convert, generate

ROOT = Path(__file__).parents[3]


def modules(text):
    return re.findall(r"^module \\?(\S+?)\s*\(", text, flags=re.MULTILINE)


#: The others take minutes together.
QUICK = ("tiny",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PRESETS]
)
def test_every_preset_converts(name):
    config = PRESETS[name]
    text = generate(config)
    found = modules(text)
    assert found.count(TOP) == 1
    header = re.search(rf"^module {TOP}\((.*?)\);", text, flags=re.MULTILINE | re.DOTALL)[1]
    ports = {port.strip() for port in header.split(",")}
    assert ports == {"clk", "rst", "i__payload", "i__valid", "i__ready", "o__payload", "o__valid", "o__ready"}
    # All cores are instances of one module, in which every PE is a module of its own.
    assert found.count(CORE) == 1
    assert len(re.findall(rf"^  {CORE} \\?core_\d+ \(", text, flags=re.MULTILINE)) == config.cores
    elements = {name for name in found if re.search(r"\.pe_\d+$", name)}
    assert len(elements) == config.pes


def test_a_unit_converts_alone_without_its_constant_ports():
    text = convert(Lanes(PRESETS["tiny"]), "lanes")
    header = re.search(r"^module lanes\((.*?)\);", text, flags=re.MULTILINE | re.DOTALL)[1]
    ports = {port.strip() for port in header.split(",")}
    assert {"o__valid", "o__payload", "i__0__ready", "i__3__valid"} <= ports
    assert "o__ready" not in ports


#: Verilog of the whole, and of a unit.
MADE = {
    "whole": lambda: generate(PRESETS["tiny"]),
    "dispatcher": lambda: convert(Dispatcher(PRESETS["tiny"]), "dispatcher"),
}


@pytest.mark.parametrize("name", [pytest.param("whole", marks=pytest.mark.slow), "dispatcher"])
def test_output_does_not_depend_on_the_hash_seed(name):
    """Another process orders its sets otherwise."""
    program = f"from {__name__} import MADE; print(MADE[{name!r}](), end='')"
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    environment = os.environ | {"PYTHONHASHSEED": seed}
    other = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True
    )
    assert other.stdout.decode() == MADE[name]()
