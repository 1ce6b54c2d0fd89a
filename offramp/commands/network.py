"""Commands that make a network and its program: train, compress, import, export, compile."""

from contextlib import ExitStack
from functools import partial
from io import BytesIO
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hw.config import preset
from hw.output import check_file, check_folder
from offramp.commands.common import OUT, finish, next_step, show
from offramp.commands.model_options import AnyConfig, AnyModel, image_source, model_file, takes_model
from offramp.files import paths
from offramp.files.kinds import check_recipe
from offramp.files.result_file import provenance, write_json
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

if TYPE_CHECKING:
    from offramp.intake.model import Model
    from offramp.intake.request import ModelRequest

__all__ = ["EXPORTED", "compile_", "compress", "export", "import_", "train"]

#: Endings of files of others that a network is exported as.
EXPORTED = (".onnx", ".tflite")

#: Names of files that are written: what is kept of a run; a network's integers, for others.
_KEPT = f"{paths.PROGRESS}/*"
_DESCRIPTION, _ARRAYS = "network.json", "arrays.npz"
#: What a module is compressed to, and the config that its cycles are of, unless told otherwise.
_KEEP, _EPOCHS, _MEASURED_ON = "20%", 20, "small-85f"


def _recipe(context: typer.Context, option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse a recipe that can't be read; it and the networks that it begins with are read."""
    if path is not None:
        check_recipe(path)
        from models.recipes.recipe import load

        found = load(path)
        for file in (str(path), found.teacher, found.start.checkpoint if found.start else ""):
            if file:
                paths.reads(context, option, Path(file))
    return path


def train(
    *,
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="Recipe file.", show_default="the demo's for the data set, dense network only", callback=_recipe
        ),
    ] = None,
    data: options.Data = "digits",
    data_dir: options.DataFolder = None,
    seed: options.Seed = 0,
    out: Annotated[Path, options.out(paths.TRAINED, paths.COMPRESSED, paths.RESULT, _KEPT)] = OUT,
    json: options.Json = None,
) -> None:
    """Make a recipe's network: OUT/trained.off, OUT/compressed.off, OUT/result.json. Stopped, it goes on next time.

    A recipe without a quantize table makes OUT/trained.off only. Without a recipe it is the float network that the
    demo begins with.
    """
    from models.recipes.checkpoint import Compressed
    from offramp.report.tables.result_tables import metric_rows

    terminal = Terminal()
    if recipe is None:
        with terminal.stage("train") as step:
            from models.recipes.pipeline import Log
            from offramp import stages

            log = Log(folder=out / paths.PROGRESS)
            source = stages.dataset(data, data_dir, step)
            checkpoint = stages.trained(source, out, seed=seed, progress=step, log=log)
        show([*metric_rows(checkpoint.metrics), ("file", str(out / paths.TRAINED))])
        found = {"data": data, "metrics": checkpoint.metrics, "epochs": log.metrics, "file": out / paths.TRAINED}
        finish("train", seed, json, found)
        next_step(f"offramp compress {out / paths.TRAINED}")
        return
    with terminal.stage("train") as step:
        from offramp import stages

        made, result = stages.made(recipe, data_dir, out, seed=seed, progress=step)
    write_json(out / paths.RESULT, {**provenance("train", seed), **result})
    show([*metric_rows(made.metrics), ("file", str(result["file"]))])
    finish("train", seed, json, result)
    if isinstance(made, Compressed):
        next_step(f"offramp compile {result['file']} --config {result['recipe']['config']}")


@takes_model
def compress(
    *,
    model: Annotated[Path, typer.Argument(help="Trained network, or module.py:factory.", callback=model_file)] = Path(
        "out/trained.off"
    ),
    data: Annotated[
        str | None,
        typer.Option(
            help="Of a module: labelled images, as for --calibrate.", show_default="none", callback=image_source
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Of a module: share of its weights that stay, above 0 % and at most 100 %, as 20% or 0.2.",
            show_default=_KEEP,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        options.ranged(1, 10_000, "Of a module: epochs of fine-tuning.", show_default=str(_EPOCHS)),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="Of a module: config that cycles are of.", show_default=_MEASURED_ON, callback=options.checked_config
        ),
    ] = None,
    seed: options.Seed = 0,
    out: Annotated[Path, options.off_file(paths.COMPRESSED, paths.NETWORK, beside=_KEPT)] = OUT,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Prune, quantize to int8 and calibrate the exit; writes compressed.off, of a module network.off."""
    from models.recipes.checkpoint import load
    from offramp.files.kinds import OUTSIDE, expect, kind_of
    from offramp.report.tables.result_tables import metric_rows

    if kind_of(model) == OUTSIDE:
        if not request.is_module:
            raise ValueError(
                f"{model} must be module.py:factory or a trained network, whose weights compress can train; offramp "
                "import takes it as it is"
            )
        share = options.share(keep or _KEEP, "--keep")
        _compress_module(
            request,
            data,
            share,
            epochs or _EPOCHS,
            config or _MEASURED_ON,
            seed,
            paths.file_in(out, paths.NETWORK),
            json,
        )
        return
    expect(model, "trained")
    if data is not None:
        raise ValueError("--data must go with module.py:factory: a trained network knows its data set")
    for option, value in (("--keep", keep), ("--epochs", epochs), ("--config", config)):
        if value is not None:
            raise ValueError(f"{option} must go with module.py:factory: a trained network knows its recipe")
    checkpoint, file = load(model), paths.file_in(out, paths.COMPRESSED)
    with Terminal().stage("compress") as step:
        from models.recipes.pipeline import Log
        from offramp import stages

        log = Log(folder=file.parent / paths.PROGRESS)
        source = stages.dataset(checkpoint.data, request.root, step)
        network = stages.compressed(checkpoint, source, file, seed=seed, progress=step, log=log)
    show([*metric_rows(network.metrics), ("file", str(file))])
    result = {"data": network.data, "metrics": network.metrics, "curve": network.curve, "epochs": log.metrics}
    finish("compress", seed, json, result | {"file": file})
    next_step(f"offramp compile {file}")


def _compress_module(
    request: "ModelRequest",
    data: str | None,
    keep: float,
    epochs: int,
    config: str,
    seed: int,
    file: Path,
    json: Path | None,
) -> None:
    """Prune and fine-tune a user's float module, and write the integer network."""
    from hw.network.network_file import NetworkFile, save
    from models.frontends.pytorch.calls import computes
    from offramp.intake.compression import sparse
    from offramp.intake.samples import origin_of, parts
    from offramp.intake.user_module import of_request
    from offramp.report.tables import model_tables

    if data is None:
        raise ValueError("--data must name labelled images that a module is fine-tuned on")
    preset(config)
    with Terminal().stage("compress") as step:
        module = of_request(request.model, request.weights)
        samples = parts(
            data,
            request.shape,
            seed=seed,
            computes=partial(computes, module),
            root=request.root,
            preprocessing=request.preprocessing,
            progress=step,
        )
        name = request.model.rpartition(":")[2]
        made = sparse(
            module, name, samples, config, keep=keep, epochs=epochs, seed=seed, ranges=request.ranges, progress=step
        )
    origin = f"module {request.model}, {100 * keep:g} % of its weights, fine-tuned"
    save(file, NetworkFile(network=made.network, origin=origin, activity=made.activity))
    images = origin_of(samples)
    notes = [*made.notes, *([samples[0].layout] if samples[0].layout else [])]
    asked = {"model": request.model, "origin": origin, "images_of": images, "config": config, "keep": keep}
    figures = {"before": made.before, "after": made.after, "accuracy_float": made.accuracy_float}
    figures["measured_on"] = samples[2].origin
    result = {**asked, "notes": notes, **figures, "epochs": {"fine-tune": made.epochs}, "file": file}
    results().print(model_tables.sparse(result), "")
    rows = [*model_tables.sparse_rows(result), *(("note", note) for note in notes)]
    show([*rows, ("images of", images), ("config", config), ("file", str(file))])
    finish("compress", seed, json, result)
    next_step(f"offramp verify {request.written(file).typed(config=config, data=data)}")


@takes_model
def import_(
    *,
    model: AnyModel,
    out: Annotated[Path, options.out_file("File to write.", options.network_file)] = OUT / paths.NETWORK,
    seed: options.Seed = 0,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Read a model of any kind into an integer network, checked against its source, and write that."""
    from hw.config import MAX_CLASSES
    from hw.network.network_file import NetworkFile, save
    from offramp.files import inspect
    from offramp.report.tables import model_tables
    from offramp.report.tables.contents import contents

    with Terminal().stage("import") as step:
        from offramp.intake.model import read
        from offramp.intake.source_check import check_source

        found = read(request)
        checked = check_source(found, seed, step)
    save(out, NetworkFile(network=found.network, origin=found.origin, activity=dict(found.activity)))
    notes, runs = found.notes, found.network.classes <= MAX_CLASSES
    if not runs:
        notes += (f"no config runs it: classes must be from 2 to {MAX_CLASSES}, not {found.network.classes}",)
    described = {"origin": found.origin, "notes": notes, "checked": checked}
    result = {**described, "network": inspect.network_dict(found.network)}
    results().print(contents(result), "")
    told = [("checked", model_tables.checked(checked)), *(("note", note) for note in notes)]
    show([("made of", found.origin), *told, ("file", str(out))])
    finish("import", seed, json, {"model": model, **result, "file": out})
    if runs:
        next_step(f"offramp verify {request.typed()}", f"offramp compile {out}")
    else:
        next_step(f"offramp export {out}")


def _export_path(context: typer.Context, option: typer.CallbackParam, path: Path) -> Path:
    """Refuse a path that can't be written to, before the work: a file of others, or a folder.

    Raises
    ------
    ValueError
        Also when it is named like a file of ours.
    """
    options.check_named(option, path)
    if paths.is_ours(path):
        others = " or ".join(EXPORTED)
        raise ValueError(
            f"{option.opts[0]} must name a folder, or a file that ends in {others}, not {path}: "
            f"offramp import writes {paths.OURS}"
        )
    (check_file if path.suffix in EXPORTED else check_folder)(path)
    paths.writes(context, option, path, *(() if path.suffix in EXPORTED else (_DESCRIPTION, _ARRAYS)))
    return path


@takes_model
def export(
    *,
    model: AnyModel,
    out: Annotated[
        Path,
        options.out_file(
            f"Folder for {_DESCRIPTION} and {_ARRAYS}; or a file that ends in .onnx (QDQ) or .tflite (int8).",
            _export_path,
        ),
    ] = OUT / "network",
    seed: options.Seed = 0,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Write a model's integers for other people's C and RTL, or tools: as JSON and arrays, as ONNX, as TFLite.

    docs/integer-network.md defines network.json and arrays.npz, and how every operator computes. An ONNX or TFLite file
    is read back before it is written: where it can't say what the network computes, it is refused.
    """
    from offramp.report.tables.units import count

    with Terminal().stage("export") as step:
        from offramp.intake.model import read

        found = read(request)
        step(0, 0, "writing, reading back" if out.suffix in EXPORTED else "writing")
        notes = (*found.notes, *_exported(found, out))
    integers, layers = sum(array.size for _, array in found.network.arrays()), len(found.network.layers)
    kind = "file" if out.suffix in EXPORTED else "folder"
    rows = [("made of", found.origin), *(("note", note) for note in notes)]
    show([*rows, ("layers", count(layers)), ("integers", count(integers)), (kind, str(out))])
    figures = {"layers": layers, "integers": integers, kind: out}
    finish("export", seed, json, {"model": model, "origin": found.origin, "notes": notes, **figures})
    next_step(f"offramp verify {request.typed() if kind == 'folder' else out}")


def _exported(found: "Model", out: Path) -> tuple[str, ...]:
    """Write what is asked for; what a user must know of it."""
    from hw.output import write_file

    if out.suffix in EXPORTED:
        from models.backends.export import export_file

        made = export_file(found.network, out.suffix)
        write_file(out, made.content)
        return made.notes
    import numpy as np

    from hw.network.neutral import description

    described, arrays = description(found.network, found.origin)
    content = BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_file(out / _ARRAYS, content.getvalue())
    write_file(out / _DESCRIPTION, f"{dumps(described, indent=1)}\n".encode())
    return ()


@takes_model
def compile_(
    *,
    model: AnyModel = Path("out/compressed.off"),
    config: AnyConfig = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what was tried and chosen, why, and how full every memory is.")
    ] = False,
    seed: options.Seed = 0,
    out: Annotated[Path, options.off_file(paths.PROGRAM)] = OUT,
    json: options.Json = None,
    request: "ModelRequest",
) -> None:
    """Compile a model to a program for an accelerator config: without --config the smallest preset that it fits."""
    file, result = paths.file_in(out, paths.PROGRAM), dict[str, Any]()
    # What is told of a refusal follows the stage, which the refusal ends before it is shown as done.
    with ExitStack() as after, Terminal().stage("compile") as step:
        from hw.compiler.explain import explanation
        from offramp.files import inspect
        from offramp.files.program_files import reread
        from offramp.intake.model import read
        from offramp.intake.programs import chosen
        from offramp.report.tables.contents import contents
        from offramp.report.tables.explanation import explained

        source = read(request)
        if source.program is not None:
            raise ValueError(f"{model} is a program: run it (offramp simulate {model})")
        found = chosen(source, config, step)
        result |= {"config": found.config, "origin": source.origin, "notes": source.notes}
        if explain:
            hint = {"advice": found.advice} if found.refusal else {}
            result["explanation"] = explanation(found.compilation) | hint
            if found.refusal is not None:
                after.callback(finish, "compile", seed, json, result)
            # Callbacks run in reverse: the tables are printed before the file is written.
            after.callback(lambda: results().print(explained(result["explanation"], refusal=False), ""))
        if found.refusal is not None:
            raise found.refusal
    program = reread(found.compilation.program(), file)
    result |= inspect.program_dict(program) | inspect.worst_case_dict(program)
    results().print(contents(result), "")
    show([*(("note", note) for note in source.notes), ("file", str(file))])
    finish("compile", seed, json, {**result, "file": file})
    next_step(f"offramp simulate {file}")
