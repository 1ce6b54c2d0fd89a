"""Commands that run a program: on the golden model, on the simulator, on the RTL."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from fpga.boards import CLOCKS_MHZ
from offramp import options
from offramp.commands.common import PROGRAM, config_option, finish, next_step, show
from offramp.console import Terminal, results

__all__ = ["evaluate", "simulate", "verify"]


def evaluate(
    *,
    program: options.ProgramFile = PROGRAM,
    data: options.ProgramData = None,
    data_dir: options.DataFolder = None,
    deadline: options.Deadline = 0,
    audit: options.Audit = 0.0,
    constant: options.ConstantTime = False,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Run the golden model on the whole test set: accuracy and exits."""
    from offramp import stages
    from offramp.report import tables

    loaded, conditions = stages.program(program), options.conditions(deadline, audit, constant, seed)
    with Terminal().stage("evaluate") as step:
        source = stages.tried_on(loaded, data, data_dir, step)
        result = stages.evaluated(loaded, source, step, conditions)
    show(tables.evaluation_rows(result))
    finish("evaluate", seed, json, {"program": program, "conditions": asdict(conditions), **result})
    next_step(f"offramp simulate {program}")


def simulate(
    *,
    program: options.ProgramFile = PROGRAM,
    attack: Annotated[str, typer.Option(help="clean, fgsm, pgd, adaptive or slowdown.")] = "clean",
    eps: Annotated[
        float | None,
        options.ranged(0, 1, "Largest change of a pixel.", float, show_default="by data set"),
    ] = None,
    images: options.Count = 1000,
    clock: Annotated[
        float, options.ranged(*CLOCKS_MHZ, "Clock that images/s and latencies are for, MHz.", float)
    ] = 50.0,
    deadline: options.Deadline = 0,
    audit: options.Audit = 0.0,
    constant: options.ConstantTime = False,
    data: options.ProgramData = None,
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Simulate a program on test images, clean or attacked: cycles of every layer and where they go."""
    from fpga.throughput import throughput
    from fpga.uart import BAUD
    from offramp import stages
    from offramp.measure import inputs
    from offramp.report import tables

    loaded, conditions = stages.program(program), options.conditions(deadline, audit, constant, seed)
    name = data or loaded.network.name
    kind, reach = inputs.attack(attack), inputs.default_eps(name) if eps is None else eps
    with Terminal().stage("simulate") as step:
        source = stages.tried_on(loaded, name, data_dir, step)
        settings: dict[str, Any] = {
            "eps": reach,
            "count": images,
            "seed": seed,
            "conditions": conditions,
            "progress": step,
        }
        _, found = stages.measured(loaded, source, kind, **settings)
    result: dict[str, Any] = found.to_dict() | {"per_image": found.per_image(), "board": None}
    if not loaded.config.loader:  # no board has a memory to read lists from
        cycles = float(found.cycles.mean())
        board = throughput(
            loaded.network.input.shape, cycles, back_to_back=found.back_to_back, clock_mhz=clock, baud=BAUD
        )
        result["board"] = board.to_dict()
    note = [tables.board_note(result["board"]), ""] if result["board"] else []
    results().print(tables.measurements({attack: result}), "", *note, tables.layers(result["layers"]), "")
    together = "unknown" if found.back_to_back is None else f"{found.back_to_back:,.1f}"
    delivered = tables.board_rows(result) if result["board"] else []
    show([("cycles per image, back to back", together), *delivered, *tables.decision_rows(result["decisions"])])
    asked = {"program": program, "attack": attack, "eps": reach, "conditions": asdict(conditions)}
    finish("simulate", seed, json, {**asked, **result})
    next_step(f"offramp verify {program}")


def verify(
    *,
    programs: options.ProgramFiles = None,
    images: options.Count = 16,
    deadline: options.Deadline = 0,
    audit: options.Audit = 0.0,
    constant: options.ConstantTime = False,
    simulator: Annotated[str, typer.Option(envvar="SIM", help="verilator or icarus.")] = "verilator",
    waves: options.WavesFile = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Record only while this layer runs (names: simulate).", show_default="everything"),
    ] = None,
    image: Annotated[
        int | None, options.ranged(0, options.MOST_IMAGES - 1, "Run only this one of the images.", show_default="all")
    ] = None,
    data: options.ProgramData = None,
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Run test images on the RTL: all values, exits and cycles must equal the golden model's and the simulator's."""
    if image is not None and image >= images:
        raise ValueError(f"--image must be in 0..{images - 1}, one of the {images} of --images, not {image}")
    if layer is not None and waves is None:
        raise ValueError("--layer needs --waves: it says what is recorded")
    from offramp import stages
    from offramp.report import tables
    from offramp.rtl import run as rtl
    from offramp.rtl.waves import Waves, layers_named

    files, conditions = programs or [PROGRAM], options.conditions(deadline, audit, constant, seed)
    loaded = [stages.program(file) for file in files]
    recorded = None
    if waves is not None:
        recorded = Waves(path=waves, layers=None if layer is None else layers_named(loaded, layer))
    terminal, work = Terminal(), []
    for program in loaded:
        with terminal.stage("choose images") as step:
            source = stages.tried_on(program, data, data_dir, step)
            codes = stages.verification_codes(program, source, count=images, seed=seed, progress=step)
        work.append((program, codes if image is None else codes[image : image + 1]))
    settings: dict[str, Any] = {"seed": seed, "conditions": conditions, "first": image or 0}
    with terminal.stage("verify the RTL") as step:
        result = rtl.verify(work, simulator=simulator, waves=recorded, progress=step, **settings)
    results().print(tables.verification(result, [str(file) for file in files]))
    finish("verify", seed, json, {"programs": files, "conditions": asdict(conditions), **result})
    if not (result["values_equal"] and result["cycles_equal"]):
        raise typer.Exit(1)
    next_step(f"offramp build {config_option(loaded[0].config)}")
