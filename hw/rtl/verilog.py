"""Verilog of a component, for simulators and synthesis of any vendor."""

import re
from collections.abc import Sequence
from functools import lru_cache

from amaranth.hdl import IOPort
from amaranth.lib import wiring

from hw.config import AcceleratorConfig
from hw.rtl.axi_stream import AxiStream, axi_ports
from hw.rtl.verilog_platform import GlobalBuffer, VerilogPlatform
from hw.rules import check_identifier, require

__all__ = ["TOP", "convert", "generate", "generate_axi", "states"]

#: Name of the top module.
TOP = "offramp"

#: A line of Yosys' Verilog that begins a module or an instance of one: what stands before the module's name, and it.
_MODULE = re.compile(r"^(module |  )(\\\S+ |\w+)(?=\(| +(?:\\\S+ |\w+) +\($)", flags=re.MULTILINE)


def convert(
    component: wiring.Component, name: str, network: GlobalBuffer | None = None, pads: Sequence[IOPort] = ()
) -> str:
    """Verilog of any component; ports that are constant (``ready`` of always-ready streams) are left out.

    The component must not have been elaborated before. ``network`` is as for
    :class:`hw.rtl.verilog_platform.VerilogPlatform`; ``pads`` are ports besides those of the component's signature.
    """
    return _convert(component, name, VerilogPlatform(network), pads)


def _convert(component: wiring.Component, name: str, platform: VerilogPlatform, pads: Sequence[IOPort] = ()) -> str:
    text = platform.convert(component, name, pads)
    return "\n".join([text, *platform.texts.values()])


@lru_cache(maxsize=8)
def _generated(config: AcceleratorConfig) -> tuple[str, dict[str, dict[str, dict[int, str]]]]:
    """Verilog of the accelerator and the names of its states; made once a process, which takes 5 to 20 seconds."""
    from hw.rtl.accelerator import Accelerator

    platform = VerilogPlatform()
    return _convert(Accelerator(config), TOP, platform), platform.states


def generate(config: AcceleratorConfig) -> str:
    """Verilog of the accelerator, top module :data:`TOP`; converted once a process, which takes 5 to 20 seconds."""
    return _generated(config)[0]


@lru_cache(maxsize=8)
def generate_axi(config: AcceleratorConfig, name: str) -> str:
    """Verilog of the accelerator behind AXI4-Stream ports (:class:`hw.rtl.axi_stream.AxiStream`), for others' designs.

    Converted once a process, as by :func:`generate`.

    Parameters
    ----------
    name : str
        Of the top module; those of all other modules begin with it and ``_``, and are plain identifiers.

    Raises
    ------
    ValueError
        When the name is no identifier of Verilog, or that of a port.
    """
    from hw.rtl.accelerator import Accelerator

    check_identifier(name)
    taken = axi_ports(32 * config.loader)
    require(name not in taken, f"name must not be that of a port ({', '.join(taken)}), not {name}")
    return _prefixed(convert(AxiStream(Accelerator(config), 32 * config.loader), TOP), name)


def _prefixed(text: str, name: str) -> str:
    """Verilog whose top module is called ``name``, and whose other modules have names that begin with it and ``_``."""
    found = [match[2] for match in _MODULE.finditer(text) if match[1] == "module "]
    plain = {each: re.sub(r"\W", "_", each.strip().removeprefix("\\").removeprefix(f"{TOP}.")) for each in found}
    names = {each: name if each == TOP else f"{name}_{short}" for each, short in plain.items()}
    assert len(set(names.values())) == len(found)
    return _MODULE.sub(lambda match: match[1] + names.get(match[2], match[2]), text)


def states(config: AcceleratorConfig) -> dict[str, dict[str, dict[int, str]]]:
    """Names of the states of state machines, as :class:`hw.rtl.verilog_platform.VerilogPlatform` collects them."""
    return _generated(config)[1]
