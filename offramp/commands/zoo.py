"""The command of the zoo."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from offramp.commands.common import finish, next_step
from offramp.files import paths
from offramp.files.result_file import read_json
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

__all__ = ["zoo"]


def _finished(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The files of a finished run that are read."""
    if path is not None:
        paths.reads(context, option, path, paths.RESULT, paths.COMPRESSED)
    return path


def zoo(
    *,
    add: Annotated[
        Path | None,
        typer.Option(
            help="Measure what train RECIPE left in this folder, and add it and the dense network.",
            show_default="none",
            callback=_finished,
        ),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(help="Measure this network (or all) anew, and the other one of its file.", show_default="none"),
    ] = None,
    timing: Annotated[
        bool,
        typer.Option(
            "--timing", help="With --measure: only what depends on the accelerator, on as many images as before."
        ),
    ] = False,
    method: Annotated[str, typer.Option(help="With --add: name in the table.", show_default="the recipe's")] = "",
    config: Annotated[
        str | None, typer.Option(help="To measure: accelerator whose cycles count.", show_default="the recipe's")
    ] = None,
    images: Annotated[int, options.ranged(1, options.MOST_IMAGES, "To measure: test images.")] = 10_000,
    attacked: Annotated[
        int, options.ranged(1, options.MOST_IMAGES, "To measure: test images that are attacked.")
    ] = 100,
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """List the networks of the zoo with their figures; each is usable as zoo:NAME where a program is asked for."""
    from models.zoo import PREFIX, entries, entry
    from offramp import stages
    from offramp.measure import zoo_figures as measured
    from offramp.report.tables import zoo_tables

    if add is not None and measure is not None:
        raise ValueError(f"--add {add} and --measure {measure} can't be given together")
    if timing and measure is None:
        raise ValueError("--timing must be given with --measure")
    sample = measured.Sample(images=images, attacked=attacked)
    if add is not None:
        with Terminal().stage("measure") as step:
            result = read_json(add / paths.RESULT)
            source = stages.dataset(str(result.get("data")), data_dir, step)
            path = add / paths.COMPRESSED
            measured.add(path, result, source, method=method, config=config, sample=sample, progress=step)
    if measure is not None:
        files = {known.file: known for known in (entries() if measure == "all" else [entry(measure)])}
        for known in files.values():
            with Terminal().stage(f"measure {known.name}") as step:
                source = stages.dataset(known.dataset, data_dir, step)
                chosen = None if timing else sample
                measured.measure(known.name, source, config=config, sample=chosen, progress=step)
    found = [asdict(entry) for entry in entries()]
    for part in (zoo_tables.networks(found), *zoo_tables.on_configs(found)):
        results().print(part, "")
    finish("zoo", seed, json, {"networks": found})
    next_step(f"offramp simulate {PREFIX}{found[0]['name']}")
