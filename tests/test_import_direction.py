"""Who may import whom: contracts below, RTL, models and sim beside each other, fpga above the RTL, offramp on top."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("hw", "sim", "models", "fpga", "offramp")

#: The part of hw that imports neither RTL nor torch; every package may import it. Every other module of hw is RTL.
CONTRACTS = {
    "hw.arithmetic",
    "hw.arrays",
    "hw.balance",
    "hw.check",
    "hw.check_network",
    "hw.check_products",
    "hw.check_select",
    "hw.chunks",
    "hw.command",
    "hw.compile",
    "hw.config",
    "hw.container",
    "hw.decode",
    "hw.emit",
    "hw.emit_select",
    "hw.estimate",
    "hw.exits",
    "hw.geometry",
    "hw.image_layout",
    "hw.isa",
    "hw.isa_select",
    "hw.known",
    "hw.layers",
    "hw.least",
    "hw.link",
    "hw.list_memory",
    "hw.memory_plan",
    "hw.multiplied",
    "hw.need",
    "hw.network",
    "hw.numerics",
    "hw.options",
    "hw.output",
    "hw.partition",
    "hw.places",
    "hw.planner",
    "hw.processes",
    "hw.program",
    "hw.program_select",
    "hw.protocol",
    "hw.rules",
    "hw.schedule",
    "hw.search",
    "hw.select",
    "hw.sparse",
    "hw.steps",
    "hw.stored",
    "hw.streaming",
    "hw.tiles",
    "hw.words",
}
#: What contracts may take from the hardware language: layouts, which are plain data, and their widths.
LAYOUTS = {"amaranth.Shape", "amaranth.lib.data", "amaranth.lib.enum"}
NEVER = {"pickle", "marshal", "shelve", "dill", "joblib"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def imports(source: str) -> Iterator[str]:
    """Everything a module imports, anywhere in it: modules, and names in modules as ``module.name``."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def top(name: str) -> str:
    return name.partition(".")[0]


def owner(imported: str) -> str:
    """The module of ours that an imported name is or lies in."""
    while imported not in SOURCES and "." in imported:
        imported = imported.rpartition(".")[0]
    return imported


def objection(module: str, imported: str) -> str | None:
    """Why a module may not import something, or None."""
    if imported.startswith("."):
        return "relative import"
    package, target = top(module), top(imported)
    if target in NEVER:
        return "executes what it reads"
    if imported == "__future__.annotations" and module.startswith("hw."):
        return "makes every Struct 0 bits wide"
    if package == "hw" and target == "torch":
        return "hw is free of torch"
    if (
        module in CONTRACTS
        and target == "amaranth"
        and not any(imported == name or imported.startswith(f"{name}.") for name in LAYOUTS)
    ):
        return "contracts use layouts only"
    if target not in PACKAGES or package == "offramp":
        return None
    if target == "offramp":
        return "nobody imports offramp"
    found = owner(imported)
    contract = found in CONTRACTS or found == "hw"
    allowed = {
        "hw": contract or (target == "hw" and module not in CONTRACTS),
        "models": contract or target == "models",
        "sim": contract or target == "sim" or found in ("models", "models.golden"),
        "fpga": target in ("hw", "fpga"),
    }
    return None if allowed[package] else f"{package} may not import {found}"


def test_imports_go_in_one_direction():
    found = [(module, name, objection(module, name)) for module, source in SOURCES.items() for name in imports(source)]
    assert [f"{module} imports {name}: {reason}" for module, name, reason in found if reason] == []


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("hw.compile", "import torch", "hw is free of torch"),
        ("hw.core", "def f():\n    from torch import nn", "hw is free of torch"),
        ("hw.compile", "from hw.core import Core", "hw may not import hw.core"),
        ("hw.compile", "from hw import core", "hw may not import hw.core"),
        ("hw.compile", "from amaranth import Module", "contracts use layouts only"),
        ("hw.isa", "from amaranth.lib import memory", "contracts use layouts only"),
        ("hw.isa", "import amaranth", "contracts use layouts only"),
        ("hw.isa", "from amaranth.lib import data, enum", None),
        ("hw.core", "from amaranth import Module", None),
        ("hw.core", "from hw import pe, isa", None),
        ("hw.core", "from __future__ import annotations", "makes every Struct 0 bits wide"),
        ("models.golden", "from __future__ import annotations", None),
        ("hw.core", "from sim import simulate", "hw may not import sim.simulate"),
        ("hw.network", "import models.golden", "hw may not import models.golden"),
        ("models.golden", "from hw.network import Network", None),
        ("models.golden", "from hw import network", None),
        ("models.golden", "import hw.core", "models may not import hw.core"),
        ("models.golden", "from sim.timing import FIRST_PUSH", "models may not import sim.timing"),
        ("models.golden", "from fpga import boards", "models may not import fpga.boards"),
        ("sim.simulate", "from models import golden", None),
        ("sim.simulate", "from models.golden import run", None),
        ("sim.simulate", "from models import data", "sim may not import models.data"),
        ("sim.simulate", "from models.data import load", "sim may not import models.data"),
        ("sim.simulate", "from hw.pe import ProcessingElement", "sim may not import hw.pe"),
        ("fpga.build", "from hw.core import Core", None),
        ("fpga.build", "from models import golden", "fpga may not import models.golden"),
        ("fpga.build", "import offramp.demo", "nobody imports offramp"),
        ("models.golden", "from offramp import demo", "nobody imports offramp"),
        ("offramp.demo", "from sim import simulate\nimport hw.core", None),
        ("offramp.demo", "from . import stages", "relative import"),
        ("models.data", "import pickle", "executes what it reads"),
    ],
)
def test_the_rules_themselves(module, source, reason):
    found = [objection(module, name) for name in imports(source)]
    assert [why for why in found if why] == ([reason] if reason else [])


def test_every_module_of_hw_is_a_contract_or_rtl():
    modules = {module for module in SOURCES if module.startswith("hw.")}
    assert modules >= CONTRACTS
    for module in modules - CONTRACTS:
        assert any(name.startswith("amaranth") for name in imports(SOURCES[module])), f"{module} is neither"


def test_contracts_load_neither_rtl_nor_torch():
    program = (
        f"import sys, importlib\n[importlib.import_module(name) for name in {sorted(CONTRACTS)}]\n"
        "print(*(name for name in sys.modules if name.split('.')[0] in ('torch', 'hw', 'models', 'sim')))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) == CONTRACTS | {"hw"}


def unpickling(source: str) -> Iterator[int]:
    """Lines in which numpy or torch are asked to unpickle."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Call):
            loads = ast.unparse(node.func) in ("torch.load", "torch.save")
            allows = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
            if loads or allows:
                yield node.lineno


def test_nothing_is_unpickled():
    assert [f"{module}, line {line}" for module, source in SOURCES.items() for line in unpickling(source)] == []


def test_what_counts_as_unpickling():
    text = "import torch\ntorch.load(p)\nnp.load(p)\nnp.load(p, allow_pickle=True)\nnp.load(p, allow_pickle=False)\n"
    assert list(unpickling(text)) == [2, 4]


#: What starts processes; only one module may, so that they all end with their parent.
STARTERS = {
    *(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output", "getoutput")),
    *("os.system", "os.popen", "os.fork", "multiprocessing", "concurrent.futures.ProcessPoolExecutor"),
}


def test_processes_are_started_in_one_way():
    found = {}
    for module in SOURCES.keys() - {"hw.processes"}:
        nodes = ast.walk(parsed(SOURCES[module]))
        called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        found[module] = (called | set(imports(SOURCES[module]))) & STARTERS
    assert {module: names for module, names in found.items() if names} == {}
