"""Every component of the hardware states its latency, throughput, back-pressure and reset."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: What is to be said, and the words that say it.
SAID = {
    "latency": r"\bLatency\b",
    "throughput": r"\b[Tt]hroughput\b",
    "back-pressure": r"\b[Bb]ack-pressure\b",
    "reset": r"\bReset:\s",
}


def components(folder: str) -> dict[str, str]:
    """Docstrings of the components that others may use, by file and name."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            if "wiring.Component" in map(ast.unparse, node.bases):
                found[f"{path.relative_to(ROOT)}:{node.name}"] = ast.get_docstring(node) or ""
    return found


COMPONENTS = components("hw/rtl") | components("fpga")


@pytest.mark.parametrize("name", COMPONENTS)
def test_components_state_their_timing(name):
    missing = [what for what, words in SAID.items() if not re.search(words, COMPONENTS[name])]
    assert not missing


def test_components_are_found():
    assert {"hw/rtl/accelerator.py:Accelerator", "fpga/gateware/uart.py:ByteReceiver"} <= COMPONENTS.keys()
