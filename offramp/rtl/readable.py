"""Verilog for waveforms: names that people know stay, those that Amaranth made up are hidden; values have names."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Enumeration", "Readable", "readable"]

_MODULE = re.compile(r"^module (\S+?)\s*\((.*?)\);\n(.*?)^endmodule$", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(r"^  (\\?\S+)\s+(\\?\S+)\s*\($")
_ESCAPED = re.compile(r"\\(\S*\$\S*)")
_TYPE = re.compile(r'^  \(\* enum_base_type = "(\w+)" \*\)$')
_VALUE = re.compile(r'^  \(\* enum_value_([01]+) = "(\w+)" \*\)$')
_DECLARATION = re.compile(r"^  (?:input |output )?(?:wire|reg) (?:\[\d+:0\] )?(\\?\S+?)(?: +=.*)?\s*;$")


class Enumeration(NamedTuple):
    """What values of a signal stand for: the name of the type, and names by their bits."""

    name: str
    values: dict[str, str]


class Readable(NamedTuple):
    """Verilog for waveforms.

    Attributes
    ----------
    text : str
        The same machine; names that begin with an underscore are none for people, and simulators leave them out.
    enumerations : dict of str to dict of str to Enumeration
        Of each scope, from the top module on with dots between, the signals that have one.
    """

    text: str
    enumerations: dict[str, dict[str, Enumeration]]


@dataclass
class _Module:
    """A module of Verilog as Yosys writes it."""

    ports: list[str]
    body: list[str]
    #: Names of modules by those of their instances.
    instances: dict[str, str] = field(default_factory=dict)
    enumerations: dict[str, Enumeration] = field(default_factory=dict)
    #: Ports of all instances, by the names that they began with.
    copies: set[str] = field(default_factory=set)

    def renamed(self, name: str) -> str:
        """What a name becomes.

        Amaranth tells signals of one name apart by ``$`` and a number. Made up are those with nothing before it, and
        what passes through a module (``port$``). The parent's name of an instance's port says nothing new.
        """
        before, dollar, _ = name.partition("$")
        if not dollar:
            return name
        if not before or before == "port" or before in self.copies:
            return f"_{name}"
        return name.replace("$", "_")

    def sub(self, text: str) -> str:
        """A piece of this module's text, renamed."""
        return _ESCAPED.sub(lambda found: "\\" + self.renamed(found[1]), text)


def readable(verilog: str, states: Mapping[str, Mapping[str, Mapping[int, str]]], top: str) -> Readable:
    """Make Verilog readable in waveforms.

    Parameters
    ----------
    verilog : str
        As Yosys writes it for Amaranth.
    states : mapping
        Of each module, by the names of their signals, the names of the states of its state machines.
    top : str
        Name of the top module.
    """
    modules = {
        _plain(found[1]): _Module([_plain(port) for port in found[2].split(",")], found[3].splitlines())
        for found in _MODULE.finditer(verilog)
    }
    for module in modules.values():
        pairs = [found.groups() for line in module.body if (found := _INSTANCE.match(line))]
        module.instances = {_plain(instance).replace("$", "_"): _plain(kind) for kind, instance in pairs}
        module.copies = {port.split("$")[0] for kind in module.instances.values() for port in modules[kind].ports}

    def body(found: re.Match[str]) -> str:
        module = modules[_plain(found[1])]
        lines = "\n".join(_body(module, modules))
        return f"module {found[1]} ({module.sub(found[2])});\n{lines}\nendmodule"

    text = _MODULE.sub(body, verilog)
    for name, module in modules.items():
        for wire, names in states.get(name, {}).items():
            width = max(names).bit_length()
            values = {f"{number:0{width}b}": state.replace(" ", "_") for number, state in names.items()}
            signal = module.renamed(wire)
            module.enumerations[signal] = Enumeration(signal, values)
    return Readable(text, dict(_scopes(top, top, modules)))


def _plain(name: str) -> str:
    """A name without what Verilog needs around it."""
    return name.strip().removeprefix("\\")


def _body(module: _Module, modules: Mapping[str, _Module]) -> Iterator[str]:
    """The lines of a module renamed, and on the way what enumerations they declare."""
    inside: _Module | None = None  # the module of the instance that the line belongs to
    kind, values = "", dict[str, str]()
    for line in module.body:
        if found := _INSTANCE.match(line):
            inside = modules[_plain(found[1])]
            yield f"  {found[1]} {found[2].replace('$', '_')} ("
            continue
        if inside is not None and line.startswith("    ."):
            port, signal = line.split("(", 1)
            yield f"{inside.sub(port)}({module.sub(signal)}"
            continue
        inside = None
        if found := _TYPE.match(line):
            kind = found[1]
        elif found := _VALUE.match(line):
            values[found[1]] = found[2]
        elif found := _DECLARATION.match(line):
            if values:
                module.enumerations[module.renamed(_plain(found[1]))] = Enumeration(kind.lstrip("_"), values)
            values = {}
        yield module.sub(line)


def _scopes(path: str, name: str, modules: Mapping[str, _Module]) -> Iterator[tuple[str, dict[str, Enumeration]]]:
    """Every scope of a module and of all within it, with its enumerations."""
    module = modules[name]
    if module.enumerations:
        yield path, module.enumerations
    for instance, kind in module.instances.items():
        yield from _scopes(f"{path}.{instance}", kind, modules)
