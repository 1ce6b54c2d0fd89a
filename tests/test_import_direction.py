"""Who may import whom, room by room; a room is a folder of a package."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_CONTRACTS = (
    "hw", "hw.network", "hw.program", "hw.compiler", "hw.compiler.steps", "hw.compiler.memory", "hw.compiler.search",
)  # fmt: skip
#: What comes in from PyTorch and from calibration; files of others are read at the front door.
_FRONTENDS = ("models.frontends.pytorch", "models.frontends.quantized")
#: Rooms of contracts that only files of TOP import.
_CHECKS = ("hw.program.check",)
#: What each room may import of ours besides itself. A room not named here is a mistake.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # The contracts: no RTL, no torch.
    "hw": (),
    "hw.network": ("hw",),
    "hw.program": ("hw", "hw.network"),
    # What a program may do; a Program is checked by it when it is made.
    "hw.program.check": ("hw", "hw.network", "hw.program"),
    # The passes stand above what they use: steps, memories, search.
    "hw.compiler.steps": ("hw", "hw.network", "hw.program"),
    "hw.compiler.memory": ("hw", "hw.network", "hw.program", "hw.compiler.steps"),
    "hw.compiler.search": ("hw", "hw.network", "hw.program", "hw.compiler.steps", "hw.compiler.memory"),
    "hw.compiler": (
        "hw", "hw.network", "hw.program", "hw.compiler.steps", "hw.compiler.memory", "hw.compiler.search",
    ),
    # The accelerator: units that several blocks use, then block by block. TOP puts them together.
    "hw.rtl": ("hw", "hw.program"),
    "hw.rtl.core": ("hw", "hw.program", "hw.rtl"),
    "hw.rtl.host": ("hw", "hw.program", "hw.rtl"),
    "hw.rtl.control": ("hw", "hw.network", "hw.program", "hw.rtl", "hw.rtl.core"),
    # PyTorch, by stage.
    "models.datasets": _CONTRACTS,
    "models.networks": (*_CONTRACTS, "models.datasets"),
    "models.integer": (*_CONTRACTS, "models.datasets"),
    "models.frontends": _CONTRACTS,
    "models.frontends.pytorch": (*_CONTRACTS, "models.networks"),
    "models.frontends.quantized": (
        *_CONTRACTS, "models.networks", "models.integer", "models.frontends", "models.frontends.pytorch",
    ),
    "models.frontends.onnx": (*_CONTRACTS, "models.networks", "models.frontends"),
    "models.frontends.tflite": (*_CONTRACTS, "models.frontends"),
    # What goes out is read back.
    "models.backends": (
        *_CONTRACTS, "models.integer", "models.frontends", "models.frontends.quantized", "models.frontends.onnx",
        "models.frontends.tflite",
    ),
    "models.training": (*_CONTRACTS, "models.datasets", "models.networks"),
    "models.compression": (
        *_CONTRACTS, "models.datasets", "models.networks", *_FRONTENDS, "models.integer", "models.training",
    ),
    "models.attacks": (
        *_CONTRACTS, "models.datasets", "models.networks", "models.integer", "models.compression",
    ),
    "models.methods": (
        *_CONTRACTS, "models.datasets", "models.networks", *_FRONTENDS, "models.integer", "models.training",
        "models.compression",
    ),
    "models.recipes": (
        *_CONTRACTS, "models.datasets", "models.networks", *_FRONTENDS, "models.integer", "models.training",
        "models.compression", "models.methods",
    ),
    "models": (*_CONTRACTS, "models.datasets", "models.recipes"),
    # The simulator reads programs, and takes its values from the golden model.
    "sim": (*_CONTRACTS, "models.integer"),
    # Boards, links and the protocol; what stands on an FPGA around the accelerator; from Verilog to a bitstream.
    "fpga": ("hw", "hw.network", "hw.program"),
    "fpga.gateware": ("hw", "hw.rtl", "fpga"),
    "fpga.flow": ("hw", "hw.rtl", "hw.rtl.core", "fpga", "fpga.gateware"),
    # What runs on the host of a board.
    "fpga.host": ("hw", "hw.network", "hw.program", "fpga", "fpga.flow"),
}  # fmt: skip
#: Files that put a folder and the rooms below it together: they may import all of these, in which no other file imports
#: them.
TOP = {
    "hw.rtl.accelerator": "hw.rtl",
    "hw.rtl.verilog": "hw.rtl",
    "hw.program.program": "hw.program",
    "hw.program.bundle": "hw.program",
}
#: The front door imports everything, and nobody imports it.
FRONT_DOOR = "offramp"
#: What each room of the front door may import of its other rooms; what they share is at its root.
INSIDE: dict[str, tuple[str, ...]] = {
    "offramp.files": (),
    "offramp.terminal": ("offramp.files",),
    "offramp.rtl": ("offramp.files", "offramp.terminal"),
    "offramp.measure": ("offramp.files", "offramp.rtl"),
    "offramp.measure.peer_drivers": (),
    "offramp.report.plots": (),
    "offramp.report.tables": ("offramp.files", "offramp.measure"),
    "offramp.report.pages": ("offramp.files", "offramp.report.plots", "offramp.report.tables"),
    "offramp.report.documents": (
        "offramp.files", "offramp.measure", "offramp.report.plots", "offramp.report.tables", "offramp.report.pages",
    ),
    # The files that a report is written to.
    "offramp.report": ("offramp.report.plots", "offramp.report.tables", "offramp.report.pages"),
    "offramp.replications": ("offramp.files", "offramp.terminal"),
    "offramp.ip_core": ("offramp.report.tables", "offramp.report.documents"),
    "offramp.intake": ("offramp.files", "offramp.rtl", "offramp.measure"),
    "offramp.commands": (
        "offramp.files", "offramp.terminal", "offramp.rtl", "offramp.measure", "offramp.report",
        "offramp.report.tables", "offramp.report.pages", "offramp.intake", "offramp.ip_core",
    ),
}  # fmt: skip
PACKAGES = ("hw", "sim", "models", "fpga", FRONT_DOOR)
NEVER = {"pickle", "marshal", "shelve", "dill", "joblib"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
SOURCES = {module: path.read_text(encoding="utf-8") for module, path in FILES.items()}


def imports(source: str) -> Iterator[str]:
    """Everything a module imports, anywhere in it: modules, and names in modules as ``module.name``."""
    for node in ast.walk(ast.parse(source)):
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


def room(module: str) -> str:
    """The folder in which a module lies."""
    return ".".join(FILES[module].relative_to(ROOT).parent.parts)


def within(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def objection(module: str, imported: str) -> str | None:
    """Why a module may not import something, or None."""
    if imported.startswith("."):
        return "relative import"
    package, target, here = top(module), top(imported), room(module)
    if target in NEVER:
        return "executes what it reads"
    if imported == "__future__.annotations" and package == "hw":
        return "makes every Struct 0 bits wide"
    if package == "hw" and target == "torch":
        return "hw is free of torch"
    if here in (*_CONTRACTS, *_CHECKS) and target == "amaranth":
        return "contracts are free of hardware"
    if target not in PACKAGES or (package == FRONT_DOOR and target != FRONT_DOOR):
        return None
    if package != FRONT_DOOR and target == FRONT_DOOR:
        return "nobody imports offramp"
    found = owner(imported)
    there = room(found)
    if package == FRONT_DOOR:
        allowed = here == FRONT_DOOR or there in (FRONT_DOOR, here, *INSIDE[here])
        return None if allowed else f"{here} may not import {found}"
    if module in TOP:
        allowed = within(there, TOP[module]) or there in MAY_IMPORT[here]
    else:
        below = found in TOP and within(here, TOP[found])
        allowed = (there == here or there in MAY_IMPORT[here]) and not below
    return None if allowed else f"{here} may not import {found}"


def circle(imported: dict[str, set[str]]) -> list[str]:
    """What imports each other, over however many, and what imports these; nothing if there is an order."""
    left = imported
    while free := {here for here, there in left.items() if not there & left.keys()}:
        left = {here: there for here, there in left.items() if here not in free}
    return sorted(left)


def test_every_room_is_in_the_table():
    assert {room(module) for module in SOURCES} == {*MAY_IMPORT, *INSIDE, FRONT_DOOR}


def test_the_table_is_an_order():
    """No room imports another that imports it, over however many rooms."""
    assert circle({here: set(rooms) for here, rooms in (MAY_IMPORT | INSIDE).items()}) == []


def test_no_files_import_each_other():
    """Wherever they are, and over however many files."""
    files = {
        module: {owner(name) for name in imports(source) if top(name) in PACKAGES} - {module}
        for module, source in SOURCES.items()
    }
    assert circle(files) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_imports_go_in_one_direction():
    found = {
        f"{module} imports {name}": why
        for module, source in SOURCES.items()
        for name in imports(source)
        if (why := objection(module, name))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("hw.compiler.compile", "import torch", "hw is free of torch"),
        ("hw.rtl.core.core", "def f():\n    from torch import nn", "hw is free of torch"),
        ("hw.compiler.compile", "from hw.rtl.core.core import Core", "hw.compiler may not import hw.rtl.core.core"),
        ("hw.compiler.compile", "from hw.rtl.core import core", "hw.compiler may not import hw.rtl.core.core"),
        ("hw.program.program", "from hw.compiler import compile", "hw.program may not import hw.compiler.compile"),
        ("hw.program.program", "from hw.program.check.images import check_images", None),
        ("hw.program.bundle", "from hw.program.program import Program", None),
        ("hw.program.decode", "import hw.program.check.maps", "hw.program may not import hw.program.check.maps"),
        ("hw.program.decode", "from hw.program.bundle import bundle_of", "hw.program may not import hw.program.bundle"),
        ("hw.program.check.maps", "import hw.program.program", "hw.program.check may not import hw.program.program"),
        ("hw.program.check.maps", "from hw.program.decode import Decoded", None),
        ("hw.program.check.maps", "from amaranth import Module", "contracts are free of hardware"),
        ("hw.compiler.compile", "import hw.program.check.maps", "hw.compiler may not import hw.program.check.maps"),
        ("hw.compiler.compile", "from hw.program.program import Program", None),
        ("hw.network.network", "from hw.program.isa import Header", "hw.network may not import hw.program.isa"),
        ("hw.config", "from hw.network.network import Network", "hw may not import hw.network.network"),
        ("hw.rtl.core.core", "import hw.compiler.steps.step", "hw.rtl.core may not import hw.compiler.steps.step"),
        ("hw.rtl.adders", "from hw.rtl.core.pe import x", "hw.rtl may not import hw.rtl.core.pe"),
        ("hw.rtl.core.core", "from hw.rtl.accelerator import x", "hw.rtl.core may not import hw.rtl.accelerator"),
        ("hw.rtl.accelerator", "from hw.rtl.control.sequencer import Sequencer", None),
        ("hw.compiler.compile", "from amaranth import Module", "contracts are free of hardware"),
        ("hw.program.isa", "import amaranth", "contracts are free of hardware"),
        ("hw.program.isa", "from amaranth.lib import data", "contracts are free of hardware"),
        ("hw.rtl.structs", "from amaranth.lib import data, enum\nfrom hw.program import isa", None),
        ("hw.rtl.core.core", "from amaranth import Module", None),
        ("hw.rtl.core.core", "from hw.rtl.core import pe\nfrom hw.program import isa", None),
        ("hw.rtl.core.core", "from __future__ import annotations", "makes every Struct 0 bits wide"),
        ("models.integer.golden", "from __future__ import annotations", None),
        ("hw.rtl.core.core", "from sim import simulate", "hw.rtl.core may not import sim.simulate"),
        ("hw.network.network", "import models.integer.golden", "hw.network may not import models.integer.golden"),
        ("models.integer.golden", "from hw.network.network import Network", None),
        ("models.integer.golden", "import hw.rtl.core.core", "models.integer may not import hw.rtl.core.core"),
        ("models.integer.golden", "from models import zoo", "models.integer may not import models.zoo"),
        ("models.integer.golden", "from sim.timing import FIRST_PUSH", "models.integer may not import sim.timing"),
        ("models.integer.golden", "from fpga import boards", "models.integer may not import fpga.boards"),
        ("sim.simulate", "from models.integer import golden", None),
        ("sim.simulate", "from models.datasets.splits import load", "sim may not import models.datasets.splits"),
        ("sim.simulate", "from hw.rtl.core.pe import ProcessingElement", "sim may not import hw.rtl.core.pe"),
        ("fpga.flow.build", "from hw.rtl.accelerator import Accelerator", None),
        ("fpga.flow.build", "from models.integer import golden", "fpga.flow may not import models.integer.golden"),
        ("fpga.flow.build", "import offramp.demo", "nobody imports offramp"),
        ("offramp.demo", "from sim import simulate\nimport hw.rtl.core.core", None),
        ("offramp.demo", "from . import stages", "relative import"),
        ("offramp.rtl.run", "from offramp import stopping", None),
        ("offramp.rtl.run", "import offramp.measure.measure", "offramp.rtl may not import offramp.measure.measure"),
        ("offramp.measure.bench", "from offramp.rtl import run", None),
        ("offramp.report.html", "import offramp.commands.demo", "offramp.report may not import offramp.commands.demo"),
        ("offramp.demo", "from offramp.rtl import run", None),
        ("models.datasets.splits", "import pickle", "executes what it reads"),
    ],
)  # fmt: skip
def test_the_rules_themselves(module, source, reason):
    found = [objection(module, name) for name in imports(source)]
    assert [why for why in found if why] == ([reason] if reason else [])


def test_contracts_load_neither_rtl_nor_torch():
    contracts = {module for module in SOURCES if top(module) == "hw" and room(module) in (*_CONTRACTS, *_CHECKS)}
    program = (
        f"import sys, importlib\n[importlib.import_module(name) for name in {sorted(contracts)}]\n"
        "print(*(name for name in sys.modules if name.split('.')[0] in ('amaranth', 'torch', 'hw', 'models', 'sim')))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) == contracts


def test_nothing_is_unpickled():
    """numpy and torch unpickle too, where they are asked to; weights alone are read without it."""
    for module, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                safe = any(
                    keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in node.keywords
                )
                unpickled = ast.unparse(node.func) == "torch.save" or (
                    ast.unparse(node.func) == "torch.load" and not safe
                )
                assert not unpickled, f"{module}, line {node.lineno}"
                for keyword in node.keywords:
                    refused = keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
                    assert not refused, f"{module}, line {node.lineno}"
