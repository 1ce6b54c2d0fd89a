"""The command that says what is different."""

from typing import Annotated

import typer

from offramp import options
from offramp.commands.common import finish, next_step
from offramp.commands.model_options import KINDS
from offramp.console import Terminal, results

__all__ = ["diff"]

_WHAT = f"A result (.json), a config, or a model: {KINDS}."


def diff(
    *,
    first: Annotated[str, typer.Argument(metavar="A", help=_WHAT)],
    second: Annotated[str, typer.Argument(metavar="B", help="The same, to compare it with.")],
    config: Annotated[
        str | None, typer.Option(help="Of models: config they are compiled for.", show_default="their own")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Of models: images they are measured on.", show_default="their own data set's")
    ] = None,
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Say what is different between two results, configs or models: accuracy, cycles, memories, by layer."""
    from offramp.difference import changes, described
    from offramp.report.tables import differences

    with Terminal().stage("compare"):
        found = changes(*(described(what, config, data, data_dir, seed) for what in (first, second)))
    results().print(differences(first, second, found) if found else "nothing is different")
    listed = [{"what": name, "first": one, "second": other} for name, one, other in found]
    finish("diff", seed, json, {"first": first, "second": second, "changes": listed})
    next_step(f"offramp info {first}" if not first.endswith(".json") else f"offramp diff {second} {first}")
