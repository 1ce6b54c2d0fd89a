"""The main job: from a training set to a bitstream, every stage real, one table and one report at the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fpga.boards import board as board_of
from fpga.flow.build import check
from fpga.throughput import throughput
from hw.config import AcceleratorConfig, preset
from hw.program.program import Program
from models import zoo
from models.compression.quantize import encode
from models.datasets.sources import Progress
from models.datasets.splits import Dataset
from models.recipes import recipe
from models.recipes.checkpoint import Compressed
from models.recipes.recipe import Recipe
from offramp import stages
from offramp.background import Background, background
from offramp.files import paths
from offramp.files.program_files import compiled
from offramp.files.result_file import provenance
from offramp.measure.inputs import ATTACKS, default_eps
from offramp.measure.measure import Measurement
from offramp.measure.simulation import measured
from offramp.rtl import run as rtl
from offramp.terminal.console import Terminal

__all__ = ["Settings", "run"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the demo is run on.

    Parameters
    ----------
    data : str
        Data set.
    root : Path or None
        Data folder.
    config, board : str
        Names.
    clock_mhz : float
        Clock that the bitstream's PLL makes.
    baud : int
        Bits per second of its serial line.
    bitstream : bool
        Whether one is built; without it there is no clock, and no throughput.
    seed : int
    out : Path
        Folder of everything it writes.
    images : int
        Images that the RTL runs.
    attacked : int
        Most test images that are attacked; clean ones are always all.
    model : str or None
        Network of the zoo with at most one early exit, instead of training one on ``data``.
    """

    data: str
    root: Path | None
    config: str
    board: str
    clock_mhz: float
    baud: int
    seed: int
    out: Path
    images: int = 16
    attacked: int = 1000
    model: str | None = None
    bitstream: bool = True


@dataclass
class _Job:
    """The demo in progress: its settings, where it shows itself, and how long its stages took."""

    settings: Settings
    terminal: Terminal
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, number: int, name: str) -> Iterator[Progress]:
        start = time.monotonic()
        with self.terminal.stage(f"{number}/8 {name}") as step:
            yield step
        self.seconds[name] = round(time.monotonic() - start, 2)


def run(settings: Settings, terminal: Terminal) -> dict[str, Any]:
    """Do the main job.

    Returns
    -------
    dict
        What ``--json`` writes; :mod:`offramp.report.pages.demo_page` reads it.

    Raises
    ------
    ValueError
        When an option or a file is impossible; config, board and clock are checked before anything starts.
    """
    config = preset(settings.config)
    if settings.bitstream:
        check(config, board_of(settings.board), clock_mhz=settings.clock_mhz, baud=settings.baud)
    begin = time.monotonic()
    job = _Job(settings, terminal)
    what = settings.model or settings.data
    terminal.say(f"offramp demo: {what}, config {settings.config}, seed {settings.seed}, into {settings.out}")
    files = (settings.out / name for name in paths.BUILT)
    with background(_build_command(settings), *files) if settings.bitstream else nullcontext() as building:
        source, network, chosen = _networks(job)
        program, dense = _programs(job, network)
        golden_result = _golden(job, source, program)
        inputs, images = _simulated(job, source, program, dense)
        verification = _verified(job, program, inputs, images)
        built = _built(job, building)
    job.seconds["total"] = round(time.monotonic() - begin, 2)
    slowed = [inputs[name].right for name in ("fgsm", "pgd", "adaptive")]
    attacked = len(slowed[0])
    return {
        **provenance("demo", settings.seed),
        "data": source.name,
        "recipe": asdict(chosen),
        "config": {"name": settings.config, "digest": program.config.digest(), **asdict(program.config)},
        "network": _sizes(network),
        "metrics": network.metrics,
        "curve": network.curve,
        "golden": golden_result,
        "inputs": {
            name: found.to_dict()
            | {"description": _describe(name, dense, program)}
            | _delivered(found, dense if name == "unpruned" else program, program.config, built)
            for name, found in inputs.items()
        },
        "robustness": {
            "eps": default_eps(source.name),
            "images": attacked,
            "clean": float(inputs["clean"].right[:attacked].mean()),
            "easy": float(inputs["pgd"].right.mean()),
            "adaptive": float(np.logical_and.reduce([inputs["clean"].right[:attacked], *slowed]).mean()),
        },
        "verify": verification,
        "build": built,
        "seconds": job.seconds,
    }


def _build_command(settings: Settings) -> list[str]:
    return [
        *("build", "--config", settings.config, "--board", settings.board, "--clock", str(settings.clock_mhz)),
        *("--baud", str(settings.baud), "--seed", str(settings.seed), "--out", str(settings.out)),
    ]


def _networks(job: _Job) -> tuple[Dataset, Compressed, Recipe]:
    """Stages 1 and 2, or what the zoo has instead."""
    settings = job.settings
    if settings.model is not None:
        with job.stage(1, "zoo") as step:
            found = zoo.entry(settings.model)
            network = zoo.load(found)
            if found.part != "network" or len(network.network.exits) > 2:
                raise ValueError(
                    f"the demo is of a pruned network with one early exit or none, not of {settings.model}"
                )
            source = stages.dataset(found.dataset, settings.root, step)
        return source, network, recipe.load(recipe.FOLDER / f"{found.recipe}.toml")
    with job.stage(1, "train") as step:
        source = stages.dataset(settings.data, settings.root, step)
        checkpoint = stages.trained(source, settings.out, seed=settings.seed, progress=step)
    with job.stage(2, "compress") as step:
        network = stages.compressed(
            checkpoint, source, settings.out / paths.COMPRESSED, seed=settings.seed, progress=step
        )
    return source, network, recipe.builtin(source.name)


def _programs(job: _Job, network: Compressed) -> tuple[Program, Program]:
    """Stage 3: both programs, as read back from their files."""
    settings = job.settings
    config = preset(settings.config)
    with job.stage(3, "compile"):
        program = compiled(network.network, config, settings.out / paths.PROGRAM, network.activity)
        dense = stages.unpruned(network.dense, config, settings.out / paths.UNPRUNED, network.dense_activity)
    return program, dense


def _golden(job: _Job, source: Dataset, program: Program) -> dict[str, Any]:
    """Stage 4."""
    with job.stage(4, "golden model") as step:
        return stages.evaluated(program, source.test.images, source.test.labels, step)


def _simulated(
    job: _Job, source: Dataset, program: Program, dense: Program
) -> tuple[dict[str, Measurement], dict[str, np.ndarray]]:
    """Stage 5: measurements by kind of input, and the images of each."""
    settings = job.settings
    options: dict[str, Any] = {"eps": default_eps(source.name), "seed": settings.seed}
    found: dict[str, Measurement] = {}
    images: dict[str, np.ndarray] = {}
    with job.stage(5, "simulate") as step:
        for name, kind in ATTACKS.items():
            part = source.test.take(len(source.test) if name == "clean" else settings.attacked)
            images[name], found[name] = measured(program, part.images, part.labels, kind, progress=step, **options)
        every, labels = source.test.images, source.test.labels
        _, found["unpruned"] = measured(dense, every, labels, ATTACKS["clean"], progress=step, **options)
    return found, images


def _verified(
    job: _Job, program: Program, inputs: dict[str, Measurement], images: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Stage 6."""
    # Images that don't leave early are found under attack, if need be.
    early, late = ((images[name], inputs[name].exit_index) for name in ("clean", "slowdown"))
    last = len(program.network.exits) - 1
    chosen = stages.verification_images(early, late, last=last, count=job.settings.images)
    with job.stage(6, "verify the RTL") as step:
        return rtl.verify([(program, encode(chosen, program.network))], seed=job.settings.seed, progress=step)


def _built(job: _Job, building: Background | None) -> dict[str, Any] | None:
    """Stage 7: wait for the build that has been running since the start, if it has."""
    if building is None:
        job.terminal.say("  7/8 synthesize, place and route: left out")
        return None
    with job.stage(7, "synthesize, place and route") as step:
        while not building.wait(1.0):
            step(0, 0, building.last_line())
    return dict(building.result()["build"])


def _sizes(network: Compressed) -> dict[str, Any]:
    weights = [array for name, array in network.network.arrays() if name.endswith("/weight")]
    return {
        "weights": sum(array.size for array in weights),
        "nonzero_weights": sum(int(np.count_nonzero(array)) for array in weights),
        "layers": [layer.name for layer in network.network.layers],
    }


def _delivered(
    found: Measurement, ran: Program, config: AcceleratorConfig, built: dict[str, Any] | None
) -> dict[str, Any]:
    """Images a second on the board, and of its core alone at the highest clock; None if the config wasn't built."""
    if built is None or ran.config != config:
        return {"board": None, "core_images_per_second_at_fmax": None}
    board = throughput(
        ran.network.input.shape, float(found.cycles.mean()), back_to_back=found.back_to_back,
        clock_mhz=built["clock_mhz"], baud=built["baud"],
    )  # fmt: skip
    faster = built["fmax_mhz"] / built["clock_mhz"]
    return {
        "board": board.to_dict(),
        "core_images_per_second_at_fmax": board.core_images_per_second * faster,
    }


def _describe(name: str, dense: Program, program: Program) -> str:
    if name in ATTACKS:
        return ATTACKS[name].description
    wider = dense.config.list_words != program.config.list_words
    return "the test set, without pruning and exit" + (
        f", on list memories of {dense.config.list_words} words, which no board has" if wider else ""
    )
