"""A name means one thing: no two classes, and no two files of different jobs, share one."""

import ast
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("hw", "sim", "models", "fpga", "offramp")
FILES = subprocess.run(
    ["git", "ls-files", *(f"{package}/*.py" for package in PACKAGES)],
    cwd=ROOT, capture_output=True, text=True, check=True,
).stdout.split()  # fmt: skip

#: The file that has the layouts of others as hardware, under their names; its test compares them.
HARDWARE = "hw/rtl/structs.py"
PYTHONS = ("__init__.py", "__main__.py")
#: Names of files that these folders, and no others, may share, and why.
SHARED_FILES = {
    "binary_relax.py dab.py dasnet.py dnr.py feedback.py gap.py jpnet.py": (
        ("models/methods/", "offramp/replications/"),
        "a method, and the replication of its publication",
    ),
    "bench.py": (("offramp/commands/", "offramp/measure/"), "the command, and what it starts"),
    "demo.py": (("offramp/", "offramp/commands/"), "the command, and what it starts"),
    "zoo.py": (("models/", "offramp/commands/"), "the networks, and the command that lists them"),
    "exits.py network.py": (("hw/network/", "offramp/commands/"), "the thing, and the commands that take it"),
    "report.py": (
        ("fpga/flow/", "offramp/commands/"),
        "what nextpnr reports, and the command that reports a result",
    ),
    "runs.py": (("fpga/", "offramp/commands/"), "runs on whatever carries the words, and the commands that start runs"),
    "files.py": (("offramp/commands/", "offramp/ip_core/"), "commands for any file, and the files of a core"),
    "file.py": (("models/frontends/onnx/", "models/frontends/tflite/"), "each takes its format's file apart"),
    "layers.py": (
        ("hw/network/", *(f"models/frontends/{room}/" for room in ("onnx", "quantized", "tflite"))),
        "layers of the integer network, and what a format has for them",
    ),
    "layout.py": (
        ("models/frontends/onnx/", "offramp/rtl/"),
        "axes of ONNX maps, and groups of a waveform's signals",
    ),
    "lowering.py": (
        ("models/frontends/pytorch/", "models/frontends/quantized/"),
        "what the operators of a kind of program share on their way to steps",
    ),
    "operators.py": (
        tuple(f"models/frontends/{room}/" for room in ("onnx", "pytorch", "quantized")),
        "what becomes of a format's operators",
    ),
    "reader.py": (
        tuple(f"models/frontends/{room}/" for room in ("onnx", "quantized", "tflite")),
        "each reads its format into a network",
    ),
    "reference.py": (
        ("models/frontends/onnx/", "offramp/intake/"),
        "what ONNX's runtimes compute, and what any source's does",
    ),
    "elementwise.py rounding.py": (
        ("models/frontends/tflite/", "models/integer/"),
        "of TFLite operators and factors, and of the integer network in PyTorch",
    ),
    "start.py": (
        ("models/recipes/", "offramp/replications/"),
        "what a recipe or a replication begins with",
    ),
}


def types_of(source: str) -> set[str]:
    """The classes that a module defines, wherever, and the types that it gives a name (``Rows = tuple[int, int]``)."""
    tree = ast.parse(source)
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            word = target.id.lstrip("_")
            found |= {target.id} if word[:1].isupper() and not word.isupper() else set()
    return found


def twice(named: dict[str, list[str]]) -> dict[str, list[str]]:
    """Names that stand for more than one thing, with the files that they are in."""
    return {name: files for name, files in named.items() if len(files) > 1}


def test_no_two_types_share_a_name():
    named = defaultdict(list)
    for file in FILES:
        if file == HARDWARE:
            continue
        for name in types_of((ROOT / file).read_text(encoding="utf-8")):
            named[name].append(file)
    assert twice(named) == {}


def files_by_name(files: list[str]) -> dict[str, list[str]]:
    """Files whose names others have, too, in order."""
    named = defaultdict(list)
    for file in sorted(files):
        if Path(file).name not in PYTHONS:
            named[Path(file).name].append(file)
    return twice(named)


def test_files_share_a_name_only_where_it_is_said_why():
    allowed = {
        name: sorted(folder + name for folder in folders)
        for names, (folders, _) in SHARED_FILES.items()
        for name in names.split()
    }
    assert files_by_name(FILES) == allowed


def test_the_rule_for_files_itself():
    files = ["hw/b/a.py", "hw/a.py", "hw/b.py", "hw/__init__.py", "sim/__init__.py", "sim/main__.py", "hw/main__.py"]
    assert files_by_name(files) == {"a.py": ["hw/a.py", "hw/b/a.py"], "main__.py": ["hw/main__.py", "sim/main__.py"]}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class A:\n    class B: pass", {"A", "B"}),
        ("Rows = tuple[int, int]\n_Pairs = list[Rows]", {"Rows", "_Pairs"}),
        ("ROWS, _MOST_ROWS = 1, 2\nLEAST = 3\n_KEPT = 4\nrows = 5", set()),
    ],
)
def test_the_rule_itself(source, expected):
    assert types_of(source) == expected
