"""Nothing is imported before it is needed: what a command loads that computes nothing, and one that is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from tests.random_networks import random_network

#: What takes long to import.
HEAVY = ("torch", "onnx", "numba", "llvmlite", "scipy", "sklearn", "amaranth", "cocotb", "cocotb_tools", "pydantic")
_RUN = """
import sys
sys.argv = ["offramp", *sys.argv[1:]]
from offramp.cli import main
try:
    main()
finally:
    print("loaded:", *sys.modules)
"""


def modules(*arguments: object) -> tuple[int, set[str], str]:
    """A command's exit code, which modules it loaded, and what it said on standard error."""
    command = [sys.executable, "-c", _RUN, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("loaded:")]
    return found.returncode, set(line.split()[1:]), found.stderr


def loaded(*arguments: object) -> tuple[int, set[str], str]:
    """The same, of modules those that take long to import."""
    code, found, said = modules(*arguments)
    return code, found & set(HEAVY), said


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("startup") / "program.off"
    compile_network(random_network(1), preset("tiny,list_words=8192,accumulators=1024")).save(path)
    return path


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["-h"], ["simulate", "-h"]], ids=" ".join)
def test_what_says_something_of_itself_loads_nothing(arguments):
    assert loaded(*arguments)[:2] == (0, set())


def test_only_the_command_that_is_called_is_imported():
    found = {name for name in modules("clean", "-h")[1] if name.startswith("offramp.commands.")}
    assert found == {f"offramp.commands.{name}" for name in ("common", "files", "model_options")}


def test_the_version_needs_neither_arrays_nor_tables():
    assert not modules("--version")[1] & {"numpy", "rich"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compile", "--config", "huge"], "config must be one of tiny, single"),
        (["simulate", "--config", "base,lanes=3"], "lanes must be a power of two"),
        (["train", "--data", "nothing"], "data must be one of digits"),
        (["simulate", "zoo:dab", "--attack", "none"], "attack must be one of clean"),
        (["simulate", "missing.off"], "missing.off: cannot be read: No such file or directory"),
        (["verify", "missing.tflite"], "missing.tflite: cannot be read: No such file or directory"),
        (["compress", "missing.off"], "missing.off: cannot be read: No such file or directory"),
        (["verify", "zoo:dab", "--images", "none"], "--images must be a whole number"),
        (["simulate", "zoo:dab", "--clean"], "No such option: --clean"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_loads_nothing(arguments, message):
    code, modules, said = loaded(*arguments)
    assert (code, modules) == (2, set())
    assert message in " ".join(said.split())


def test_what_a_program_is_is_said_without_what_runs_it(program):
    assert loaded("disasm", program)[:2] == (0, set())
    assert loaded("info", "zoo:dab")[:2] == (0, set())
    assert loaded("info", program)[:2] == (0, set())


def test_the_side_of_a_simulation_loads_no_simulator():
    """Every run on RTL is a process of its own."""
    script = "import sys, offramp.rtl.bench_side; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert not set(found.stdout.split()) & (set(HEAVY) - {"cocotb", "cocotb_tools"})
