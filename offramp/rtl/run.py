"""Runs a program on the RTL and compares every layer's values and cycles with golden model and simulator."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fpga.runs import RunOutcome
from hw.config import WORD_CHANNELS
from hw.network.exits import DEFAULT, Conditions
from hw.network.zero_points import storage_zero_points
from hw.program.bundle import bundle_of
from hw.program.instructions import Instruction
from hw.program.program import Program
from models.datasets.sources import Progress
from models.integer.golden import Result, run
from offramp.rtl.job import JOB, PROGRESS, BatchOutcome, Job, Work, load_layers, load_outcomes
from offramp.rtl.simulators import build, run_test
from offramp.rtl.watching import watched
from offramp.rtl.waves import Waves, keep, runs_folder
from offramp.terminal.stopping import Stopped
from sim import PROMPT, Simulation, WeightSource, constant_time, has_known_time, simulate, time_batch

__all__ = [
    "compare",
    "compare_batch",
    "expected_outputs",
    "hardware_name",
    "run_together",
    "run_work",
    "runs_done",
    "verify",
]

#: Differences that are described; the rest is counted.
_DESCRIBED = 20


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


def expected_outputs(
    program: Program, layer: Instruction, golden: Result, image: int, zero_points: Mapping[str, int]
) -> list[tuple[np.ndarray | slice, np.ndarray]]:
    """What a LAYER instruction must leave, as :class:`fpga.runs.RunOutcome` holds it.

    Parameters
    ----------
    zero_points : mapping of str to int
        The network's :func:`hw.network.zero_points.storage_zero_points`.

    Returns
    -------
    list of (rows, values)
        Of a head, the logits. Else for each core which words of its window this instruction makes, in any core, and
        those words, (words, 8), dummy channels zero; the other words of the map are other instructions'. A partial one
        makes none.
    """
    described = program.commands[layer.index]
    codes = golden.tensors[described.tensor][image].astype(np.int64)
    values = codes.reshape(-1, codes.shape[-1]) - zero_points[described.tensor]
    if not described.partial and any(head.logits == described.tensor for head in program.network.exits):
        return [(slice(None), values.reshape(-1))]
    channels = values.shape[1]
    pitch = program.config.padded_channels(channels) // WORD_CHANNELS
    words = np.pad(values, ((0, 0), (0, pitch * WORD_CHANNELS - channels))).reshape(-1, WORD_CHANNELS)
    row_words = pitch * codes.shape[1]
    first, last = described.channels
    outputs: list[tuple[np.ndarray | slice, np.ndarray]] = []
    for core in layer.cores:
        window = core.window
        index = np.arange(window.low, window.end)
        channel = index % pitch * WORD_CHANNELS
        made = np.any([(top <= index // row_words) & (index // row_words < end) for top, end in described.rows], axis=0)
        rows = made & (first <= channel) & (channel < last) & (not described.partial)
        outputs.append((rows, words[index[rows]]))
    return outputs


def compare(
    program: Program, outcomes: list[RunOutcome], golden: Result, timing: Simulation, *, first: int = 0
) -> dict[str, Any]:
    """Compare what the RTL reported with golden model and simulator; ``first`` is what the first image is called.

    Returns
    -------
    dict
        ``values_equal`` (every word that a layer has left in any core, and every class, exit and margin),
        ``cycles_equal`` (of every layer and of every run; with them products and stalls), ``layers`` and ``images``
        compared, ``early`` exits among them, ``differing`` images, ``mismatches``: the first of them in words.
    """
    values: list[str] = []
    cycles: list[str] = []
    differing: set[int] = set()
    layers = 0
    zero_points = storage_zero_points(program.network)

    def check(kind: list[str], image: int, what: str, rtl: Any, expected: Any) -> None:
        if not np.array_equal(rtl, expected):
            differing.add(image)
            kind.append(f"image {first + image}: {what}: RTL {_short(rtl)}, expected {_short(expected)}")

    for image, outcome in enumerate(outcomes):
        reported = {"label": outcome.label, "exit": outcome.exit, "margin": outcome.margin} | outcome.flags
        for name, decided in timing.decisions.result(image).items():
            check(values, image, name, reported[name], decided)
        check(cycles, image, "cycles of the run", outcome.cycles, timing.cycles[image])
        ran = np.flatnonzero(timing.layer_cycles[image])
        check(values, image, "layers run", [record["index"] for record in outcome.layers], ran.tolist())
        for number, record in enumerate(outcome.layers):
            index = record["index"]
            name = program.commands[index].name
            layers += 1
            simulated = {
                "cycles": timing.layer_cycles,
                "products": timing.products,
                "stalls": timing.stalls,
                "waited": timing.waited,
            }
            for counter, found in simulated.items():
                check(cycles, image, f"{counter} of {name}", record[counter], found[image, index])
            if not outcome.outputs:
                continue
            wanted = expected_outputs(program, program.decoded.layers[index], golden, image, zero_points)
            for core, (part, (rows, words)) in enumerate(zip(outcome.outputs[number], wanted, strict=True)):
                check(values, image, f"{name} in core {core}", part[rows], words)
    return {
        "values_equal": not values,
        "cycles_equal": not cycles,
        "layers": layers,
        "images": len(outcomes),
        "early": sum(outcome.exit < len(program.network.exits) - 1 for outcome in outcomes),
        "cycles": sum(outcome.cycles for outcome in outcomes),
        "differing": sorted(differing),
        "mismatches": (values + cycles)[:_DESCRIBED],
    }


def compare_batch(program: Program, batch: BatchOutcome, timing: Simulation, *, first: int = 0) -> dict[str, Any]:
    """Compare what a program's images did back to back, behind another run of it, with the simulator.

    ``first`` is what the first image is called.

    Returns
    -------
    dict
        ``values_equal`` (every decision), ``cycles_equal`` (of every run, and, where the simulator knows it, the cycle
        in which each result came),
        ``cycles_per_image`` of the batch, ``differing`` images, ``mismatches``.
    """
    values: list[str] = []
    cycles: list[str] = []
    differing: set[int] = set()
    known = has_known_time(program, timing)
    expected = time_batch(program, timing, selected=True).results.tolist() if known else batch.results
    for image, (outcome, came) in enumerate(zip(batch.outcomes, batch.results, strict=True)):
        reported = {"label": outcome.label, "exit": outcome.exit, "margin": outcome.margin} | outcome.flags
        wanted = timing.decisions.result(image)
        if {name: reported[name] for name in wanted} != wanted:
            differing.add(image)
            values.append(f"image {first + image} back to back: RTL {reported}, expected {wanted}")
        for what, found, right in (
            ("cycles of the run", outcome.cycles, int(timing.cycles[image])),
            ("cycle of the result", came, expected[image]),
        ):
            if found != right:
                differing.add(image)
                cycles.append(f"image {first + image} back to back: {what}: RTL {found}, expected {right}")
    return {
        "values_equal": not values,
        "cycles_equal": not cycles,
        "cycles_per_image": batch.results[-1] / len(batch.results),
        "differing": sorted(differing),
        "mismatches": (values + cycles)[:_DESCRIBED],
    }


def hardware_name(netlist: str | None) -> str:
    """What ran: the RTL, or cells in its place."""
    return "RTL" if netlist is None else f"{netlist} cells"


def _short(value: Any) -> str:
    array = np.asarray(value)
    if array.size <= 8:
        return str(array.tolist())
    return f"{array.dtype} {array.shape}, sum {array.sum()}"


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
        As :func:`compare`, over all programs; images that differ, also back to back, are counted on from program to
        program.
        ``per_image``: lists with an entry for each image of each program, in turn: number of its ``program``, number of
        the ``image``, ``class``, ``exit``, ``margin`` and ``cycles`` of golden model and simulator; ``equal``: whether
        the RTL, or the netlist, agrees in everything, by its name.
        ``decisions`` (:meth:`hw.network.exits.Decisions.counts`).
        ``back_to_back``: cycles per image of each program, images on their way while others are computed.
        ``waveform``: the file of what was recorded. Where nothing should be, the first image that differs is run again
        with a waveform, in the cache directory; not of a netlist, which has no waveforms.

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
    hardware = hardware_name(netlist)
    rows: dict[str, list[Any]] = {name: [] for name in ("program", "image", "class", "exit", "margin", "cycles")}
    equal: list[bool] = []
    for number, ((program, _), (golden, timing)) in enumerate(zip(work, expected, strict=True)):
        found = compare(program, outcomes[number], golden, timing, first=first)
        batch = compare_batch(program, batches[number], timing, first=first)
        for name in ("values_equal", "cycles_equal"):
            result[name] = result[name] and found[name] and batch[name]
        differing = {*found["differing"], *batch["differing"]}
        result["differing"] += [result["images"] + image for image in sorted(differing)]
        decided = timing.decisions
        count = len(decided.label)
        rows["program"] += [number] * count
        rows["image"] += range(first, first + count)
        for name, each in (("class", decided.label), ("exit", decided.exit), ("margin", decided.margin)):
            rows[name] += each.tolist()
        rows["cycles"] += timing.cycles.tolist()
        equal += [image not in differing for image in range(count)]
        for name in ("layers", "images", "early", "cycles"):
            result[name] += found[name]
        named = f"{program.network.name}: " if len(work) > 1 else ""
        result["mismatches"] += [f"{named}{text}" for text in found["mismatches"] + batch["mismatches"]]
        for name, count in timing.decisions.counts().items():
            result["decisions"][name] += count
        result["back_to_back"].append(batch["cycles_per_image"])
    if waves is None and netlist is None and result["differing"]:
        waves = Waves().placed()
        images = [(n, (program, codes[n : n + 1])) for program, codes in work for n in range(len(codes))]
        number, image = images[result["differing"][0]]
        run_work([image], waves=waves, **{**options, "conditions": conditions.from_run(number)})
    if waves is not None:
        result["waveform"] = str(waves.path)
    result["decisions"] = dict(result["decisions"])
    result["per_image"] = {**rows, "equal": {hardware: equal}}
    asked = {"simulator": simulator, "netlist": netlist, "seed": seed}
    return {**result, **asked, "seconds": time.monotonic() - begun}
