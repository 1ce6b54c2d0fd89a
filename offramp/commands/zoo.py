"""The command of the zoo."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from offramp.commands import model_options
from offramp.commands.common import finish, next_step
from offramp.files import paths
from offramp.files.result_file import read_json
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

__all__ = ["zoo"]


def _finished(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The files of a finished run are read; refuse a folder without them."""
    if path is not None:
        for name in (paths.RESULT, paths.COMPRESSED):
            model_options.check_readable(path / name)
        paths.reads(context, option, path, paths.RESULT, paths.COMPRESSED)
    return path


def _measured(name: str | None) -> str | None:
    """Refuse a network that isn't in the zoo."""
    if name not in (None, "all"):
        from models.zoo import entry

        entry(name)
    return name


def _check_together(given: dict[str, Any]) -> None:
    """Refuse options that contradict each other, or would do nothing; None where one isn't given."""
    named = {option for option, value in given.items() if value is not None}
    if {"--add", "--measure"} <= named:
        raise ValueError(f"--add {given['--add']} and --measure {given['--measure']} can't be given together")
    own = {"--timing": ["--measure"], "--method": ["--add"]}
    for option in [each for each in given if each in named]:
        needed = own.get(option, ["--add", "--measure"])
        if named.isdisjoint(needed):
            raise ValueError(f"{option} must be given with {' or '.join(needed)}")
        if "--timing" in named and option in ("--images", "--attacked"):
            raise ValueError(f"{option} must be given without --timing, which takes as many images as before")


def _measure(
    add: Path | None,
    measure: str | None,
    images: tuple[int | None, int | None] | None,
    method: str,
    config: str | None,
    root: Path | None,
) -> None:
    """Measure what is to be added, or networks anew; without ``images`` only what depends on the accelerator."""
    from models.zoo import entries, entry
    from offramp import stages
    from offramp.measure import zoo_figures as measured

    most, attacked = images or (None, None)
    default = measured.DEFAULT
    sample = measured.Sample(images=most or default.images, attacked=attacked or default.attacked)
    if add is not None:
        with Terminal().stage("measure") as step:
            result = read_json(add / paths.RESULT)
            source = stages.dataset(str(result.get("data")), root, step)
            path = add / paths.COMPRESSED
            measured.add(path, result, source, method=method, config=config, sample=sample, progress=step)
        return
    files = {known.file: known for known in (entries() if measure == "all" else [entry(str(measure))])}
    for known in files.values():
        with Terminal().stage(f"measure {known.name}") as step:
            source = stages.dataset(known.dataset, root, step)
            chosen = None if images is None else sample
            measured.measure(known.name, source, config=config, sample=chosen, progress=step)


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
        typer.Option(
            help="Measure this network (or all) anew, and the other one of its file.",
            show_default="none",
            callback=_measured,
        ),
    ] = None,
    timing: Annotated[
        bool,
        typer.Option(
            "--timing", help="With --measure: only what depends on the accelerator, on as many images as before."
        ),
    ] = False,
    method: Annotated[str, typer.Option(help="With --add: name in the table.", show_default="the recipe's")] = "",
    config: Annotated[
        str | None,
        typer.Option(
            help="With --add or --measure: accelerator whose cycles count.",
            show_default="the recipe's",
            callback=options.checked_config,
        ),
    ] = None,
    images: Annotated[
        int | None,
        options.ranged(1, options.MOST_IMAGES, "With --add or --measure: test images.", show_default="10000"),
    ] = None,
    attacked: Annotated[
        int | None,
        options.ranged(
            1, options.MOST_IMAGES, "With --add or --measure: test images that are attacked.", show_default="100"
        ),
    ] = None,
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """List the networks of the zoo with their figures; each is usable as zoo:NAME where a program is asked for."""
    from models.zoo import PREFIX, entries
    from offramp.report.tables import zoo_tables

    _check_together(
        {"--add": add, "--measure": measure, "--timing": timing or None, "--method": method or None}
        | {"--config": config, "--images": images, "--attacked": attacked}
    )
    if add is not None or measure is not None:
        _measure(add, measure, None if timing else (images, attacked), method, config, data_dir)
    found = [asdict(entry) for entry in entries()]
    for part in (zoo_tables.networks(found), *zoo_tables.on_configs(found)):
        results().print(part, *[""] * (not isinstance(part, str)))  # no line between a heading and its table
    finish("zoo", seed, json, {"networks": found})
    next_step(f"offramp simulate {PREFIX}{found[0]['name']}")
