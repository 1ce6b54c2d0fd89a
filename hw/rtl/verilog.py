"""Verilog of a component, for simulators and synthesis of any vendor."""

from functools import lru_cache

from amaranth.back import verilog
from amaranth.lib import wiring

from hw.config import AcceleratorConfig
from hw.rtl.verilog_platform import GlobalBuffer, VerilogPlatform, ports_of

__all__ = ["TOP", "convert", "generate"]

#: Name of the top module.
TOP = "offramp"


def convert(component: wiring.Component, name: str, network: GlobalBuffer | None = None) -> str:
    """Verilog of any component; ports that are constant (``ready`` of always-ready streams) are left out.

    The component must not have been elaborated before. ``network`` is as for
    :class:`hw.rtl.verilog_platform.VerilogPlatform`.
    """
    platform = VerilogPlatform(network)
    ports = [port for _, port in ports_of(component)]
    text = verilog.convert(component, name=name, platform=platform, ports=ports, emit_src=False)
    return "\n".join([text, *platform.texts.values()])


@lru_cache(maxsize=8)
def generate(config: AcceleratorConfig) -> str:
    """Verilog of the accelerator, top module :data:`TOP`; converted once a process, which takes 5 to 20 seconds."""
    from hw.rtl.accelerator import Accelerator

    return convert(Accelerator(config), TOP)
