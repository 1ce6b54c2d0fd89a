"""The command that does everything: the demo."""

from pathlib import Path
from typing import Annotated

import typer

from fpga.boards import BAUD
from hw.extras import RTL, TOOLS, need
from offramp.commands.common import OUT, next_step
from offramp.files import paths
from offramp.files.cache_folder import check_cache
from offramp.files.result_file import write_json
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

__all__ = ["demo"]


def _network_of_the_zoo(name: str | None) -> str | None:
    """Refuse a network that isn't in the zoo."""
    if name is not None:
        from models.zoo import entry

        entry(name)
    return name


def demo(
    *,
    data: options.Data = "digits",
    data_dir: options.DataFolder = None,
    config: options.ConfigName = "single",
    board: options.BoardName = "ulx3s-25f",
    clock: options.Clock = 50.0,
    baud: options.Baud = BAUD,
    model: Annotated[
        str | None,
        typer.Option(
            help="zoo:NAME instead of training and compressing.", show_default="none", callback=_network_of_the_zoo
        ),
    ] = None,
    images: Annotated[int, options.ranged(1, options.MOST_IMAGES, "Images that the RTL runs.")] = 16,
    attacked: Annotated[
        int,
        options.ranged(1, options.MOST_IMAGES, "Most test images to attack; clean, all are simulated."),
    ] = 1000,
    no_bitstream: Annotated[
        bool,
        typer.Option(
            "--no-bitstream", help="Don't build the bitstream: no clock, cells or images/s of a board are known."
        ),
    ] = False,
    seed: options.Seed = 0,
    out: Annotated[
        Path,
        options.out(
            *(
                paths.TRAINED,
                paths.COMPRESSED,
                paths.PROGRAM,
                paths.UNPRUNED,
                paths.REPORT,
                *paths.BUILT,
            ),
            *("{board}.bit", f"{paths.PROGRESS}/*"),
        ),
    ] = OUT,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Result file; - is standard output.",
            show_default="OUT/demo.json",
            callback=options.output_file,
        ),
    ] = None,
) -> None:
    """The main job: train, compress, compile, compare with RTL, build the bitstream; table, JSON file and report."""
    need("demo", RTL)
    check_cache()
    bitstream = not no_bitstream
    if bitstream:
        need("demo without --no-bitstream", TOOLS)
    terminal = Terminal()
    with terminal.stage("prepare"):
        from offramp.demo import Settings, run
        from offramp.report.html import write
        from offramp.report.pages.demo_page import demo_page
        from offramp.report.tables.demo_tables import summary

    settings = Settings(
        data=data, root=data_dir, config=config, board=board, clock_mhz=clock, baud=baud, seed=seed,
        out=out, images=images, attacked=attacked, model=model, bitstream=bitstream,
    )  # fmt: skip
    result = run(settings, terminal)
    with terminal.stage("8/8 table, JSON file, report"):
        write_json(json or out / "demo.json", result)
        write(out / paths.REPORT, demo_page(result))
    results().print(summary(result))
    made = f", bitstream {out / board}.bit" if bitstream else ""
    terminal.say(f"result {json or out / 'demo.json'}, report {out / paths.REPORT}{made}")
    verified, built = result["verify"], result["build"]
    met = built is None or built["timing_met"]
    if not (verified["values_equal"] and verified["cycles_equal"] and met):
        raise typer.Exit(1)
    further = (
        f"offramp board flash {out / board}.bit --board {board}"
        if bitstream
        else f"offramp build --config {config} --board {board}"
    )
    next_step(f"open {out / paths.REPORT}", further)
