"""Commands for the exits of a finished network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hw.config import preset
from offramp.commands.common import OUT, finish, next_step, show
from offramp.commands.model_options import AnyModel, image_source, takes_model
from offramp.files import paths
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

if TYPE_CHECKING:
    from offramp.intake.request import ModelRequest

__all__ = ["add"]


@takes_model
def add(
    *,
    model: AnyModel,
    after: Annotated[str, typer.Option(help="Layer whose map the exit reads (names: offramp info MODEL).")],
    data: Annotated[
        str,
        typer.Option(
            help="Labelled images: a data set, an .npz, or a folder of images by class.", callback=image_source
        ),
    ],
    config: options.ConfigName = "small-85f",
    grid: Annotated[
        int | None,
        options.ranged(1, 16, "Rows and columns the map is averaged down to.", show_default="the most that suits"),
    ] = None,
    exit_loss: Annotated[
        float, options.ranged(0, 1, "Accuracy on validation images that early exits may cost.", float)
    ] = 0.005,
    out: Annotated[Path, options.out_file("File to write.", options.network_file)] = OUT / paths.NETWORK,
    seed: options.Seed = 0,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Add an early exit to a finished network: only its branch is trained; everything else stays bit for bit."""
    from hw.network.branches import branch_index
    from hw.network.network_file import NetworkFile, save
    from offramp.files.inspect import network_of

    ours = network_of(model)
    if ours is not None:
        branch_index(ours, after)
    preset(config)
    terminal = Terminal()
    with terminal.stage("add the exit") as step:
        from offramp.intake.extension import extended
        from offramp.intake.model import read
        from offramp.intake.samples import origin_of, parts
        from offramp.report.tables import model_tables

        found = read(request)
        how: dict[str, Any] = {"seed": seed, "root": request.root, "preprocessing": request.preprocessing}
        samples = parts(data, found.network.input.shape, progress=step, **how)
        made = extended(found.network, after, samples, config, grid=grid, exit_loss=exit_loss, progress=step)
    save(out, NetworkFile(network=made.network, origin=f"{found.origin}, exit after {after}", activity=made.activity))
    results().print(model_tables.extension({"as it was": made.before, "with the exit": made.after}), "")
    origin = origin_of(samples)
    thresholds = ", ".join(f"{threshold:,}" for threshold in made.thresholds)
    notes = [("note", note) for note in found.notes]
    show([*notes, ("images of", origin), ("config", config), ("thresholds", thresholds), ("file", str(out))])
    figures = {"before": made.before, "after": made.after, "thresholds": made.thresholds}
    asked = {"model": model, "origin": found.origin, "notes": found.notes, "config": config, "images_of": origin}
    finish("exit add", seed, json, {**asked, **figures, "file": out})
    next_step(f"offramp verify {request.written(out).typed(config=config, data=data)}")
