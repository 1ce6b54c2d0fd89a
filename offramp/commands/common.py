"""What every command ends with: rows on the terminal, a JSON file if asked for."""

from json import dumps
from pathlib import Path
from typing import Any

from hw.config import PRESETS, AcceleratorConfig
from hw.output import write_file
from offramp.files import paths
from offramp.files.result_file import provenance, write_json
from offramp.terminal.console import Terminal, results

__all__ = ["OUT", "PROGRAM", "config_option", "finish", "next_step", "show", "write_trace"]

#: Where commands write, and which program they take, unless told otherwise.
OUT = Path("out")
PROGRAM = OUT / paths.PROGRAM


def finish(command: str, seed: int, json: Path | None, result: dict[str, Any]) -> None:
    """Write the JSON file, if asked for."""
    if json is not None:
        write_json(json, {**provenance(command, seed), **result})


def next_step(*commands: str) -> None:
    """Name what one does next, on standard error; a command's last line."""
    Terminal().say(f"next: {', or '.join(commands)}")


def config_option(config: AcceleratorConfig) -> str:
    """The option that names a config: the preset that it has most sizes of, and the sizes that it hasn't of it."""
    from hw.compiler.fitting import changes

    named = [[name, *changes(known, config)] for name, known in PRESETS.items()]
    fewest = min(named, key=len)
    return f"--config {','.join(fewest)}"


def show(rows: list[tuple[str, str]]) -> None:
    """Print rows of a name and a value."""
    from offramp.report.tables.result_tables import key_values

    results().print(key_values(rows))


def write_trace(file: Path, events: dict[str, Any]) -> None:
    """Write a trace (:mod:`offramp.report.trace`), and say so."""
    write_file(file, dumps(events).encode())
    show([("trace", str(file))])
