"""Commands for boards: load a bitstream, run programs, measure, test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fpga.boards import BAUD, CLOCKS_MHZ
from hw.extras import RTL, SERIAL, need
from offramp.commands.common import PROGRAM, finish, next_step, show, write_trace
from offramp.commands.model_options import AnyConfig, AnyData, AnyModel, takes_model
from offramp.files import paths
from offramp.files.kinds import check_bitstream
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

if TYPE_CHECKING:
    from hw.config import AcceleratorConfig
    from hw.program.program import Program
    from models.datasets.sources import Progress
    from offramp.intake.model import Model
    from offramp.intake.request import ModelRequest
    from offramp.intake.samples import Samples
    from offramp.measure.on_board import AttachedBoard

__all__ = ["bench", "flash", "run", "selftest"]

#: What a self-test runs: a network whose images need no download.
_TESTED, _SIMULATED_CONFIG = "zoo:digits", "tiny"
#: Clock of a bitstream, MHz, unless told otherwise.
_CLOCK_MHZ = 50.0
#: Images that a simulated board computes in a minute.
_SIMULATED_IMAGES = 20

_PortName = Annotated[
    str | None,
    typer.Option(
        "--port", help="Serial port of the board, as /dev/ttyUSB0, or pyserial's name of one.", show_default="none"
    ),
]
_Simulated = Annotated[
    bool, typer.Option("--simulated", help="A simulated board instead: the RTL on Verilator, with its serial line.")
]
_Clock = Annotated[float, options.ranged(*CLOCKS_MHZ, "Clock of the bitstream, MHz.", float)]
_Noise = Annotated[
    float,
    options.ranged(
        0, 0.01, "Share of bytes on the line that are changed or lost, or become a break, by the seed.", float
    ),
]


def _bitstream(context: typer.Context, option: typer.CallbackParam, path: Path) -> Path:
    """Refuse a bitstream that can't be read, or is a file of another kind."""
    check_bitstream(path)
    paths.reads(context, option, path)
    return path


@contextmanager
def _attached(
    port: str | None,
    simulated: bool,
    config: "AcceleratorConfig",
    clock: float,
    baud: int,
    link: str,
    step: "Progress | None" = None,
) -> "Iterator[AttachedBoard]":
    """The board that is asked for."""
    from offramp.measure import on_board

    if simulated:
        with on_board.simulated(config, step) as board:
            yield board
    else:
        assert port is not None
        yield on_board.real(port, clock, baud, link)


def _check_place(port: str | None, simulated: bool, clock: float, baud: int, link: str) -> None:
    """Refuse no board, two, one that can't be spoken to, and what can't be chosen of one."""
    if port is None and not simulated:
        raise ValueError("a board must be named, either by --port or by --simulated")
    if port is not None and simulated:
        raise ValueError(f"one board must be named, not two: leave out --simulated, or --port {port}")
    own = _place(None, clock, baud, link)
    if simulated and any(own.values()):
        given = ", ".join(f"--{name} {value}" for name, value in own.items() if value is not None)
        raise ValueError(f"a simulated board has a clock and a link of its own: leave out {given}")
    options.check_baud(link, baud)
    if port is not None and port.startswith("/") and not Path(port).exists():
        raise ValueError(f"--port must name a port that is there, not {port}: plug the board in, or name another")
    need("a board", SERIAL)
    if simulated:
        need("a simulated board", RTL)


def _place(port: str | None, clock: float, baud: int, link: str) -> dict[str, str | None]:
    """The options that name the same board to another command; None where the default does."""
    return {
        "port": port,
        "clock": None if clock == _CLOCK_MHZ else f"{clock:g}",
        "baud": None if baud == BAUD else str(baud),
        "link": None if link == "serial" else link,
    }


def _compiled(
    terminal: Terminal, request: "ModelRequest", config: str | None, data: str | None, images: int
) -> "tuple[Model, Samples, Program, str]":
    """A model, its images, its program, and the name of the config that this is for."""
    with terminal.stage("compile") as step:
        from offramp.intake.model import read
        from offramp.intake.programs import images_of, program_of

        found = read(request)
        samples = images_of(found, request, data, images, step)
        return found, samples, *program_of(found, config, step)


@takes_model
def run(
    *,
    model: AnyModel = PROGRAM,
    port: _PortName = None,
    simulated: _Simulated = False,
    config: AnyConfig = None,
    data: AnyData = None,
    images: options.Count = 100,
    cycles: Annotated[bool, typer.Option("--cycles", help="Also compare the cycles with the simulator's.")] = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Also write what the board counts in every layer, as Perfetto (ui.perfetto.dev) takes it. "
            "It is compared with the simulator's.",
            show_default="none",
            callback=options.output_file,
        ),
    ] = None,
    clock: _Clock = _CLOCK_MHZ,
    baud: options.Baud = BAUD,
    link: options.LinkName = "serial",
    seed: options.Seed = 0,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Run a model on a board: its images, one after the other, each result compared with the golden model's."""
    _check_place(port, simulated, clock, baud, link)
    from offramp.report.tables import board_tables, model_tables
    from offramp.report.trace import counter_events

    terminal = Terminal()
    found, samples, program, name = _compiled(terminal, request, config, data, images)
    from offramp.measure import on_board

    with terminal.stage("run on the board") as step:
        with _attached(port, simulated, program.config, clock, baud, link, step) as board:
            result = on_board.check(
                board,
                program,
                samples.codes(found.network),
                samples.labels,
                cycles=cycles,
                records=trace is not None,
                progress=step,
                note=terminal.say,
            )
    show([*model_tables.source_rows(found, samples, name), ("board", board.name), *board_tables.check_rows(result)])
    if trace is not None:
        write_trace(trace, counter_events(result["per_image"]["cycles"], result["layers"], board.nominal[0]))
    asked = {"program": model, "config": name, "images_of": samples.origin, "port": board.name, "notes": found.notes}
    finish("board run", seed, json, {**asked, **result})
    if not result["values_equal"] or result["cycles_equal"] is False:
        raise typer.Exit(1)
    same = request.typed(config=config, data=data, **_place(port, clock, baud, link))
    next_step(f"offramp board bench {same}{' --simulated' if simulated else ''}")


@takes_model
def bench(
    *,
    model: AnyModel = PROGRAM,
    port: _PortName = None,
    simulated: _Simulated = False,
    config: AnyConfig = None,
    data: AnyData = None,
    images: options.Count = 100,
    clock: _Clock = _CLOCK_MHZ,
    baud: options.Baud = BAUD,
    link: options.LinkName = "serial",
    seed: options.Seed = 0,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Measure images a second of a board, back to back and one by one, against what its clock and its line allow.

    Of a simulated board in its own time, as if its clock were 50 MHz.
    """
    _check_place(port, simulated, clock, baud, link)
    from offramp.report.tables import board_tables, model_tables

    terminal = Terminal()
    found, samples, program, name = _compiled(terminal, request, config, data, images)
    from offramp.measure import on_board

    with terminal.stage("measure the board") as step:
        with _attached(port, simulated, program.config, clock, baud, link, step) as board:
            result = on_board.bench(board, program, samples.codes(found.network), progress=step, note=terminal.say)
    rows = [("board", board.name), *board_tables.bench_rows(result)]
    show([*model_tables.source_rows(found, samples, name), *rows])
    results().print("", board_tables.bench(result))
    asked = {"program": model, "config": name, "images_of": samples.origin, "port": board.name, "notes": found.notes}
    finish("board bench", seed, json, {**asked, **result})
    if not (result["values_equal"] and result["cycles_equal"]):
        raise typer.Exit(1)
    same = {"clock": f"{clock:g}", "link": _place(port, clock, baud, link)["link"]}
    next_step(f"offramp simulate {request.typed(config=config, data=data, **same)}")


def selftest(
    *,
    port: _PortName = None,
    simulated: _Simulated = False,
    images: options.Count = _SIMULATED_IMAGES,
    noise: _Noise = 0.0,
    clock: _Clock = _CLOCK_MHZ,
    baud: options.Baud = BAUD,
    link: options.LinkName = "serial",
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """See that a board computes what it must: images of digits, values and cycles of each compared.

    The network is compiled for the config that the board holds. With noise, what is lost on the line is asked for
    again.
    """
    _check_place(port, simulated, clock, baud, link)
    from hw.config import preset
    from offramp.intake.request import ModelRequest
    from offramp.report.tables import board_tables

    terminal, config = Terminal(), _SIMULATED_CONFIG
    if not simulated:
        with terminal.stage("ask the board"), _attached(port, simulated, preset(config), clock, baud, link) as board:
            from offramp.measure import on_board

            config = on_board.attached_config(board)
    request = ModelRequest(model=f"{_TESTED}@{config}", seed=seed)
    found, samples, program, _ = _compiled(terminal, request, None, None, images)
    from offramp.measure import on_board

    with terminal.stage("run on the board") as step:
        with _attached(port, simulated, program.config, clock, baud, link, step) as board:
            noisy = board.noisy(noise, seed) if noise else board
            result = on_board.check(
                noisy,
                program,
                samples.codes(found.network),
                samples.labels,
                cycles=True,
                progress=step,
                note=terminal.say,
            )
    show([("board", board.name), ("config", config), ("model", _TESTED), *board_tables.check_rows(result)])
    finish("board selftest", seed, json, {"port": board.name, "config": config, "noise": noise, **result})
    if not (result["values_equal"] and result["cycles_equal"]):
        raise typer.Exit(1)
    same = ModelRequest(model=_TESTED).typed(config=config, **_place(port, clock, baud, link))
    next_step("offramp build --config single" if simulated else f"offramp board run {same}")


def flash(
    *,
    bitstream: Annotated[Path, typer.Argument(help="Bitstream, as offramp build writes it.", callback=_bitstream)],
    board: options.BoardName = "ulx3s-25f",
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Load a bitstream into a board by openFPGALoader: until power goes, or into the flash memory of an OrangeCrab."""
    with Terminal().stage("flash"):
        from fpga.boards import board as board_of
        from fpga.host.flash import flash as load

        load(bitstream, board)
    show([("board", board), ("bitstream", str(bitstream))])
    finish("board flash", seed, json, {"board": board, "file": bitstream})
    next_step(f"offramp board selftest --port {board_of(board).port}")
