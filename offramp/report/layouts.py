"""Instruction set, host protocol and file format as a page, written from the layouts: it can't drift."""

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from amaranth.lib import data, enum

from hw.program import isa, isa_select, program, protocol

__all__ = ["program_page"]

_HEAD = """# Programs: instruction set, host protocol, file

This page is generated from `hw/program/isa.py` and `hw/program/protocol.py` (`tools/figures`); a test compares them.
Words are 32 bits unless said otherwise; a layout that is longer takes consecutive words, least significant first. Bit 0
is the lowest bit of the first word. What a program may do is checked when it is read (`hw/program/check/`).
"""


def _comments(cls: type) -> dict[str, str]:
    """What stands behind each member of a class in its source, by name; a comment may go on in the lines below."""
    lines = inspect.getsource(cls).splitlines()
    found: dict[str, str] = {}
    for node in ast.parse("\n".join(lines)).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.Assign | ast.AnnAssign):
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            place = node.end_lineno or node.lineno
            text = lines[place - 1].partition("#")[2].lstrip(":").strip()
            while place < len(lines) and lines[place].strip().startswith("#:"):
                text += " " + lines[place].strip()[2:].strip()
                place += 1
            found[name] = text
    return found


def _said(cls: type) -> str:
    return _plain(inspect.cleandoc(cls.__dict__.get("__doc__") or ""))


def _plain(text: str) -> str:
    """Docstring references as code."""
    for role in ("class", "data", "mod", "func", "attr"):
        text = text.replace(f":{role}:`", "`")
    return text.replace("``", "`")


def _layout(cls: Any) -> Iterator[str]:
    """A Struct's fields, with the bits that each takes."""
    said = _comments(cls)
    yield from (f"### {cls.__name__}", "", _said(cls), "", "| bits | field | meaning |", "|---|---|---|")
    for name, field in cls.as_shape():
        first, width = field.offset, field.width
        kind = getattr(field.shape, "__name__", "")
        bits = f"{first + width - 1}:{first}" if width > 1 else str(first)
        meaning = _plain(said[name]) or (f"see {kind}" if kind else "")
        yield f"| {bits} | `{name}` | {meaning} |"
    yield ""


def _enumeration(cls: Any) -> Iterator[str]:
    """An enumeration's members and their values."""
    said = _comments(cls)
    yield from (f"### {cls.__name__}", "", _said(cls), "", "| value | name | meaning |", "|--:|---|---|")
    for member in cls:
        yield f"| {member.value} | `{member.name}` | {_plain(said[member.name])} |"
    yield ""


def _of(module: ModuleType) -> Iterator[str]:
    """Every layout that a module defines, in its order."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    for cls in own:
        if isinstance(cls, type) and issubclass(cls, enum.Enum):
            yield from _enumeration(cls)
        elif isinstance(cls, type(data.Struct)):
            yield from _layout(cls)


def program_page() -> str:
    """The page, in Markdown."""
    file = [
        "## The file\n",
        f"A program file begins with the magic `{program.MAGIC.decode()}` and version {program.VERSION}, behind them a",
        "manifest (JSON) and arrays (safetensors), all under a checksum (`hw/container.py`). The manifest holds the",
        "config and its digest, the network and a description of every LAYER; arrays under `network/` are the",
        "network's, those under `images/` what a host writes to the memories.\n",
    ]
    parts = [
        _HEAD,
        "## Instructions, descriptions, lists\n",
        *_of(isa),
        "## Selections\n",
        *_of(isa_select),
        "## The host stream\n",
        *_of(protocol),
        *file,
    ]
    return "\n".join(parts).rstrip("\n") + "\n"
