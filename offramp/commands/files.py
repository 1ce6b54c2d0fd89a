"""Commands that say what a file holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offramp.commands.common import PROGRAM, finish, next_step
from offramp.commands.model_options import ProgramFile, model_file, takes_model
from offramp.files.kinds import MODELS
from offramp.terminal import options
from offramp.terminal.console import folded, results

if TYPE_CHECKING:
    from offramp.intake.request import ModelRequest

__all__ = ["clean", "disasm", "info"]


@takes_model
def info(
    *,
    model: Annotated[Path, typer.Argument(help=f"Model or trained network: {MODELS}.", callback=model_file)] = PROGRAM,
    bound: Annotated[
        bool, typer.Option("--bound", help="Also the most cycles that any image can take, of a program.")
    ] = False,
    seed: options.Seed = 0,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Say what a model is: layers, sizes, exits, memories."""
    from offramp import cache
    from offramp.files import inspect
    from offramp.files.kinds import NEXT, OUTSIDE, kind_of
    from offramp.report.tables.contents import contents
    from offramp.report.tables.result_tables import key_values
    from offramp.report.tables.units import count, storage

    notes: tuple[str, ...] = ()
    if kind_of(model) == OUTSIDE:
        from offramp.intake.model import read

        found = read(request)
        notes = found.notes
        described = {"origin": found.origin, "notes": notes, "network": inspect.network_dict(found.network)}
        result: dict[str, Any] = {"kind": OUTSIDE, **described}
    else:
        result = inspect.describe(model, bound=bound)
    result |= {"cache": cache.described()}
    finish("info", seed, json, {"file": model, **result})
    kept = result["cache"]
    removed = " (offramp clean removes it)" if kept["bytes"] else ""
    rows = [("cache", f"{kept['place']}: {count(kept['entries'])} entries, {storage(kept['bytes'])}{removed}")]
    results().print(contents(result), "", key_values([*(("note", note) for note in notes), *rows]))
    next_step(f"{NEXT[result['kind']]} {request.typed()}")


def disasm(program: ProgramFile = PROGRAM, seed: options.Seed = 0, json: options.Json = None) -> None:
    """Print a program's instructions."""
    from hw.program.decode import disassemble, listing
    from offramp.files.program_files import program as load

    loaded = load(program)
    layers = [command.name for command in loaded.commands]
    text = disassemble(loaded.decoded, layers).rstrip("\n")
    finish("disasm", seed, json, {"program": program, "lines": text.splitlines(), **listing(loaded.decoded, layers)})
    results().out(folded(text, results().width), highlight=False)
    next_step(f"offramp simulate {program}")


def clean(seed: options.Seed = 0, json: options.Json = None) -> None:
    """Remove what is kept between commands: builds of simulators and bitstreams, kept runs, the zoo's programs.

    Don't, while another command runs the RTL. Nothing of it is lost: it is made again when it is needed.
    """
    from offramp import cache
    from offramp.report.tables.result_tables import removals

    removed, left = cache.clean()
    result = cache.described(removed) | {"left": [str(found.path) for found in left]}
    results().print(removals(result))
    finish("clean", seed, json, result)
    next_step("offramp verify, which builds the simulator anew")
