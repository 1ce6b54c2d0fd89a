"""Offramp: sparse, int8, early-exiting networks on an open accelerator. Functions for scripts: :mod:`offramp.api`."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offramp.api import build, compile, load, quantize, simulate, verify

    __version__: str

__all__ = ["__version__", "build", "compile", "load", "quantize", "simulate", "verify"]

_HOME = Path(__file__).resolve().parents[1]
_ROOMS = ("hw", "sim", "models", "fpga")


def _check_rooms() -> None:
    """Refuse packages of others that have the names of ours and come first.

    Raises
    ------
    ImportError
        The message names the folders.
    """
    for name in _ROOMS:
        found = find_spec(name)
        folders = [] if found is None else [Path(each).resolve() for each in found.submodule_search_locations or ()]
        if _HOME / name not in folders[:1]:
            first = folders[0] if folders else "no folder" if found is None else found.origin
            raise ImportError(
                f"offramp needs its own package {name!r} in {_HOME}, but Python finds {first} first: rename that, or "
                f"start Python in another folder"
            )


try:
    _check_rooms()
except ImportError as error:
    if sys.orig_argv[1:3] != ["-m", "offramp"]:
        raise
    # A command's mistakes are told in one sentence.
    print(f"offramp: {error}", file=sys.stderr)
    raise SystemExit(2) from None


def __getattr__(name: str) -> Any:
    """Functions of :mod:`offramp.api`, which imports PyTorch; only when they are used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("offramp")
    if name in __all__:
        return getattr(import_module("offramp.api"), name)
    raise AttributeError(f"module 'offramp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
