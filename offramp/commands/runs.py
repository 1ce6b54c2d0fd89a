"""Commands that run a model: on the golden model, on the simulator, on the RTL."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpga.boards import CLOCKS_MHZ
from hw.extras import RTL, need
from offramp.commands import model_options
from offramp.commands.common import PROGRAM, config_option, finish, next_step, show, write_trace
from offramp.files.cache_folder import check_cache, check_simulator
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

if TYPE_CHECKING:
    from offramp.intake.model import Model
    from offramp.intake.request import ModelRequest
    from offramp.intake.samples import Samples

__all__ = ["evaluate", "simulate", "verify"]

#: Images that are simulated unless told otherwise; random ones, where there are no others.
_SIMULATED, _RANDOM = 1000, 16
#: Images of a model from outside that the RTL computes.
_SAMPLE = 2


@model_options.takes_model
def evaluate(
    *,
    model: model_options.AnyModel = PROGRAM,
    config: model_options.AnyConfig = None,
    data: model_options.AnyData = None,
    deadline: options.Deadline = 0,
    audit: options.Audit = 0.0,
    constant: options.ConstantTime = False,
    seed: options.Seed = 0,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Run the golden model on all test images: accuracy and exits."""
    conditions = options.conditions(deadline, audit, constant, seed)
    with Terminal().stage("evaluate") as step:
        from offramp import stages
        from offramp.intake.model import read
        from offramp.intake.programs import images_of, program_of
        from offramp.report.tables import model_tables, result_tables

        found = read(request)
        images = images_of(found, request, data, options.MOST_IMAGES if data or found.data else _RANDOM, step)
        program, name = program_of(found, config, step)
        result = stages.evaluated(program, images.codes(found.network), images.labels, step, conditions)
    result["thresholds"] = [head.threshold for head in program.network.exits[:-1]]
    show(
        [
            *model_tables.source_rows(found, images, name),
            *result_tables.evaluation_rows(result),
            *result_tables.threshold_rows(result),
        ]
    )
    asked = {"program": model, "config": name, "images_of": images.origin, "conditions": asdict(conditions)}
    finish("evaluate", seed, json, {**asked, "notes": found.notes, **result})
    next_step(f"offramp simulate {request.typed(config=config, data=data)}")


def _stage(name: str | None) -> str | None:
    """Refuse a stage that there isn't."""
    from fpga.flow.netlist import STAGES

    if name is not None and name not in STAGES:
        raise ValueError(f"--netlist must be one of {', '.join(STAGES)}, not {name!r}")
    return name


def _attack(name: str) -> str:
    """Refuse an attack that there isn't."""
    from offramp.measure.inputs import attack

    return attack(name).name


@model_options.takes_model
def simulate(
    *,
    model: model_options.AnyModel = PROGRAM,
    config: model_options.AnyConfig = None,
    attack: Annotated[str, typer.Option(help="clean, fgsm, pgd, adaptive or slowdown.", callback=_attack)] = "clean",
    eps: Annotated[
        float | None,
        options.ranged(0, 1, "Largest change of a pixel.", float, show_default="by data set"),
    ] = None,
    images: Annotated[
        int | None,
        options.ranged(1, options.MOST_IMAGES, "Test images.", show_default=f"{_SIMULATED}; {_RANDOM} random ones"),
    ] = None,
    clock: Annotated[
        float, options.ranged(*CLOCKS_MHZ, "Clock that images/s and latencies are for, MHz.", float)
    ] = 50.0,
    link: options.LinkName = "serial",
    deadline: options.Deadline = 0,
    audit: options.Audit = 0.0,
    constant: options.ConstantTime = False,
    curve: Annotated[
        int,
        options.ranged(0, 100, "With --attack: also so many smaller eps, evenly apart from 0 on: a security curve."),
    ] = 0,
    timeline: Annotated[
        int | None,
        options.ranged(
            0, options.MOST_IMAGES - 1, "Also when each core works on this one of the images.", show_default="none"
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Also write when layers, cores, PEs, lanes and the link work on the image of --timeline, else the "
            "first, as Perfetto (ui.perfetto.dev) takes it.",
            show_default="none",
            callback=options.output_file,
        ),
    ] = None,
    data: model_options.AnyData = None,
    seed: options.Seed = 0,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Simulate a model on test images, clean or attacked: cycles of every layer and where they go."""
    from offramp.measure import inputs

    conditions = options.conditions(deadline, audit, constant, seed)
    kind = inputs.attack(attack)
    for option, given in (("--eps", eps is not None), ("--curve", curve)):
        if given and not kind.steps:
            raise ValueError(f"{option} needs an attack that changes images: --attack must not be {attack}")
    with Terminal().stage("simulate") as step:
        from offramp.intake.model import read
        from offramp.intake.programs import images_of, program_of
        from offramp.measure.simulation import simulated
        from offramp.report.tables import model_tables, result_tables

        found = read(request)
        count = images or (_SIMULATED if data or found.data else _RANDOM)
        samples = images_of(found, request, data, count, step)
        program, name = program_of(found, config, step)
        reach = inputs.default_eps(data or found.data or "") if eps is None and kind.steps else eps or 0.0
        result = simulated(
            program,
            samples.images if kind.steps else samples.codes(found.network),
            samples.labels,
            kind,
            eps=reach,
            clock_mhz=clock,
            link=link,
            curve=curve,
            timeline=0 if trace is not None and timeline is None else timeline,
            conditions=conditions,
            seed=seed,
            progress=step,
        )
    show(model_tables.source_rows(found, samples, name))
    results().print(*result_tables.simulation(attack, result))
    if trace is not None:
        from offramp.report.trace import trace_events

        cycles = result["per_image"]["cycles"][result["timeline_image"]]
        write_trace(trace, trace_events(result["timeline"], cycles, clock, result["board"]))
    asked = {"program": model, "config": name, "images_of": samples.origin, "attack": attack, "eps": reach}
    finish("simulate", seed, json, {**asked, "conditions": asdict(conditions), "notes": found.notes, **result})
    next_step(f"offramp verify {request.typed(config=config, data=data)}")


@model_options.takes_model
def verify(
    *,
    models: model_options.AnyModels = None,
    config: model_options.AnyConfig = None,
    images: options.Count = 16,
    rtl: Annotated[
        int | None,
        options.ranged(
            0,
            options.MOST_IMAGES,
            "Images that the RTL computes; 0: it isn't run, which large networks take long for.",
            show_default=f"{_SAMPLE}; all of a network of ours",
        ),
    ] = None,
    deadline: options.Deadline = 0,
    audit: options.Audit = 0.0,
    constant: options.ConstantTime = False,
    simulator: Annotated[
        str, typer.Option(envvar="SIM", help="verilator or icarus.", callback=check_simulator)
    ] = "verilator",
    netlist: Annotated[
        str | None,
        typer.Option(
            help="Run not the RTL but the ECP5 cells that become of it: synthesized, or routed as well; minutes.",
            show_default="the RTL",
            callback=_stage,
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Also a table of the layers: values that differ from the source's runtime; signal to quantization "
            "noise (SQNR) against a float source.",
        ),
    ] = False,
    waves: options.WavesFile = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Record only while this layer runs (names: offramp info MODEL).", show_default="everything"),
    ] = None,
    image: Annotated[
        int | None, options.ranged(0, options.MOST_IMAGES - 1, "Run only this one of the images.", show_default="all")
    ] = None,
    data: model_options.AnyData = None,
    seed: options.Seed = 0,
    json: options.Json = None,
    requests: "list[ModelRequest]",
) -> None:
    """Run a model stage by stage, from its source to the RTL: what must be equal is, in all values and cycles.

    Networks of ours, trained on a data set, run on the RTL on images of which half leave early; several are loaded
    together. Other models run in every way there is: in float, in the runtime of their source, on golden model,
    simulator and, a sample of the images, RTL.
    """
    if rtl != 0:
        need("verify", RTL)
    check_cache()
    if rtl == 0 and (netlist is not None or waves is not None):
        raise ValueError("--rtl must be at least 1 with --netlist and with --waves, which are of the hardware, not 0")
    if image is not None and image >= images:
        raise ValueError(f"--image must be in 0..{images - 1}, one of the {images} of --images, not {image}")
    if netlist is not None and waves is not None:
        raise ValueError("--waves records the RTL: it must be left out with --netlist")
    if rtl is not None and rtl > images:
        raise ValueError(f"--rtl must be in 0..{images}, at most the {images} of --images, not {rtl}")
    if layer is not None and waves is None:
        raise ValueError("--layer needs --waves: it says what is recorded")
    if layer is not None:
        from offramp.files.inspect import check_layer

        check_layer([Path(request.model) for request in requests], layer)
    from models.datasets.splits import NAMES

    conditions = options.conditions(deadline, audit, constant, seed)
    terminal = Terminal()
    with terminal.stage("compile") as step:
        from offramp.intake.model import read
        from offramp.intake.programs import images_of, program_of
        from offramp.rtl.waves import Waves, layers_named

        found = [read(request) for request in requests]
        ours = all(each.data for each in found) and (data is None or data in NAMES)
        if not ours and (len(found) > 1 or image is not None):
            raise ValueError("several models, and --image, must be of networks of ours that were trained on a data set")
        if ours and layers:
            raise ValueError("--layers must be left out with networks of ours, which have no source to compare with")
        if ours and rtl == 0:
            raise ValueError("--rtl must be at least 1 with networks of ours, which run on the RTL alone here, not 0")
        samples = None if ours else images_of(found[0], requests[0], data, images, step)
        programs = [program_of(each, config, step) for each in found]
    recorded = None
    if waves is not None:
        recorded = Waves(path=waves, layers=None if layer is None else layers_named([p for p, _ in programs], layer))
    options_ = {"simulator": simulator, "waves": recorded, "conditions": conditions, "seed": seed, "netlist": netlist}
    if samples is None:
        work = [(each, program, request) for each, (program, _), request in zip(found, programs, requests, strict=True)]
        result = _together(terminal, work, data, rtl or images, image, options_)
    else:
        result = _by_stages(
            terminal, found[0], programs[0], samples, _SAMPLE if rtl is None else rtl, options_, layers=layers
        )
    asked = {"programs": models, "config": [name for _, name in programs]}
    finish("verify", seed, json, {**asked, "conditions": asdict(conditions), **result})
    if False in (result["values_equal"], result["cycles_equal"], result.get("agrees")):
        raise typer.Exit(1)
    build = f"offramp build {config_option(programs[0][0].config)}"
    next_step(*([] if waves is None else [f"gtkwave {waves.with_suffix('.gtkw')}"]), build)


def _together(
    terminal: Terminal,
    work: "list[tuple[Model, Any, ModelRequest]]",
    data: str | None,
    images: int,
    image: int | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Networks of ours on the RTL, loaded together."""
    from offramp import stages
    from offramp.report.tables import result_tables
    from offramp.rtl import run

    chosen = []
    for model, program, request in work:
        with terminal.stage("choose images") as step:
            source = stages.tried_on(program, data or model.data, request.root, step)
            codes = stages.verification_codes(program, source, count=images, seed=settings["seed"], progress=step)
        chosen.append((program, codes if image is None else codes[image : image + 1]))
    with terminal.stage("verify the RTL") as step:
        result = run.verify(chosen, first=image or 0, progress=step, **settings)
    results().print(result_tables.verification(result, [request.model for _, _, request in work]))
    return result


def _by_stages(
    terminal: Terminal,
    model: "Model",
    compiled: tuple[Any, str],
    samples: "Samples",
    rtl: int,
    settings: dict[str, Any],
    *,
    layers: bool,
) -> dict[str, Any]:
    """A model from outside, stage by stage."""
    from offramp.intake.verification import verify_model
    from offramp.report.tables import contents, model_tables
    from offramp.report.tables.columns import Columns

    program, name = compiled
    with terminal.stage("verify") as step:
        result = verify_model(model, program, samples, rtl_images=rtl, progress=step, **settings)
    show(model_tables.source_rows(replace(model, notes=result["notes"]), samples, name))
    memories = Columns(*contents.word_rows(result["memories"]))
    each = [model_tables.layers(result), ""] if layers and result["by_layer"] else []
    results().print("", model_tables.stages(result), "", *each, model_tables.figures(result), "", memories)
    return {"origin": model.origin, "images_of": samples.origin, **result}
