"""The stages between a data set and a bitstream, each from files to files, as the commands and the demo call them."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fpga.boards import board
from fpga.flow.build import BuildReport, build
from hw.compiler.compile import compile_balanced
from hw.config import AcceleratorConfig
from hw.network.exits import DEFAULT, Conditions
from hw.network.network import Network
from hw.output import write_file
from hw.program.program import Program
from hw.rules import ShortageError
from models.compression.quantize import encode
from models.datasets import splits as data
from models.datasets.sources import Progress
from models.datasets.splits import Dataset
from models.integer import golden
from models.recipes import pipeline, recipe
from models.recipes.checkpoint import Checkpoint, Compressed, save, save_compressed
from models.recipes.recipe import Recipe
from offramp.files import paths
from offramp.files.cache_folder import cache_root
from offramp.files.program_files import reread
from offramp.measure.inputs import ATTACKS, attacked, default_eps
from offramp.measure.measure import measure
from offramp.terminal.stopping import kept

__all__ = [
    "bitstream",
    "compressed",
    "dataset",
    "evaluated",
    "made",
    "trained",
    "tried_on",
    "unpruned",
    "verification_codes",
    "verification_images",
]

#: Words of the largest list memory that a config can have, for networks that are compared but not built.
_WIDEST_LISTS = 8192
#: Test images among which those for the RTL are looked for.
_CANDIDATES = 256


def dataset(name: str, root: Path | None, progress: Progress | None = None) -> Dataset:
    """A data set, split the same way every time."""
    return data.load(name, root, progress=progress)


def tried_on(program: Program, name: str | None, root: Path | None, progress: Progress | None = None) -> Dataset:
    """The data set of that name, or the one the program's network was trained on; what doesn't fit isn't even loaded.

    Raises
    ------
    ValueError
        When its images or classes aren't the network's.
    """
    network = program.network
    name = name or network.name
    wanted = network.input.shape, network.classes
    if data.SHAPES.get(name, wanted) != wanted:
        raise ValueError(f"data must have the network's images and classes, {wanted}, not {name}'s {data.SHAPES[name]}")
    return dataset(name, root, progress)


def _keeping(log: pipeline.Log | None) -> AbstractContextManager[None]:
    """Who stops a training hears what the log keeps of it, once it keeps anything."""
    if log is None or log.folder is None:
        return nullcontext()
    return kept(log.folder, "all but the last half minute is kept in {}, the same command goes on from there")


def trained(
    source: Dataset, out: Path, *, seed: int, progress: Progress | None = None, log: pipeline.Log | None = None
) -> Checkpoint:
    """Train the data set's recipe and write ``trained.off``; the log gets metrics of every epoch, and the states."""
    with _keeping(log):
        checkpoint = pipeline.train(recipe.builtin(source.name), source, seed, progress, log=log)
    save(out / paths.TRAINED, checkpoint)
    return checkpoint


def made(
    path: Path, root: Path | None, out: Path, *, seed: int, progress: Progress | None = None
) -> tuple[Checkpoint | Compressed, dict[str, Any]]:
    """Make a recipe's network and write ``trained.off`` and, unless nothing is quantized, ``compressed.off``.

    The state after every epoch, and twice a minute within one, is kept in the output folder, so that a run that was
    stopped goes on.

    Returns
    -------
    tuple of Compressed and dict, or of Checkpoint and dict
        The network; and the recipe, its digest, the metrics, and those of every epoch by stage.
    """
    chosen = recipe.load(path)
    recipe.check(chosen, root)
    source = dataset(chosen.data, root, progress)
    log = pipeline.Log(folder=out / paths.PROGRESS)
    with _keeping(log):
        checkpoint = pipeline.train(chosen, source, seed, progress, root=root, log=log)
        save(out / paths.TRAINED, checkpoint)
        if chosen.quantize is None:
            return checkpoint, _result(chosen, checkpoint, log, out / paths.TRAINED)
        network = pipeline.compress(chosen, checkpoint, source, seed, progress, log=log)
    save_compressed(out / paths.COMPRESSED, network)
    return network, _result(chosen, network, log, out / paths.COMPRESSED) | {"curve": network.curve}


def _result(chosen: Recipe, network: Checkpoint | Compressed, log: pipeline.Log, file: Path) -> dict[str, Any]:
    """What is said of a recipe's network."""
    return {
        "recipe": asdict(chosen),
        "recipe_digest": chosen.digest(),
        "data": network.data,
        "metrics": network.metrics,
        "epochs": log.metrics,
        "file": file,
    }


def compressed(
    checkpoint: Checkpoint,
    source: Dataset,
    file: Path,
    *,
    seed: int,
    progress: Progress | None = None,
    log: pipeline.Log | None = None,
) -> Compressed:
    """Prune, quantize and calibrate, and write the file; the log is that of :func:`trained`."""
    with _keeping(log):
        result = pipeline.compress(recipe.builtin(source.name), checkpoint, source, seed, progress, log=log)
    save_compressed(file, result)
    return result


def unpruned(
    network: Network, config: AcceleratorConfig, path: Path, activity: dict[str, np.ndarray] | None = None
) -> Program:
    """The dense network compiled for comparison, its file written and read again (:mod:`offramp.files.program_files`).

    Its weights may need larger list memories than the config has; it then gets the next larger that suffice. Only the
    simulator runs it; ``program.config`` tells which config that is.

    Raises
    ------
    ValueError
        When the network does not fit even so, or can't be compiled for another reason.
    """
    while True:
        try:
            found = compile_balanced(network, config, activity or {})
        except ShortageError:
            if config.list_words >= _WIDEST_LISTS:
                raise
            config = config.replace(list_words=2 * config.list_words)
        else:
            return reread(found, path)


def evaluated(
    program: Program,
    images: np.ndarray,
    labels: np.ndarray | None,
    progress: Progress | None = None,
    conditions: Conditions = DEFAULT,
) -> dict[str, Any]:
    """Accuracy and exit share of the golden model on images, and each one's label, class, exit and margin there.

    Images and labels are as of :func:`offramp.measure.measure.measure`. Under other conditions than the usual ones the
    simulator is asked as well, for its cycles decide where runs leave; then ``decisions`` are counted, too.
    """
    if conditions != DEFAULT:
        found = measure(program, images, labels, conditions=conditions, progress=progress)
        described = found.to_dict()
        kept = {name: described[name] for name in ("images", "accuracy", "exit_share", "decisions")}
        return kept | {"per_image": found.per_image()}
    codes = images if images.dtype == np.int8 else encode(images, program.network)
    report = None if progress is None else lambda done, total: progress(done, total, "golden model")
    result = golden.run(program.network, codes, keep=False, progress=report)
    return {
        "images": len(codes),
        "accuracy": None if labels is None else result.accuracy(labels),
        "exit_share": result.exit_share().tolist(),
        "per_image": {
            **({} if labels is None else {"label": labels.tolist()}),
            "class": result.classes.tolist(),
            "exit": result.exit_index.tolist(),
            "margin": np.take_along_axis(result.margins, result.exit_index[:, None], axis=1)[:, 0].tolist(),
        },
    }


def verification_codes(
    program: Program, source: Dataset, *, count: int, seed: int, progress: Progress | None = None
) -> np.ndarray:
    """Codes of test images for the RTL, half of which leave early; slowed-down ones stand in where too few do not."""
    pairs = []
    for name in ("clean", "slowdown"):
        if name == "slowdown" and len(program.network.exits) == 1:
            continue
        split = source.test.take(_CANDIDATES)
        images = attacked(
            ATTACKS[name], program.network, split, eps=default_eps(source.name), seed=seed, progress=progress
        )
        found = golden.run(program.network, encode(images, program.network), keep=False)
        pairs.append((images, found.exit_index))
    chosen = verification_images(pairs[0], pairs[-1], last=len(program.network.exits) - 1, count=count)
    return encode(chosen, program.network)


def verification_images(
    early: tuple[np.ndarray, np.ndarray], late: tuple[np.ndarray, np.ndarray], *, last: int, count: int
) -> np.ndarray:
    """Images for the RTL, half of which leave early and half not, as far as there are such.

    Parameters
    ----------
    early, late : tuple of arrays
        Images (N, height, width, channels) and the exit (N,) each takes; late ones are looked for in the first pair,
        then in the second.
    last : int
        Index of the last exit.
    count : int
        How many in all.

    Raises
    ------
    ValueError
        When there are fewer than ``count``.
    """
    pool = np.concatenate([early[0], late[0]])
    leaves = np.concatenate([early[1], late[1]]) < last
    first, second = np.flatnonzero(leaves), np.flatnonzero(~leaves)
    half = min(count // 2, len(second))
    chosen = np.concatenate([first[: count - half], second[: max(half, count - len(first))]])
    if len(chosen) < count:
        raise ValueError(f"images must be at most the {len(pool)} there are, not {count}")
    return pool[chosen]


def bitstream(
    config: AcceleratorConfig,
    board_name: str,
    out: Path,
    *,
    clock_mhz: float,
    baud: int,
    link: str,
    seed: int,
    progress: Any = None,
) -> BuildReport:
    """Build the config's bitstream, or find it among earlier builds, and put it into ``out/<board>.bit``."""
    options: dict[str, Any] = {"progress": progress} if progress else {}
    builds = cache_root() / "fpga"
    options |= {"clock_mhz": clock_mhz, "baud": baud, "link": link, "seed": seed}
    report = build(config, board(board_name), builds, **options)
    write_file(out / f"{board_name}.bit", report.bitstream.read_bytes())
    return report
