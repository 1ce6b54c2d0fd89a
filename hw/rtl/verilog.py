"""Verilog of a component, for simulators and synthesis of any vendor."""

from functools import lru_cache

from amaranth.lib import wiring

from hw.config import AcceleratorConfig
from hw.rtl.verilog_platform import GlobalBuffer, VerilogPlatform

__all__ = ["TOP", "convert", "generate", "states"]

#: Name of the top module.
TOP = "offramp"


def convert(component: wiring.Component, name: str, network: GlobalBuffer | None = None) -> str:
    """Verilog of any component; ports that are constant (``ready`` of always-ready streams) are left out.

    The component must not have been elaborated before. ``network`` is as for
    :class:`hw.rtl.verilog_platform.VerilogPlatform`.
    """
    return _convert(component, name, VerilogPlatform(network))


def _convert(component: wiring.Component, name: str, platform: VerilogPlatform) -> str:
    text = platform.convert(component, name)
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


def states(config: AcceleratorConfig) -> dict[str, dict[str, dict[int, str]]]:
    """Names of the states of state machines, as :class:`hw.rtl.verilog_platform.VerilogPlatform` collects them."""
    return _generated(config)[1]
