"""Commands that make hardware of a config: Verilog, a bitstream."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpga.boards import BAUD, LINKS
from hw.config import preset
from hw.extras import TOOLS, USB, need
from offramp.commands.common import OUT, finish, next_step, show
from offramp.commands.model_options import runnable_file, takes_model
from offramp.files import paths
from offramp.files.cache_folder import check_cache
from offramp.files.kinds import MODELS
from offramp.terminal import options
from offramp.terminal.console import Terminal

if TYPE_CHECKING:
    from fpga.flow.build import BuildReport
    from offramp.intake.request import ModelRequest

__all__ = ["CORE", "build", "generate"]

#: Files of a core, by its name.
CORE = (
    *("{name}.v", "{name}.md", "{name}.json", "{name}_lint.vlt", "{name}.sdc", "{name}.lpf"),
    *("test_{name}.py", "{name}_litex.py"),
)


def generate(
    *,
    config: options.ConfigName = "single",
    name: Annotated[
        str,
        typer.Option(
            help="Name of the top module and of the files; names of all other modules begin with it.",
            callback=options.identifier,
        ),
    ] = "offramp",
    out: Annotated[Path, options.out(*CORE)] = OUT / "core",
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Write a config as a core for any flow: Verilog with AXI4-Stream ports, protocol map, constraints, test bench."""
    from hw.output import write_file

    chosen = preset(config)
    with Terminal().stage("generate"):
        from offramp.ip_core.files import core_files

        made = core_files(chosen, name)
        for file, text in made.items():
            write_file(out / file, text.encode())
    lines = made[f"{name}.v"].count("\n")
    show(
        [
            *(("config", config), ("digest", chosen.digest()[:16]), ("top module", name)),
            *(("lines of Verilog", f"{lines:,}"), ("folder", str(out)), ("files", ", ".join(made))),
        ]
    )
    figures = {"name": name, "lines": lines, "folder": out, "files": list(made)}
    finish("generate", seed, json, {"config": config, "digest": chosen.digest(), **figures})
    next_step(f"offramp compile --config {config}", f"offramp build --config {config}")


@takes_model
def build(
    *,
    model: Annotated[
        Path | None,
        typer.Argument(
            help=f"A model whose program is written, too: {MODELS}.", show_default="none", callback=runnable_file
        ),
    ] = None,
    config: Annotated[
        str | None, options.config_name("the largest that is recorded as routed, and the model fits")
    ] = None,
    board: options.BoardName = "ulx3s-25f",
    clock: options.Clock = 50.0,
    baud: options.Baud = BAUD,
    link: Annotated[
        str,
        typer.Option(
            help=f"Link to the host: {', '.join(LINKS)}; of a board that has it.", callback=options.board_link
        ),
    ] = "serial",
    seed: options.Seed = 0,
    seeds: Annotated[
        int,
        options.ranged(1, 64, "So many seeds from --seed on are placed and routed, side by side; the fastest stays."),
    ] = 1,
    out: Annotated[Path, options.out("{board}.bit", paths.PROGRAM)] = OUT,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Synthesize, place and route a config with its link, and write OUT/BOARD.bit. The seed is the placer's.

    Without a config, the largest one is built that is recorded as routed for the board's device or a smaller one. With
    a model, its program is compiled first, for that config or the largest of those that it fits, and written to
    OUT/program.off.
    """
    need("build", (*TOOLS, *(USB if link == "usb" else ())))
    check_cache()
    options.check_baud(link, baud)
    from fpga.boards import board as board_of
    from offramp.measure.recorded import recorded_builds
    from offramp.report.tables import result_tables

    board_of(board).pins(link)
    terminal = Terminal()
    recorded = recorded_builds(board_of(board), terminal.say) if config is None else []
    asked, told = dict[str, Any](), list[tuple[str, str]]()
    if model is not None:
        with terminal.stage("compile") as step:
            from offramp import stages
            from offramp.files.program_files import reread
            from offramp.intake.model import read
            from offramp.intake.programs import program_of

            # Not for the config that a network of the zoo is measured on, which may fit no device.
            among = list(dict.fromkeys(each.config for each in recorded))
            found = read(request)
            program, config = program_of(replace(found, config=None), config, step, among=among)
            asked = {"origin": found.origin, "notes": found.notes}
            told = [("model", found.origin), *(("note", note) for note in found.notes)]
            reread(program, out / paths.PROGRAM)
    if config is None:
        if not recorded:
            raise ValueError(f"--config must name one: none is recorded as routed for {board} or a smaller device")
        config = recorded[0].config
        terminal.say(f"config {config}, the largest that is recorded as routed ({recorded[0].fmax_mhz:.1f} MHz)")
    with terminal.stage("build") as step:
        from offramp import stages

        def built(chosen: int) -> "BuildReport":
            return stages.bitstream(
                preset(config),
                board,
                out,
                clock_mhz=clock,
                baud=baud,
                link=link,
                seed=chosen,
                progress=lambda name: step(0, 0, name),
            )

        report = built(seed)
        clocks = {seed: report.fmax_mhz}
        if seeds > 1:
            from offramp.measure.seeds import clocks_of

            clocks |= clocks_of(config, board, clock, baud, range(seed + 1, seed + seeds), step, link=link)
            report = built(max(clocks, key=clocks.__getitem__))
    result = report.to_dict()
    rows = [*told, *result_tables.build_rows(result), *result_tables.seed_rows(clocks)]
    show([*rows, ("file", str(out / f"{board}.bit"))])
    tried = [{"seed": each, "fmax_mhz": fmax} for each, fmax in clocks.items()]
    sizes = {"config": config, "config_digest": preset(config).digest()}
    figures = {"model": model, **asked, **sizes, "build": result, "seeds": tried, "file": out / f"{board}.bit"}
    finish("build", seed, json, figures)
    if not report.timing_met:
        short = f"the design reaches {report.fmax_mhz} MHz, its PLL makes {clock:g} MHz"
        terminal.say(
            f"timing is not met: {short if report.link_met else 'the clock of USB is too fast'}; "
            f"build it with {'a lower --clock, or ' if report.link_met else ''}another --seed"
        )
        raise typer.Exit(1)
    next_step(f"offramp board flash {out / board}.bit --board {board}")
