"""The command that measures the accelerator against its limit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hw.config import preset
from hw.extras import RTL, need
from hw.rules import MisfitError
from offramp.commands.common import finish, next_step, show
from offramp.commands.model_options import AnyData, runnable_file, takes_model
from offramp.files.kinds import MODELS
from offramp.measure.workload_names import WORKLOADS, check_workload
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

if TYPE_CHECKING:
    from offramp.intake.request import ModelRequest

__all__ = ["bench"]


def _workloads(names: list[str] | None) -> list[str] | None:
    """Refuse workloads that there aren't."""
    for name in names or ():
        check_workload(name)
    return names


@takes_model
def bench(
    *,
    model: Annotated[
        Path | None,
        typer.Argument(
            help=f"A model instead of the workloads: {MODELS}.", show_default="none", callback=runnable_file
        ),
    ] = None,
    data: AnyData = None,
    config: options.ConfigName = "base-85f",
    workload: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A workload: {', '.join(WORKLOADS)}; may be given again.",
            show_default="all that fit",
            callback=_workloads,
        ),
    ] = None,
    images: options.Count = 64,
    seed: options.Seed = 0,
    json: options.Json = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Also sweep the densities of weights and activations, on one workload.")
    ] = False,
    verilator: Annotated[
        int,
        options.ranged(
            0, options.MOST_IMAGES, "Also run so many images of the first workload on the RTL, and compare."
        ),
    ] = 0,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also time SCALE-Sim and ZigZag on the shapes; pip installs them apart.")
    ] = False,
    request: "ModelRequest",
) -> None:
    """Measure cycles against the limit of nonzero products, on the layer shapes of MLPerf Tiny or of a model."""
    if verilator:
        need("bench --verilator", RTL)
    if model is not None and (workload or verilator or peers or sweep):
        raise ValueError("--workload, --verilator, --peers and --sweep must go without a model: they are of workloads")
    chosen, names = preset(config), workload or list(WORKLOADS)
    terminal = Terminal()
    with terminal.stage("prepare"):
        from offramp.intake.programs import advice, of_model
        from offramp.measure.bench import against_peers, against_rtl, density_sweep, measure_workload, routed
        from offramp.report.tables import bench_tables, model_tables, result_tables
    rows, points, asked, told = [], [], dict[str, Any](), list[tuple[str, str]]()
    left_out: list[str] = []
    if model is not None:
        with terminal.stage(str(model)) as step:
            found, samples, own = of_model(request, data, images, step)
            try:
                rows.append(measure_workload(str(model), chosen, images=images, seed=seed, workload=own, progress=step))
            except MisfitError as error:
                hint = advice(own, config, error, lambda text: step(0, 0, text))
                raise MisfitError(f"{config}: {error}; {hint}") from error
        names = []
        asked = {"origin": found.origin, "images_of": samples.origin, "notes": found.notes}
        told = model_tables.source_rows(found, samples, config)
    for name in names:
        with terminal.stage(name) as step:
            try:
                rows.append(measure_workload(name, chosen, images=images, seed=seed, progress=step))
            except MisfitError as error:
                left_out.append(f"{name} doesn't fit {config}: {error}")
                if workload:
                    raise MisfitError(f"{left_out[-1]}; --workload chooses others") from error
    for refusal in left_out:
        terminal.say(f"left out: {refusal}")
    if not rows:
        raise MisfitError(f"no workload fits {config}: {'; '.join(left_out)}")
    names = [row["workload"] for row in rows]
    if sweep:
        with terminal.stage("sweep densities") as step:
            densities = {"weights": (1.0, 0.5, 0.2, 0.1, 0.05), "active": (0.8, 0.5, 0.3)}
            points = density_sweep(chosen, workload="resnet8-w20", **densities, images=8, seed=seed, progress=step)
    hardware: dict[str, Any] | None = None
    if verilator:
        with terminal.stage("verify the RTL") as step:
            hardware = against_rtl(names[0], chosen, images=verilator, seed=seed, progress=step)
    others = []
    if peers:
        with terminal.stage("peers") as step:
            others = against_peers(names, seed=seed, progress=step)
    if told:
        show(told)
        results().print("")
    for row in rows:
        results().print(f"{row['workload']} on {config}", result_tables.layers(row["layers"]), "")
    built = routed(config)
    results().print(bench_tables.workloads(rows, built))
    if others:
        results().print(bench_tables.peers(rows, others))
    if hardware is not None:
        show(bench_tables.hardware_rows(hardware))
    figures = {"rows": rows, "routed": built, "curve": points, "rtl": hardware, "peers": others}
    finish("bench", seed, json, {"config": config, "multipliers": chosen.multipliers, **asked, **figures})
    if hardware is not None and not (hardware["values_equal"] and hardware["cycles_equal"]):
        raise typer.Exit(1)
    if model is not None:
        next_step(f"offramp verify {model} --config {config}")
    elif hardware is None:
        next_step(f"offramp bench --config {config} --verilator 2")
    else:
        next_step(f"offramp build --config {config}")
