"""Commands that say what a file holds."""

from pathlib import Path
from typing import Annotated

import typer

from offramp import options
from offramp.commands.common import PROGRAM, finish
from offramp.console import results

__all__ = ["disasm", "info"]


def info(
    *,
    file: Annotated[Path, typer.Argument(help="Trained or compressed network, or program, or zoo:NAME.")] = PROGRAM,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Say what is in a file."""
    from offramp import inspect
    from offramp.report.contents import contents

    result = inspect.describe(file)
    finish("info", seed, json, {"file": file, **result})
    results().print(contents(result))


def disasm(program: options.ProgramFile = PROGRAM, seed: options.Seed = 0, json: options.Json = None) -> None:
    """Print a program's instructions."""
    from hw.program.decode import disassemble
    from offramp import stages

    loaded = stages.program(program)
    text = disassemble(loaded.decoded).rstrip("\n")
    finish("disasm", seed, json, {"program": program, "lines": text.splitlines()})
    results().out(text, highlight=False)
