"""Instruction set, host protocol and file format as a page, written from the layouts: it can't drift."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from hw.config import preset
from hw.program import isa, isa_select, program, protocol
from hw.program.bits import FieldEnum, Layout, Signed

__all__ = ["described", "program_page", "tables_of"]

_HEAD = """# Programs: instruction set, host protocol, file

This page is generated from `hw/program/isa.py` and `hw/program/protocol.py` (`tools/figures`); a test compares them.
Words are 32 bits unless said otherwise; a layout that is longer takes consecutive words, least significant first. Bit 0
is the lowest bit of the first word; signed fields are in two's complement. What a program may do is checked when it is
read (`hw/program/check/`).
"""

#: Whose pointers the page shows: a preset with split lists.
_SHOWN = "base-85f"


def _comments(cls: type) -> dict[str, str]:
    """What stands behind each member of a class in its source, by name; a comment may go on in the lines below."""
    lines = textwrap.dedent(inspect.getsource(cls)).splitlines()
    found: dict[str, str] = {}
    for node in ast.parse("\n".join(lines)).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.Assign | ast.AnnAssign):
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            line = node.end_lineno or node.lineno
            text = lines[line - 1].partition("#")[2].lstrip(":").strip()
            while line < len(lines) and lines[line].strip().startswith("#:"):
                text += " " + lines[line].strip()[2:].strip()
                line += 1
            found[name] = text
    return found


def _said(member: Any) -> str:
    return _plain(inspect.cleandoc(member.__dict__.get("__doc__") or ""))


def _plain(text: str) -> str:
    """Docstring references as code."""
    for role in ("class", "data", "mod", "func", "attr"):
        text = text.replace(f":{role}:`", "`")
    return text.replace("``", "`")


def described(module: ModuleType) -> list[dict[str, Any]]:
    """Every layout that a module defines, in its order: what it is, and its fields by bits or its members by value."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    found: list[dict[str, Any]] = []
    for cls in own:
        if isinstance(cls, type) and issubclass(cls, FieldEnum):
            said = _comments(cls)
            members = [{"value": each.value, "name": each.name, "meaning": _plain(said[each.name])} for each in cls]
            found.append({"name": cls.__name__, "said": _said(cls), "members": members})
        elif isinstance(cls, type) and issubclass(cls, Layout):
            found.append(_layout(cls, _said(cls)))
    return found


def _layout(cls: type[Layout], said: str) -> dict[str, Any]:
    return {"name": cls.__name__, "said": said, "fields": list(_fields(cls))}


def _fields(cls: Any) -> Iterator[dict[str, Any]]:
    said = _comments(cls)
    for name, field in cls.fields.items():
        kind = getattr(field.kind, "__name__", "")
        meaning = "; ".join(filter(None, (_plain(said[name]), f"see {kind}" if kind else "")))
        signed = isinstance(field.kind, Signed)
        yield {"low": field.offset, "bits": field.bits, "signed": signed, "name": name, "meaning": meaning}


def tables_of(module: ModuleType) -> Iterator[str]:
    """The same as Markdown, a heading and a table each."""
    for each in described(module):
        yield from _table(each)


def _table(each: dict[str, Any]) -> Iterator[str]:
    yield from (f"### {each['name']}", "", each["said"], "")
    if "members" in each:
        yield from ("| value | name | meaning |", "|--:|---|---|")
        yield from (f"| {own['value']} | `{own['name']}` | {own['meaning']} |" for own in each["members"])
    else:
        yield from ("| bits | field | meaning |", "|---|---|---|")
        for own in each["fields"]:
            low, bits = own["low"], own["bits"]
            where = f"{low + bits - 1}:{low}" if bits > 1 else str(low)
            yield f"| {where}{', signed' if own['signed'] else ''} | `{own['name']}` | {own['meaning']} |"
    yield ""


def _pointer_tables() -> Iterator[str]:
    """Words of list memories whose widths are those of a config."""
    config = preset(_SHOWN)
    for layout in (isa.pointer_layout, isa.cuts_layout):
        widths = f"Widths follow from the config's `list_words`, here {config.list_words} as in `{_SHOWN}`."
        yield from _table(_layout(layout(config), f"{_said(layout)}\n\n{widths}"))


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
        *tables_of(isa),
        *_pointer_tables(),
        "## Selections\n",
        *tables_of(isa_select),
        "## The host stream\n",
        *tables_of(protocol),
        *file,
    ]
    return "\n".join(parts).rstrip("\n") + "\n"
