"""Docstrings and documents name things of ours by the modules that define them."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: What a document may name: dotted in a role or between backticks.
NAMES = re.compile(r"(?::\w+:)?`~?((?:hw|sim|models|fpga|offramp|tests)(?:\.\w+)+)(?:\(\))?`")
FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
]


def defined(body: list[ast.stmt], *, package: bool) -> dict[str, ast.stmt]:
    """What statements define by name; what the root of a package imports is part of it."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id: node for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and package:
            found |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.If):
            found |= defined(node.body, package=package)
    return found


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of ours, or what is defined in one."""
    place, parts = ROOT, name.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if not parts:
        return True
    package = not (place / f"{parts[0]}.py").is_file()
    path = place / "__init__.py" if package else place / f"{parts.pop(0)}.py"
    if not path.is_file():
        return False
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for part in parts:
        node = defined(body, package=package).get(part)
        if node is None:
            return False
        if not isinstance(node, ast.ClassDef):
            return True
        body = node.body
    return True


def test_every_name_is_defined_where_it_is_said_to_be():
    found = {
        f"{path.relative_to(ROOT)}:{number}: {name}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for name in NAMES.findall(line)
        if not resolves(name)
    }
    assert found == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hw.numerics", True),
        ("hw.rtl.core", True),
        ("hw.config.AcceleratorConfig.start_bits", True),
        ("hw.config.PRESETS", True),
        ("sim.worst_case", True),
        ("hw.words", False),
        ("hw.config.Nothing", False),
        ("hw.config.AcceleratorConfig.nothing", False),
        ("hw.compiler.steps.partition.parts_of", False),  # imported there
    ],
)
def test_the_rule_itself(name, expected):
    assert resolves(name) == expected
