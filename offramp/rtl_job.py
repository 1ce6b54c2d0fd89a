"""Files between a program that asks for an RTL run and the simulator process that does it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fpga.driver import RunOutcome
from hw import program
from hw.program import Program

__all__ = ["JOB", "Job", "load_outcomes", "save_outcomes"]

#: Environment variable that names the job file.
JOB = "OFFRAMP_RTL_JOB"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Images to run.

    Attributes
    ----------
    program : Program
    codes : int8 array (images, height, width, channels)
    step : bool
        Stop after every layer and read its output.
    stall : float
        Probability of a pause on either stream, per cycle.
    seed : int
    """

    program: Program
    codes: np.ndarray
    step: bool = True
    stall: float = 0.0
    seed: int = 0

    def save(self, path: Path) -> None:
        """Write the job file and the files beside it that it needs."""
        self.program.save(path.with_suffix(".program"))
        np.save(path.with_suffix(".npy"), self.codes, allow_pickle=False)
        path.write_text(json.dumps({"step": self.step, "stall": self.stall, "seed": self.seed}))

    @classmethod
    def load(cls, path: Path) -> "Job":
        """Read a job file."""
        return cls(
            program=program.load(path.with_suffix(".program")),
            codes=np.load(path.with_suffix(".npy"), allow_pickle=False),
            **json.loads(path.read_text()),
        )


def save_outcomes(path: Path, outcomes: list[RunOutcome]) -> None:
    """Write what the runs reported beside the job file."""
    arrays = {f"{n}/{k}": array for n, outcome in enumerate(outcomes) for k, array in enumerate(outcome.outputs)}
    np.savez(path.with_suffix(".outputs.npz"), **arrays)
    records = [{**asdict(outcome), "outputs": len(outcome.outputs)} for outcome in outcomes]
    path.with_suffix(".outcomes").write_text(json.dumps(records))


def load_outcomes(path: Path) -> list[RunOutcome]:
    """Read what the runs reported."""
    records = json.loads(path.with_suffix(".outcomes").read_text())
    with np.load(path.with_suffix(".outputs.npz"), allow_pickle=False) as arrays:
        return [
            RunOutcome(**{**record, "outputs": [arrays[f"{n}/{k}"] for k in range(record["outputs"])]})
            for n, record in enumerate(records)
        ]
