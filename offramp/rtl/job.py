"""Files between a program that asks for an RTL run and the simulator process that does it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fpga.runs import RunOutcome
from hw.arrays import read_npy, read_npz
from hw.network.exits import Conditions
from hw.program import program
from hw.program.program import Program
from hw.weight_source import PROMPT, WeightSource

__all__ = [
    "JOB",
    "PROGRESS",
    "BatchOutcome",
    "Job",
    "LayerTime",
    "Work",
    "load_layers",
    "load_outcomes",
    "save_outcomes",
]

#: Environment variable that names the job folder.
JOB = "OFFRAMP_RTL_JOB"
#: File of the folder that says how much is done.
PROGRESS = "progress"

#: Programs, each with the images to run on it: int8 (images, height, width, channels).
Work = list[tuple[Program, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class BatchOutcome:
    """What the images of a program did back to back.

    Attributes
    ----------
    outcomes : list of RunOutcome
    results : list of int
        Clock cycle in which the first word of each result went to the host, from the one in which the accelerator took
        the first word of the first RUN.
    """

    outcomes: list[RunOutcome]
    results: list[int]


class LayerTime(NamedTuple):
    """When a layer of an image ran, in the simulator's unit of time.

    Attributes
    ----------
    program : int
        Number of the program.
    layer : int
        Number of the LAYER instruction.
    first, last : int
        From the word that let it go on to the first word of its record.
    """

    program: int
    layer: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work for one simulation.

    Attributes
    ----------
    work : list of (Program, images)
        Done in order; all programs are for the same config.
    conditions : list of Conditions
        Of the runs of each program, from the first number on.
    together : bool
        Load all programs at once; run image after image of all of them in turn, and then those of each back to back.
    step : bool
        Stop after every layer and read its output.
    stall : float
        Probability of a pause on either stream, per cycle.
    seed : int
    source : WeightSource
        External memory; with ``stall`` it pauses, too.
    """

    work: Work
    conditions: list[Conditions]
    together: bool = False
    step: bool = True
    stall: float = 0.0
    seed: int = 0
    source: WeightSource = PROMPT

    def save(self, folder: Path) -> None:
        """Write the job into a folder."""
        for number, (each, codes) in enumerate(self.work):
            each.save(folder / f"{number}.program")
            np.save(folder / f"{number}.npy", codes, allow_pickle=False)
        options = {name: value for name, value in vars(self).items() if name != "work"}
        options |= {"programs": len(self.work), "conditions": [asdict(each) for each in self.conditions]}
        options["source"] = asdict(self.source)
        (folder / "job.json").write_text(json.dumps(options))

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """Read a job from a folder."""
        options = json.loads((folder / "job.json").read_text())
        work = [
            (program.load(folder / f"{number}.program"), read_npy(folder / f"{number}.npy"))
            for number in range(options.pop("programs"))
        ]
        conditions = [Conditions(**each) for each in options.pop("conditions")]
        return cls(work=work, conditions=conditions, source=WeightSource(**options.pop("source")), **options)


def save_outcomes(
    folder: Path, outcomes: list[list[RunOutcome]], batches: list[BatchOutcome], layers: list[LayerTime]
) -> None:
    """Write what the runs reported, program by program, one by one and back to back, and when their layers ran."""
    arrays: dict[str, np.ndarray] = {}
    plain = []
    for p, runs in enumerate(outcomes):
        for n, outcome in enumerate(runs):
            arrays |= {
                f"{p}/{n}/{k}/{c}": array for k, parts in enumerate(outcome.outputs) for c, array in enumerate(parts)
            }
        plain.append([{**asdict(outcome), "outputs": [len(parts) for parts in outcome.outputs]} for outcome in runs])
    np.savez(folder / "outputs.npz", allow_pickle=False, **arrays)
    found = {"runs": plain, "batches": [asdict(batch) for batch in batches], "layers": layers}
    (folder / "outcomes.json").write_text(json.dumps(found))


def load_layers(folder: Path) -> list[LayerTime]:
    """Read when layers ran, in their order; only those of runs one by one."""
    found = json.loads((folder / "outcomes.json").read_text())
    return [LayerTime(*values) for values in found["layers"]]


def load_outcomes(folder: Path) -> tuple[list[list[RunOutcome]], list[BatchOutcome]]:
    """Read what the runs reported, program by program, one by one and back to back."""
    found = json.loads((folder / "outcomes.json").read_text())
    batches = [
        BatchOutcome(outcomes=[RunOutcome(**outcome) for outcome in batch["outcomes"]], results=batch["results"])
        for batch in found["batches"]
    ]
    arrays = read_npz(folder / "outputs.npz")
    runs = [
        [
            RunOutcome(
                **{
                    **outcome,
                    "outputs": [
                        [arrays[f"{p}/{n}/{k}/{c}"] for c in range(count)] for k, count in enumerate(outcome["outputs"])
                    ],
                }
            )
            for n, outcome in enumerate(runs)
        ]
        for p, runs in enumerate(found["runs"])
    ]
    return runs, batches
