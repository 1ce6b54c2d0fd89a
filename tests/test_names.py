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

#: Types that two files may define under one name, and why.
SHARED_TYPES = {"_Scan": "stands in the Verilog of committed bitstreams, for dispatcher and selector"}
#: The file that has the layouts of others as hardware, under their names; its test compares them.
HARDWARE = "hw/rtl/structs.py"
#: Files that may be called as another one, and why.
SHARED_FILES = {
    "__init__.py": "Python's",
    "__main__.py": "Python's",
    "models/frontends/": "each room of them takes files apart, and has operators and layers",
    "offramp/commands/": "commands are called as what they start",
    "offramp/replications/": "a replication is called as its method",
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
    assert twice(named).keys() == SHARED_TYPES.keys()


def shares(file: str) -> bool:
    """Whether a file may be called as another one."""
    return any(file.startswith(place) or file.endswith(f"/{place}") for place in SHARED_FILES)


def test_no_two_files_share_a_name():
    named = defaultdict(list)
    for file in FILES:
        if not shares(file):
            named[Path(file).name].append(file)
    assert twice(named) == {}


def test_a_shared_name_of_a_file_is_used():
    others = {Path(file).name for file in FILES if not shares(file)}
    for place in SHARED_FILES:
        found = [file for file in FILES if file.startswith(place)]
        assert not found or others & {Path(file).name for file in found}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("offramp/commands/bench.py", True),
        ("offramp/replications/__main__.py", True),
        ("hw/rtl/__init__.py", True),
        ("hw/rtl/core/core.py", False),
        ("hw/program/main__.py", False),
    ],
)
def test_the_rule_for_files_itself(file, expected):
    assert shares(file) == expected


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
