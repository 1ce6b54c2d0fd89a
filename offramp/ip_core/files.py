"""The files of an IP core: Verilog with AXI4-Stream ports, and what belongs to it in others' flows."""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from string import Template

from amaranth.lib.wiring import In

from hw.config import AcceleratorConfig
from hw.program import protocol
from hw.program.protocol import PROTOCOL_VERSION, Memory, memory_depths
from hw.rtl.axi_stream import AxiStream, axi_ports
from hw.rtl.verilog import generate_axi
from offramp.report.documents.layouts import described, tables_of

__all__ = ["core_files", "ports"]

#: Clock that sample constraints ask for, MHz.
_CLOCK_MHZ = 50.0
#: Templates, and what the files made of them are called.
_TEMPLATES = {
    "lint.vlt.in": "{name}_lint.vlt",
    "timing.sdc.in": "{name}.sdc",
    "pins.lpf.in": "{name}.lpf",
    "bench.py.in": "test_{name}.py",
    "litex.py.in": "{name}_litex.py",
}


def core_files(config: AcceleratorConfig, name: str) -> dict[str, str]:
    """All files of the core, by their names.

    Parameters
    ----------
    name : str
        Of the top module; files are called by it, and all other modules' names begin with it.

    Raises
    ------
    ValueError
        When the name is no identifier of Verilog, or that of a port.
    """
    text = _header(config, name) + generate_axi(config, name)
    values = {
        "name": name,
        "mhz": f"{_CLOCK_MHZ:g}",
        "period": f"{1000 / _CLOCK_MHZ:g}",
        "beat": 32 * config.loader,
    }
    made = {target.format(name=name): _template(source).substitute(values) for source, target in _TEMPLATES.items()}
    return {
        f"{name}.v": text,
        f"{name}.md": _page(config, name),
        f"{name}.json": json.dumps(_map(config, name), indent=1) + "\n",
        **made,
    }


def _template(name: str) -> Template:
    return Template((files(__package__) / "templates" / name).read_text(encoding="utf-8"))


def ports(config: AcceleratorConfig) -> list[dict[str, str | int]]:
    """Name, direction and bits of every port of the core."""
    return [
        {"name": name, "direction": "in" if member.flow == In else "out", "bits": member.shape}
        for name, member in axi_ports(32 * config.loader).items()
    ]


def _said(config: AcceleratorConfig) -> list[str]:
    """Lines on ports and timing: those of the component's documentation that are of this config."""
    text = inspect.cleandoc(AxiStream.__doc__ or "").partition("Members\n-------\n")[2].replace("``", "")
    text = text.replace(":class:`hw.program.isa.Burst`", "Burst").replace("beat_bits", str(32 * config.loader))
    parts = re.split(r"\n(?=\S)", text)  # a part begins with the ports that it describes, if it does
    there = axi_ports(32 * config.loader)
    kept = [part for part in parts if not (port := re.match(r"(\w+) : ", part)) or port[1] in there]
    return "\n".join(kept).splitlines()


def _header(config: AcceleratorConfig, name: str) -> str:
    sizes = ", ".join(f"{key}={value}" for key, value in asdict(config).items())
    lines = [
        f"{name}: Offramp, a sparse int8 accelerator; version {version('offramp')}, protocol {PROTOCOL_VERSION}",
        "",
        f"Config {config.digest()[:16]}: {sizes}",
        "",
        "Verilog-2005, not SystemVerilog: initial values start combinational blocks (Icarus: -g2005).",
        "",
        "Ports, all synchronous to aclk:",
        "",
        *_said(config),
        "",
        f"What the words of the streams mean: {name}.md and {name}.json.",
    ]
    return "".join(f"// {line}".rstrip() + "\n" for line in lines) + "\n"


def _map(config: AcceleratorConfig, name: str) -> dict[str, object]:
    """Ports, memories and layouts of the streams, for scripts."""
    depths = memory_depths(config)
    return {
        "name": name,
        "version": version("offramp"),
        "protocol": PROTOCOL_VERSION,
        "config": asdict(config),
        "digest": config.digest(),
        "ports": ports(config),
        "memories": [{"number": memory, "words": words} for memory, words in sorted(depths.items())],
        "layouts": described(protocol),
    }


def _page(config: AcceleratorConfig, name: str) -> str:
    return "\n".join(_lines(config, name)).rstrip() + "\n"


def _lines(config: AcceleratorConfig, name: str) -> Iterator[str]:
    yield from (f"# {name}", "", f"Ports and protocol of the core, config {config.digest()[:16]}.", "", "## Ports", "")
    yield from ("| port | direction | bits |", "|---|---|--:|")
    yield from (f"| `{each['name']}` | {each['direction']} | {each['bits']} |" for each in ports(config))
    yield from ("", "```text", *_said(config), "```", "", "## Memories", "")
    yield from ("| number | name | words |", "|--:|---|--:|")
    for memory, words in sorted(memory_depths(config).items()):
        pe = memory - Memory.LISTS.value
        yield f"| {memory} | {Memory(memory).name if pe < 0 else f'LISTS of PE {pe}'} | {words} |"
    yield from ("", "## The streams", "", inspect.cleandoc(protocol.__doc__ or "").replace(":mod:", ""), "")
    yield from tables_of(protocol)
