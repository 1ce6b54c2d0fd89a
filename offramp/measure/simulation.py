"""A program on images, clean or attacked, in the golden model and the simulator: what ``offramp simulate`` says."""

from dataclasses import asdict
from typing import Any

import numpy as np

from fpga.boards import BAUD
from fpga.throughput import throughput
from hw.network.exits import DEFAULT, Conditions
from hw.program.program import Program
from hw.rules import require
from models.compression.fakequant import INPUT_SCALE, INPUT_ZERO_POINT
from models.compression.quantize import encode
from models.datasets.sources import Progress
from models.datasets.splits import Split
from offramp.measure.inputs import ATTACKS, Attack, attacked
from offramp.measure.measure import Measurement, measure
from sim import core_times

__all__ = ["measured", "reach_curve", "simulated", "timeline_of"]


def simulated(
    program: Program,
    images: np.ndarray,
    labels: np.ndarray | None,
    kind: Attack,
    *,
    eps: float,
    clock_mhz: float,
    link: str = "serial",
    curve: int = 0,
    timeline: int | None = None,
    conditions: Conditions = DEFAULT,
    **settings: Any,
) -> dict[str, Any]:
    """A program on images under an attack, and what a board makes of it: all figures, for a result file.

    Parameters
    ----------
    images, labels, kind, eps, conditions, settings
        As of :func:`measured`.
    clock_mhz : float
        Clock of the board.
    link : str
        Of the board, as of :func:`fpga.links.link_of`; a serial one is as fast as boards have it.
    curve : int
        At so many smaller eps, too (:func:`reach_curve`).
    timeline : int, optional
        Also when each core works on this one of the images, and what its PEs do (:func:`timeline_of`).

    Raises
    ------
    ValueError
        When there is no such image, or as of :func:`measured`.
    """
    if timeline is not None and timeline >= len(images):
        raise ValueError(f"--timeline must be in 0..{len(images) - 1}, one of the images, not {timeline}")
    settings["conditions"] = conditions
    changed, found = measured(program, images, labels, kind, eps=eps, **settings)
    result: dict[str, Any] = found.to_dict() | {"per_image": found.per_image(), "board": None}
    if curve:
        result["security"] = reach_curve(program, images, labels, kind, eps=eps, points=curve, full=found, **settings)
    if timeline is not None:
        result |= {"timeline_image": timeline, "timeline": timeline_of(program, changed, timeline, conditions)}
    result["thresholds"] = [head.threshold for head in program.network.exits[:-1]]
    result |= {"cores": program.config.cores, "multipliers": program.config.multipliers}
    if not program.config.loader:  # no board has a memory to read lists from
        cycles, shape = float(found.cycles.mean()), program.network.input.shape
        how: dict[str, Any] = {"clock_mhz": clock_mhz, "baud": BAUD, "link": link}
        result["board"] = throughput(shape, cycles, back_to_back=found.back_to_back, **how).to_dict()
    return result


def measured(
    program: Program,
    images: np.ndarray,
    labels: np.ndarray | None,
    kind: Attack,
    *,
    eps: float,
    seed: int,
    conditions: Conditions = DEFAULT,
    progress: Progress | None = None,
) -> tuple[np.ndarray, Measurement]:
    """A program on images under an attack: the images, and what it makes of them.

    Images and labels are as of :func:`offramp.measure.measure.measure`.

    Raises
    ------
    ValueError
        When an attack is asked for and images aren't pixels in 0..1, with labels.
    """
    if kind.steps:
        taken = program.network.input.scale, program.network.input.zero_point
        pixels = images.dtype == np.float32 and taken == (INPUT_SCALE, INPUT_ZERO_POINT)
        require(
            labels is not None and pixels,
            f"attack {kind.name} must have images in 0..1 with labels, and a network that takes such; others: clean",
        )
        assert labels is not None
        split = Split(images=images, labels=labels)
        images = attacked(kind, program.network, split, eps=eps, seed=seed, progress=progress)
    text = f"{kind.name}, golden and simulator"
    return images, measure(program, images, labels, conditions=conditions, progress=progress, text=text)


def reach_curve(
    program: Program,
    images: np.ndarray,
    labels: np.ndarray | None,
    kind: Attack,
    *,
    eps: float,
    points: int,
    full: Measurement,
    **options: Any,
) -> list[dict[str, float]]:
    """Accuracy and mean cycles against the reach of an attack: at so many smaller eps, evenly apart from 0 on, and at
    ``eps``, whose measurement is there. Images, labels and options are as of :func:`measured`.
    """
    steps = [(eps * number / points, kind if number else ATTACKS["clean"]) for number in range(points)]
    found = [(reach, measured(program, images, labels, how, eps=reach, **options)[1]) for reach, how in steps]
    return [
        {
            "eps": reach,
            "images": len(each.cycles),
            "accuracy": float(each.right.mean()),
            "cycles": float(each.cycles.mean()),
        }
        for reach, each in [*found, (eps, full)]
    ]


def timeline_of(program: Program, images: np.ndarray, image: int, conditions: Conditions) -> list[dict[str, Any]]:
    """When each core works on one of the images: the fields of :class:`sim.core_times.CoreTimes`."""
    one = images[image : image + 1]
    codes = one if one.dtype == np.int8 else encode(one, program.network)
    return [asdict(each) for each in core_times(program, codes, conditions=conditions.from_run(image))]
