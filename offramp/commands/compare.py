"""The command that says what is different."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from offramp.commands.common import finish, next_step
from offramp.commands.model_options import image_source, runnable_file
from offramp.files import paths
from offramp.files.kinds import MODELS, check_result
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

__all__ = ["diff"]

_WHAT = f"A result (.json), a config, or a model: {MODELS}."


def _compared(context: typer.Context, option: typer.CallbackParam, what: str) -> str:
    """The file of a model or a result is read; refuse a model that can't be, and an empty name."""
    if not what:
        raise ValueError(f"{option.metavar} must name a result, a config or a model, not ''")
    from offramp.difference import MODEL, RESULT, sort_of

    sort = sort_of(what)
    if sort == MODEL:
        runnable_file(context, option, Path(what))
    elif sort == RESULT:
        check_result(Path(what))
        paths.reads(context, option, Path(what))
    return what


def diff(
    *,
    first: Annotated[str, typer.Argument(metavar="A", help=_WHAT, callback=_compared)],
    second: Annotated[str, typer.Argument(metavar="B", help="The same, to compare it with.", callback=_compared)],
    config: Annotated[
        str | None,
        typer.Option(
            help="Of models: config they are compiled for.", show_default="their own", callback=options.checked_config
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Of models: images they are measured on.", show_default="their own data set's", callback=image_source
        ),
    ] = None,
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Say what is different between two results, configs or models: accuracy, cycles, memories, by layer."""
    from offramp.difference import MODEL, changes, described, sort_of_both

    sort = sort_of_both(first, second)
    for option, value in (("--config", config), ("--data", data)):
        if value is not None and sort != MODEL:
            raise ValueError(f"{option} is of models: {first} is {sort}")
    with Terminal().stage("compare") as step:
        found = changes(*(described(what, config, data, data_dir, seed, step) for what in (first, second)))
    from offramp.report.tables.difference_tables import difference_tables

    for number, part in enumerate(difference_tables(first, second, found) or ["nothing is different"]):
        results().print(*[""] * (number > 0), part)
    finish("diff", seed, json, {"first": first, "second": second, "changes": list(map(asdict, found))})
    next_step(_next(sort, second))


def _next(sort: str, second: str) -> str:
    """What one does with the second of what was compared."""
    from offramp.difference import CONFIG, RESULT
    from offramp.files.kinds import NEXT, kind_of

    if sort == RESULT:
        return f"offramp report {second}"
    if sort == CONFIG:
        return f"offramp compile MODEL --config {second}"
    return f"{NEXT[kind_of(Path(second))]} {second}"
