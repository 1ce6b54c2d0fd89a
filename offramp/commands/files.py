"""Commands that say what a file holds."""

from pathlib import Path
from typing import Annotated

import typer

from offramp import options
from offramp.commands.common import PROGRAM, finish, next_step
from offramp.console import results

__all__ = ["clean", "disasm", "info"]


def info(
    *,
    file: Annotated[Path, typer.Argument(help="Trained or compressed network, or program, or zoo:NAME.")] = PROGRAM,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Say what is in a file."""
    from offramp import cache, inspect
    from offramp.kinds import NEXT
    from offramp.report.contents import contents
    from offramp.report.tables import key_values
    from offramp.report.units import count, storage

    result = inspect.describe(file) | {"cache": cache.described()}
    finish("info", seed, json, {"file": file, **result})
    kept = result["cache"]
    rows = [("cache", f"{kept['place']}: {count(kept['entries'])} entries, {storage(kept['bytes'])}")]
    results().print(contents(result), "", key_values(rows))
    next_step(f"{NEXT[result['kind']]} {file}", *["offramp clean"] * (kept["bytes"] > 0))


def disasm(program: options.ProgramFile = PROGRAM, seed: options.Seed = 0, json: options.Json = None) -> None:
    """Print a program's instructions."""
    from hw.program.decode import disassemble, listing
    from offramp import stages

    loaded = stages.program(program)
    text = disassemble(loaded.decoded).rstrip("\n")
    finish("disasm", seed, json, {"program": program, "lines": text.splitlines(), **listing(loaded.decoded)})
    results().out(text, highlight=False)
    next_step(f"offramp simulate {program}")


def clean(seed: options.Seed = 0, json: options.Json = None) -> None:
    """Remove what is kept between commands: builds of simulators and bitstreams, kept runs, the zoo's programs.

    Don't, while another command runs the RTL. Nothing of it is lost: it is made again when it is needed.
    """
    from offramp import cache
    from offramp.report.tables import removals

    removed, left = cache.clean()
    result = cache.described(removed) | {"left": [str(found.path) for found in left]}
    results().print(removals(result))
    finish("clean", seed, json, result)
    next_step("offramp verify, which builds the simulator anew")
