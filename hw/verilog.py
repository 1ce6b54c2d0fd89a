"""Verilog of a component, for simulators and synthesis of any vendor."""

from amaranth import Signal, Value
from amaranth.back import verilog
from amaranth.lib import wiring

from hw.config import AcceleratorConfig

__all__ = ["TOP", "convert", "generate"]

#: Name of the top module.
TOP = "offramp"


def convert(component: wiring.Component, name: str) -> str:
    """Verilog of any component; ports that are constant (``ready`` of always-ready streams) are left out.

    The component must not have been elaborated before.
    """
    values = (Value.cast(value) for _, _, value in component.signature.flatten(component))
    return verilog.convert(
        component,
        name=name,
        ports=[value for value in values if isinstance(value, Signal)],
        emit_src=False,
    )


def generate(config: AcceleratorConfig) -> str:
    """Verilog of the accelerator, top module :data:`TOP`."""
    from hw.accelerator import Accelerator

    return convert(Accelerator(config), TOP)
