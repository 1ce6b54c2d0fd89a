"""Values and cycles of a program on a set of images, with the statistics people ask for."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.network.exits import DEFAULT, Conditions
from hw.program.program import Program
from models.compression.quantize import encode
from models.datasets.sources import Progress
from sim import Simulation, constant_time, has_known_time, simulate, time_batch, worst_case

__all__ = ["Measurement", "cycle_statistics", "layer_statistics", "measure"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a program does with N images.

    Parameters
    ----------
    labels : int64 array, (N,), or None
    simulation : Simulation
        Cycles and decisions.
    exits : int
        Exits of the network.
    bound : int
        Most cycles that any image can take (:func:`sim.worst_case`).
    back_to_back : float or None
        Cycles per image where a host sends them without a pause, each on its way while the one before is computed;
        None where the simulator can't know.
    """

    labels: np.ndarray | None
    simulation: Simulation
    exits: int
    bound: int
    back_to_back: float | None = None

    @property
    def right(self) -> np.ndarray:
        """Whether each image's class is right: bool array, (N,); there must be labels."""
        if self.labels is None:
            raise ValueError("right must be asked of images with labels")
        return np.asarray(self.simulation.classes == self.labels)

    @property
    def exit_index(self) -> np.ndarray:
        """The exit each image takes: int64 array, (N,)."""
        return self.simulation.exit_index

    @property
    def cycles(self) -> np.ndarray:
        """Of the whole inference, up to the exit taken: int64 array, (N,)."""
        return self.simulation.cycles

    def to_dict(self) -> dict[str, Any]:
        """Everything but what concerns single images; the distribution of cycles as values and how often each came."""
        values, counts = np.unique(self.cycles, return_counts=True)
        return {
            "images": len(self.cycles),
            "accuracy": None if self.labels is None else float(self.right.mean()),
            "exit_share": (np.bincount(self.exit_index, minlength=self.exits) / len(self.exit_index)).tolist(),
            "cycles": cycle_statistics(self.cycles) | {"bound": self.bound},
            "distribution": {"cycles": values.tolist(), "images": counts.tolist()},
            "back_to_back": self.back_to_back,
            "decisions": self.simulation.decisions.counts(),
            "layers": layer_statistics(self.simulation),
        }

    def per_image(self) -> dict[str, list[int]]:
        """Class, exit, margin there and cycles of every image; and its label, where there are labels."""
        made = self.simulation.decisions
        found = {"label": self.labels, "class": made.label, "exit": made.exit, "margin": made.margin}
        found |= {"cycles": self.cycles}
        return {name: values.tolist() for name, values in found.items() if values is not None}


def layer_statistics(found: Simulation) -> list[dict[str, Any]]:
    """Means of every layer over the images that came to it.

    ``select`` are the cycles of the selection before it, ``jobs`` the activations that were handed out.
    """
    rows = []
    for number, name in enumerate(found.layer_names):
        came = found.layer_cycles[:, number] > 0
        count = max(1, int(came.sum()))
        cycles, limit = int(found.layer_cycles[:, number].sum()), float(found.limit[:, number].sum())
        rows.append(
            {
                "name": name,
                "images": int(came.sum()),
                "cycles": cycles / count,
                "select": int(found.select_cycles[:, number].sum()) / count,
                "products": int(found.products[:, number].sum()) / count,
                "jobs": int(found.jobs[:, number].sum()) / count,
                "limit": limit / count,
                "share_of_limit": limit / cycles if cycles else None,
                "loss": {cause: float(lost[:, number].sum()) / count for cause, lost in found.loss.items()},
            }
        )
    return rows


def cycle_statistics(cycles: np.ndarray) -> dict[str, float]:
    """Mean, median, 99th percentile and maximum; the percentiles are values that occurred."""
    p50, p99 = np.percentile(cycles, [50, 99], method="inverted_cdf")
    return {"mean": float(cycles.mean()), "p50": int(p50), "p99": int(p99), "worst": int(cycles.max())}


def measure(
    program: Program,
    images: np.ndarray,
    labels: np.ndarray | None,
    *,
    conditions: Conditions = DEFAULT,
    progress: Progress | None = None,
    text: str = "",
) -> Measurement:
    """Run a program's images through golden model and simulator.

    Parameters
    ----------
    images : array, (N, height, width, channels)
        At least one; floats (:func:`models.compression.quantize.encode`), or int8 codes.
    labels : int64 array, (N,), or None
        None where they aren't known.
    conditions : Conditions
        Of the runs.
    progress : function or None
        Called with images done, N and the text.

    Raises
    ------
    ValueError
        When there is no image, or the images aren't what the network takes.
    """
    labelled = len(images) if labels is None else len(labels)
    if len(images) == 0 or len(images) != labelled:
        raise ValueError(f"images must be at least one, with one label each, not {len(images)} with {labelled}")
    codes = images if images.dtype == np.int8 else encode(images, program.network)

    def report(done: int, total: int, what: str) -> None:
        if progress is not None:
            progress(done, total, text if what == "simulate" else f"{text}: {what}")

    found = simulate(program, codes, conditions=conditions, progress=report)
    batch = time_batch(program, found).cycles_per_image if has_known_time(program, found) else None
    return Measurement(
        labels=labels,
        simulation=found,
        exits=len(program.network.exits),
        bound=_bound(program, conditions),
        back_to_back=batch,
    )


def _bound(program: Program, conditions: Conditions) -> int:
    """Most cycles of a run under these conditions; in constant time none takes fewer than it is to take."""
    if conditions.constant:
        return int(max(worst_case(program), constant_time(program, conditions).deadline))
    return int(worst_case(program, deadline=conditions.deadline))
