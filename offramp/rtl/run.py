"""Runs programs on the RTL and verifies them: every layer's values and cycles against golden model and simulator."""

import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fpga.runs import RunOutcome
from hw.network.exits import DEFAULT, Conditions
from hw.program.bundle import bundle_of
from models.datasets.sources import Progress
from models.integer.golden import run
from offramp.rtl.expected import compare, compare_batch
from offramp.rtl.job import JOB, PROGRESS, BatchOutcome, Job, Work, load_layers, load_outcomes
from offramp.rtl.simulators import build, run_test
from offramp.rtl.watching import watched
from offramp.rtl.waves import Waves, keep, runs_folder
from offramp.terminal.stopping import Stopped
from sim import PROMPT, Simulation, WeightSource, constant_time, simulate

__all__ = ["hardware_name", "run_together", "run_work", "runs_done", "verify"]


def run_work(
    work: Work,
    *,
    simulator: str = "verilator",
    waves: Waves | None = None,
    step: bool = True,
    stall: float = 0.0,
    seed: int = 0,
    conditions: Conditions = DEFAULT,
    source: WeightSource = PROMPT,
    netlist: str | None = None,
    progress: Progress | None = None,
) -> list[list[RunOutcome]]:
    """What the RTL reports of each image of each program.

    Parameters
    ----------
    work : list of (Program, int8 array (images, height, width, channels))
        All for the same config.
    waves : Waves, optional
        What to record. The folder of a run that fails is kept, in the cache directory's ``runs``.
    step : bool
        Also read every layer's output.
    stall : float
        Probability of pauses on all streams; those of external memory cost cycles.
    conditions : Conditions
        Of the runs, in every program from the first number on.
    source : WeightSource
        External memory, for lists that don't fit.
    netlist : str, optional
        As for :func:`offramp.rtl.simulators.build`.

    Raises
    ------
    RuntimeError
        When the run fails; the message names the log, the seed and, if one was recorded, the waveform.
    """
    each = _resolved(work, conditions, source)
    job = Job(work=work, conditions=each, step=step, stall=stall, seed=seed, source=source)
    return _run(job, simulator, waves, progress, netlist)[0]


def run_together(
    work: Work,
    *,
    simulator: str = "verilator",
    waves: Waves | None = None,
    stall: float = 0.0,
    seed: int = 0,
    conditions: Conditions = DEFAULT,
    source: WeightSource = PROMPT,
    netlist: str | None = None,
    progress: Progress | None = None,
) -> tuple[list[list[RunOutcome]], list[BatchOutcome]]:
    """What the RTL reports with all programs loaded: of their images in turn, step by step, then back to back.

    Parameters and errors are those of :func:`run_work`.
    """
    each = _resolved(work, conditions, source)
    job = Job(work=work, conditions=each, together=True, stall=stall, seed=seed, source=source)
    return _run(job, simulator, waves, progress, netlist)


def _resolved(work: Work, conditions: Conditions, source: WeightSource) -> list[Conditions]:
    """The conditions of each program's runs; constant time with its own deadline."""
    return [constant_time(program, conditions, source) for program, _ in work]


def runs_done(path: Path, total: int, simulator: str) -> tuple[int, int, str] | None:
    """Percent of a run that are done by the number that the simulation keeps writing into a file, and all there are."""
    text = path.read_text().strip() if path.exists() else ""
    return (round(100 * float(text)), 100 * total, f"RTL on {simulator}") if text else None


def _run(
    job: Job, simulator: str, waves: Waves | None, progress: Progress | None, netlist: str | None = None
) -> tuple[list[list[RunOutcome]], list[BatchOutcome]]:
    """Have a job done in a simulation."""
    # Together, they run back to back as well, behind one more of each program.
    total = sum(len(codes) + (len(codes) + 1 if job.together else 0) for _, codes in job.work)
    waves = waves and waves.placed()
    directory = build(job.work[0][0].config, simulator, waves=waves is not None, netlist=netlist, progress=progress)
    folder = Path(tempfile.mkdtemp(dir=runs_folder()))
    job.save(folder)
    try:
        if progress is not None:
            progress(0, 0, f"RTL on {simulator}")
        with watched(lambda: runs_done(folder / PROGRESS, total, simulator), progress):
            run_test(
                directory,
                simulator,
                "offramp.rtl.bench_side",
                "verify_images",
                folder,
                variables={JOB: str(folder)},
                waves=waves is not None,
                seed=job.seed,
            )
    except Stopped:
        shutil.rmtree(folder)
        raise
    except RuntimeError as error:
        if waves is not None and (path := keep(waves, folder, directory, None)):
            raise RuntimeError(f"{error}\nwaveform {path}") from error
        raise
    try:
        if waves is not None:
            keep(waves, folder, directory, load_layers(folder))
        return load_outcomes(folder)
    finally:
        shutil.rmtree(folder)


def hardware_name(netlist: str | None) -> str:
    """What ran: the RTL, or cells in its place."""
    return "RTL" if netlist is None else f"{netlist} cells"


def verify(
    work: Work,
    *,
    simulator: str = "verilator",
    waves: Waves | None = None,
    seed: int = 0,
    conditions: Conditions = DEFAULT,
    first: int = 0,
    netlist: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Load programs together, run images on RTL, golden model and simulator, and compare.

    Images of all programs run in turn, step by step, then those of each program back to back.

    Parameters
    ----------
    waves : Waves, optional
        What to record.
    conditions : Conditions
        Of the runs, in every program from the first number on.
    first : int
        Number of the first image of each program, where these are some of many.
    netlist : str, optional
        As for :func:`offramp.rtl.simulators.build`.

    Returns
    -------
    dict
        As :func:`offramp.rtl.expected.compare`, over all programs; images that differ, also back to back, are counted
        on from program to program.
        ``per_image``: lists with an entry for each image of each program, in turn: number of its ``program``, number of
        the ``image``, ``class``, ``exit``, ``margin`` and ``cycles`` of golden model and simulator; ``equal``: whether
        the RTL, or the netlist, agrees in everything, by its name.
        ``decisions`` (:meth:`hw.network.exits.Decisions.counts`).
        ``back_to_back``: cycles per image of each program, images on their way while others are computed.
        ``waveform``: the file of what was recorded. Where nothing should be, the first image that differs by itself is
        run again with a waveform, in the cache directory; not of a netlist, which has no waveforms.

    Raises
    ------
    ValueError
        When there is no image, the simulator isn't there, or the programs don't fit together.
    RuntimeError
        When the RTL run fails.
    """
    if not work or any(len(codes) == 0 for _, codes in work):
        raise ValueError("verify needs at least 1 image of each program, not 0")
    bundle_of([program for program, _ in work])
    conditions, waves = conditions.from_run(first), waves and waves.placed()
    expected = []
    for program, codes in work:
        golden = run(program.network, codes)
        expected.append((golden, simulate(program, codes, golden=golden, conditions=conditions)))
    options: dict[str, Any] = {"simulator": simulator, "seed": seed, "conditions": conditions, "progress": progress}
    begun = time.monotonic()
    outcomes, batches = run_together(work, waves=waves, netlist=netlist, **options)
    result: dict[str, Any] = {"values_equal": True, "cycles_equal": True}
    result |= {name: 0 for name in ("layers", "images", "early", "cycles")} | {"differing": [], "mismatches": []}
    result["decisions"] = Counter()
    result["back_to_back"] = []
    alone: list[int] = []
    for number, ((program, _), (golden, timing)) in enumerate(zip(work, expected, strict=True)):
        found = compare(program, outcomes[number], golden, timing, first=first)
        batch = compare_batch(program, batches[number], timing, first=first)
        for name in ("values_equal", "cycles_equal"):
            result[name] = result[name] and found[name] and batch[name]
        alone += [result["images"] + image for image in found["differing"]]
        differing = {*found["differing"], *batch["differing"]}
        result["differing"] += [result["images"] + image for image in sorted(differing)]
        for name in ("layers", "images", "early", "cycles"):
            result[name] += found[name]
        named = f"{program.network.name}: " if len(work) > 1 else ""
        result["mismatches"] += [f"{named}{text}" for text in found["mismatches"] + batch["mismatches"]]
        for name, count in timing.decisions.counts().items():
            result["decisions"][name] += count
        result["back_to_back"].append(batch["cycles_per_image"])
    if waves is None and netlist is None and alone:
        waves = Waves().placed()
        images = [(n, (program, codes[n : n + 1])) for program, codes in work for n in range(len(codes))]
        number, image = images[alone[0]]
        run_work([image], waves=waves, **{**options, "conditions": conditions.from_run(number)})
    if waves is not None:
        result["waveform"] = str(waves.path)
    result["decisions"] = dict(result["decisions"])
    timings = [timing for _, timing in expected]
    result["per_image"] = _image_rows(timings, set(result["differing"]), first, hardware_name(netlist))
    asked = {"simulator": simulator, "netlist": netlist, "seed": seed}
    return {**result, **asked, "seconds": time.monotonic() - begun}


def _image_rows(timings: list[Simulation], differing: set[int], first: int, hardware: str) -> dict[str, Any]:
    """Of each image of each program, in turn: which it is, what the simulator says, whether the hardware agrees."""
    numbers = [(program, image) for program, timing in enumerate(timings) for image in range(len(timing.cycles))]
    rows: dict[str, Any] = {
        "program": [program for program, _ in numbers],
        "image": [first + image for _, image in numbers],
        **{name: [] for name in ("class", "exit", "margin", "cycles")},
        "equal": {hardware: [number not in differing for number in range(len(numbers))]},
    }
    for timing in timings:
        decided = timing.decisions
        for name, values in (("class", decided.label), ("exit", decided.exit), ("margin", decided.margin)):
            rows[name] += values.tolist()
        rows["cycles"] += timing.cycles.tolist()
    return rows
