"""Builds that are recorded, and the configs that a board is offered for them."""

from dataclasses import dataclass

from fpga.boards import Board
from hw.config import preset
from offramp.result_file import BASELINES, read_json

__all__ = ["RecordedBuild", "recorded_builds"]

#: Thousands of logic cells by the end of nextpnr's name of a device; the 12F is a 25F with another name.
_SIZES = {"12k": 24, "25k": 24, "45k": 44, "85k": 84}


@dataclass(frozen=True, kw_only=True)
class RecordedBuild:
    """A config that was placed and routed.

    Attributes
    ----------
    config : str
    device : str
        As nextpnr calls it.
    fmax_mhz : float
        Its highest clock there.
    """

    config: str
    device: str
    fmax_mhz: float


def _size(device: str) -> int:
    return _SIZES[device.rpartition("-")[2]]


def recorded_builds(board: Board) -> list[RecordedBuild]:
    """What was routed for devices that are no larger than a board's, as fast as was asked: most multipliers first.

    Of builds with equally many, the one for the largest device comes first: it has the largest memories.
    """
    found = []
    for path in BASELINES.glob("build-*.json"):
        record = read_json(path)
        built = record["build"]
        if built["timing_met"] and _size(built["device"]) <= _size(board.device):
            found.append(
                RecordedBuild(config=record["config"], device=built["device"], fmax_mhz=float(built["fmax_mhz"]))
            )
    return sorted(
        found, key=lambda each: (-preset(each.config).multipliers, -_size(each.device), each.config, each.device)
    )
