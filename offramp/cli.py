"""The command line. Every command: options in, one call, a table and maybe a JSON file out."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

# Before torch and numba are imported: spinning OpenMP threads slow each other down when anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hw.config import preset
from offramp import commands, options
from offramp.console import Terminal, results
from offramp.errors import sentence
from offramp.record import provenance, write_json

__all__ = ["app", "main"]

app = typer.Typer(
    help="Sparse, int8, early-exiting neural networks on an open two-sided sparse accelerator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_PROGRAM = Path("out/program.off")
_OUT = Path("out")


def _finish(command: str, seed: int, json: Path | None, result: dict[str, Any]) -> None:
    """Write the JSON file, if asked for."""
    if json is not None:
        write_json(json, {**provenance(command, seed), **result})


def _show(rows: list[tuple[str, str]]) -> None:
    from offramp.tables import key_values

    results().print(key_values(rows))


def _metrics(metrics: dict[str, float]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), f"{value:,.4f}" if value <= 1 else f"{value:,.0f}") for name, value in metrics.items()
    ]


@app.command()
def train(
    *,
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe file.", show_default="the demo's for the data set, dense network only")
    ] = None,
    data: options.Data = "digits",
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    out: options.Out = _OUT,
    json: options.Json = None,
) -> None:
    """Make a recipe's network: OUT/trained.off, OUT/compressed.off, OUT/result.json. Stopped, it goes on next time.

    Without a recipe, train the data set's float network for the demo; writes OUT/trained.off.
    """
    from offramp import stages

    terminal = Terminal()
    if recipe is None:
        with terminal.stage("train") as step:
            checkpoint = stages.trained(stages.dataset(data, data_dir, step), out, seed=seed, progress=step)
        _show([*_metrics(checkpoint.metrics), ("file", str(out / stages.TRAINED))])
        _finish("train", seed, json, {"data": data, "metrics": checkpoint.metrics, "file": out / stages.TRAINED})
        return
    with terminal.stage("train") as step:
        made, result = stages.made(recipe, data_dir, out, seed=seed, progress=step)
    write_json(out / stages.RESULT, {**provenance("train", seed), **result})
    _show([*_metrics(made.metrics), ("file", str(out / stages.COMPRESSED))])
    _finish("train", seed, json, result)


@app.command()
def compress(
    *,
    trained: Annotated[Path, typer.Argument(help="Trained network.")] = Path("out/trained.off"),
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    out: options.Out = _OUT,
    json: options.Json = None,
) -> None:
    """Prune, quantize to int8 and calibrate the exit; writes OUT/compressed.off."""
    from models.checkpoint import load
    from offramp import stages

    checkpoint = load(trained)
    with Terminal().stage("compress") as step:
        source = stages.dataset(checkpoint.data, data_dir, step)
        network = stages.compressed(checkpoint, source, out, seed=seed, progress=step)
    _show([*_metrics(network.metrics), ("file", str(out / stages.COMPRESSED))])
    result = {"data": network.data, "metrics": network.metrics, "curve": network.curve}
    _finish("compress", seed, json, result | {"file": out / stages.COMPRESSED})


@app.command("compile")
def compile_(
    *,
    compressed: Annotated[Path, typer.Argument(help="Compressed network.")] = Path("out/compressed.off"),
    config: options.ConfigName = "single",
    seed: options.Seed = 0,
    out: options.Out = _OUT,
    json: options.Json = None,
) -> None:
    """Compile a network to a program for an accelerator config; writes OUT/program.off."""
    from models.checkpoint import load_compressed
    from offramp import inspect, stages

    chosen = preset(config)
    loaded = load_compressed(compressed)
    with Terminal().stage("compile"):
        program = stages.compiled(loaded.network, chosen, out / stages.PROGRAM, loaded.activity)
    _show([*inspect.program_rows(program), ("file", str(out / stages.PROGRAM))])
    _finish("compile", seed, json, {"config": config, **inspect.program_dict(program), "file": out / stages.PROGRAM})


@app.command()
def evaluate(
    *,
    program: options.ProgramFile = _PROGRAM,
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

    loaded, conditions = stages.program(program), options.conditions(deadline, audit, constant, seed)
    with Terminal().stage("evaluate") as step:
        source = stages.dataset(data or loaded.network.name, data_dir, step)
        result = stages.evaluated(loaded, source, step, conditions)
    share = ", ".join(f"{100 * value:.2f} %" for value in result["exit_share"])
    rows = [("images", f"{result['images']:,}"), ("accuracy", f"{100 * result['accuracy']:.2f} %"), ("exits", share)]
    _show([*rows, *options.decision_rows(result.get("decisions", {}))])
    _finish("evaluate", seed, json, {"program": program, "conditions": asdict(conditions), **result})


@app.command()
def simulate(
    *,
    program: options.ProgramFile = _PROGRAM,
    attack: Annotated[str, typer.Option(help="clean, fgsm, pgd, adaptive or slowdown.")] = "clean",
    eps: Annotated[
        float | None, typer.Option(min=0, max=1, help="Largest change of a pixel.", show_default="by data set")
    ] = None,
    images: options.Count = 1000,
    deadline: options.Deadline = 0,
    audit: options.Audit = 0.0,
    constant: options.ConstantTime = False,
    data: options.ProgramData = None,
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Simulate a program on test images, clean or attacked: cycles of every layer and where they go."""
    from offramp import inputs, stages, tables

    loaded, conditions = stages.program(program), options.conditions(deadline, audit, constant, seed)
    name = data or loaded.network.name
    kind, reach = inputs.attack(attack), inputs.default_eps(name) if eps is None else eps
    with Terminal().stage("simulate") as step:
        source = stages.dataset(name, data_dir, step)
        settings: dict[str, Any] = {
            "eps": reach,
            "count": images,
            "seed": seed,
            "conditions": conditions,
            "progress": step,
        }
        _, found = stages.measured(loaded, source, kind, **settings)
    result = found.to_dict()
    results().print(tables.measurements({attack: result}), "", tables.layers(result["layers"]), "")
    together = "unknown" if found.back_to_back is None else f"{found.back_to_back:,.1f}"
    _show([("cycles per image, back to back", together), *options.decision_rows(result["decisions"])])
    asked = {"program": program, "attack": attack, "eps": reach, "conditions": asdict(conditions)}
    _finish("simulate", seed, json, {**asked, **result})


@app.command()
def verify(
    *,
    programs: options.ProgramFiles = None,
    images: options.Count = 16,
    deadline: options.Deadline = 0,
    audit: options.Audit = 0.0,
    constant: options.ConstantTime = False,
    simulator: Annotated[str, typer.Option(envvar="SIM", help="verilator or icarus.")] = "verilator",
    waves: Annotated[bool, typer.Option(envvar="WAVES", help="Write waveforms.")] = False,
    data: options.ProgramData = None,
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Run test images on the RTL: all values, exits and cycles must equal the golden model's and the simulator's."""
    from offramp import rtl, stages

    files, conditions = programs or [_PROGRAM], options.conditions(deadline, audit, constant, seed)
    terminal, work = Terminal(), []
    for loaded in map(stages.program, files):
        with terminal.stage("choose images") as step:
            source = stages.dataset(data or loaded.network.name, data_dir, step)
            codes = stages.verification_codes(loaded, source, count=images, seed=seed, progress=step)
        work.append((loaded, codes))
    with terminal.stage("verify the RTL") as step:
        result = rtl.verify(work, simulator=simulator, waves=waves, seed=seed, conditions=conditions, progress=step)
    _show([(name.replace("_", " "), str(value)) for name, value in result.items()])
    _finish("verify", seed, json, {"programs": files, "conditions": asdict(conditions), **result})
    if not (result["values_equal"] and result["cycles_equal"]):
        raise typer.Exit(1)


@app.command()
def generate(
    *,
    config: options.ConfigName = "single",
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("out/offramp.v"),
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Write the Verilog of a config, top module `offramp`, for any flow."""
    from hw.container import write_atomically
    from hw.verilog import generate as verilog

    chosen = preset(config)
    with Terminal().stage("generate"):
        text = verilog(chosen)
    write_atomically(output, text.encode())
    _show(
        [
            ("config", config),
            ("digest", chosen.digest()[:16]),
            ("lines", f"{text.count(chr(10)):,}"),
            ("file", str(output)),
        ]
    )
    _finish("generate", seed, json, {"config": config, "digest": chosen.digest(), "file": output})


@app.command()
def build(
    *,
    config: options.ConfigName = "single",
    board: options.Board = "ulx3s-25f",
    clock: options.Clock = 50.0,
    seed: options.Seed = 0,
    out: options.Out = _OUT,
    json: options.Json = None,
) -> None:
    """Synthesize, place and route a config with its serial link, and write OUT/BOARD.bit. The seed is the placer's."""
    from offramp import stages, tables

    terminal = Terminal()
    with terminal.stage("build") as step:
        report = stages.bitstream(
            preset(config), board, out, clock_mhz=clock, seed=seed, progress=lambda name: step(0, 0, name)
        )
    result = report.to_dict()
    _show([*tables.build_rows(result), ("file", str(out / f"{board}.bit"))])
    _finish("build", seed, json, {"config": config, "build": result, "file": out / f"{board}.bit"})
    if not report.timing_met:
        terminal.say(f"timing is not met: the design reaches {report.fmax_mhz} MHz, its PLL makes {clock:g} MHz")
        raise typer.Exit(1)


@app.command()
def bench(
    *,
    config: options.ConfigName = "base",
    workload: Annotated[
        list[str] | None, typer.Option(help="A workload; may be given again.", show_default="all")
    ] = None,
    images: options.Count = 64,
    seed: options.Seed = 0,
    json: options.Json = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also sweep the densities of weights and activations, and plot into this SVG file."),
    ] = None,
    verilator: Annotated[
        int, typer.Option(min=0, help="Also run so many images of the first workload on the RTL, and compare.")
    ] = 0,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also time SCALE-Sim and ZigZag on the shapes; pip installs them apart.")
    ] = False,
) -> None:
    """Measure cycles against the limit of nonzero products, on the layer shapes of MLPerf Tiny."""
    from hw.container import write_atomically
    from offramp import figures, tables
    from offramp.bench import against_peers, against_rtl, curve, measure_workload
    from offramp.workloads import WORKLOADS

    chosen, names = preset(config), workload or list(WORKLOADS)
    terminal = Terminal()
    rows, points = [], []
    for name in names:
        with terminal.stage(name) as step:
            rows.append(measure_workload(name, chosen, images=images, seed=seed, progress=step))
    if plot is not None:
        with terminal.stage("sweep densities") as step:
            densities = {"weights": (1.0, 0.5, 0.2, 0.1, 0.05), "active": (0.8, 0.5, 0.3)}
            points = curve(chosen, workload="resnet8-w20", **densities, images=8, seed=seed, progress=step)
        write_atomically(plot, figures.density_curve(points).encode())
    hardware: dict[str, Any] | None = None
    if verilator:
        with terminal.stage("verify the RTL") as step:
            hardware = against_rtl(names[0], chosen, images=verilator, seed=seed, progress=step)
    others = []
    if peers:
        with terminal.stage("peers") as step:
            others = against_peers(names, seed=seed, progress=step)
    for row in rows:
        results().print(f"{row['workload']} on {config}", tables.layers(row["layers"]), "")
    results().print(tables.workloads(rows))
    if others:
        results().print(tables.peers(rows, others))
    if hardware is not None:
        _show([(name.replace("_", " "), str(value)) for name, value in hardware.items()])
    found = {"rows": rows, "curve": points, "rtl": hardware, "peers": others}
    _finish("bench", seed, json, {"config": config, "multipliers": chosen.multipliers, **found})
    if hardware is not None and not (hardware["values_equal"] and hardware["cycles_equal"]):
        raise typer.Exit(1)


@app.command()
def info(
    *,
    file: Annotated[Path, typer.Argument(help="Trained or compressed network, or program, or zoo:NAME.")] = _PROGRAM,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Say what is in a file."""
    from offramp import inspect

    rows, result = inspect.describe(file)
    _show(rows)
    _finish("info", seed, json, {"file": file, **result})


@app.command()
def disasm(program: options.ProgramFile = _PROGRAM, seed: options.Seed = 0, json: options.Json = None) -> None:
    """Print a program's instructions."""
    from hw.decode import disassemble
    from offramp import stages

    loaded = stages.program(program)
    text = disassemble(loaded.images)
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    _finish("disasm", seed, json, {"program": program, "lines": text.splitlines()})


@app.command()
def demo(
    *,
    data: options.Data = "digits",
    data_dir: options.DataFolder = None,
    config: options.ConfigName = "single",
    board: options.Board = "ulx3s-25f",
    clock: options.Clock = 50.0,
    model: Annotated[
        str | None, typer.Option(help="zoo:NAME instead of training and compressing.", show_default="none")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Images that the RTL runs.")] = 16,
    attacked: Annotated[int, typer.Option(min=1, help="Most test images to attack; clean, all are simulated.")] = 1000,
    seed: options.Seed = 0,
    out: options.Out = _OUT,
    json: Annotated[Path | None, typer.Option("--json", help="Result file.", show_default="OUT/demo.json")] = None,
) -> None:
    """The main job: train, compress, compile, check four ways, build the bitstream; table, JSON file and report."""
    from offramp.demo import Settings, run
    from offramp.report import write
    from offramp.tables import summary

    preset(config)
    terminal = Terminal()
    settings = Settings(
        data=data, root=data_dir, config=config, board=board, clock_mhz=clock, seed=seed, out=out,
        images=images, attacked=attacked, model=model,
    )  # fmt: skip
    result = run(settings, terminal)
    with terminal.stage("8/8 table, JSON file, report"):
        write_json(json or out / "demo.json", result)
        write(out / "report.html", result)
    results().print(summary(result))
    terminal.say(f"result {json or out / 'demo.json'}, report {out / 'report.html'}, bitstream {out / board}.bit")
    if not (result["verify"]["values_equal"] and result["verify"]["cycles_equal"]):
        raise typer.Exit(1)


commands.register(app)


def main() -> None:
    """Run a command; a user's mistake ends in one sentence and exit code 2."""
    try:
        app()
    except Exception as error:
        text = sentence(error)
        if text is None:
            raise
        print(f"offramp: {text}", file=sys.stderr)
        sys.exit(2)
