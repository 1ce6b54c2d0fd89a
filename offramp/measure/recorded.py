"""Builds that are recorded, and the configs that a board is offered for them."""

from dataclasses import dataclass
from typing import Any

from fpga.boards import BAUD, Board
from fpga.boards import board as board_of
from hw.config import preset
from offramp.result_file import BASELINES, read_json

__all__ = ["RecordedBuild", "recorded_build", "recorded_builds"]

#: Thousands of logic cells by the end of nextpnr's name of a device; the 12F is a 25F with another name.
_SIZES = {"12k": 24, "25k": 24, "45k": 44, "85k": 84}


@dataclass(frozen=True, kw_only=True)
class RecordedBuild:
    """A config that was placed and routed.

    Attributes
    ----------
    config : str
    report : dict
        As :meth:`fpga.build.BuildReport.to_dict` says.
    """

    config: str
    report: dict[str, Any]

    @property
    def device(self) -> str:
        """As nextpnr calls it."""
        return str(self.report["device"])

    @property
    def clock_mhz(self) -> float:
        """Clock that the bitstream's PLL makes."""
        return float(self.report["clock_mhz"])

    @property
    def fmax_mhz(self) -> float:
        """Highest clock of the placed and routed design."""
        return float(self.report["fmax_mhz"])

    def is_current(self) -> bool:
        """Whether the same command would build the same today: Verilog, pins and options; its Verilog is made anew."""
        from fpga.build import build_digest

        made = self.report
        today = build_digest(
            preset(self.config),
            board_of(made["board"]),
            clock_mhz=self.clock_mhz,
            # Records of before --baud have none.
            baud=made.get("baud", BAUD),
            seed=made["seed"],
            tools=made["tools"],
        )
        return today == made["digest"]


def recorded_build(config: str) -> RecordedBuild | None:
    """The build of a config that figures are given of, if one is recorded."""
    path = BASELINES / f"build-{config}.json"
    return RecordedBuild(config=config, report=read_json(path)["build"]) if path.exists() else None


def _size(device: str) -> int:
    return _SIZES[device.rpartition("-")[2]]


def recorded_builds(board: Board) -> list[RecordedBuild]:
    """What was routed for devices that are no larger than a board's, as fast as was asked: most multipliers first.

    Of builds with equally many, the one for the largest device comes first: it has the largest memories.
    """
    records = [read_json(path) for path in BASELINES.glob("build-*.json")]
    found = [
        RecordedBuild(config=record["config"], report=record["build"])
        for record in records
        if record["build"]["timing_met"] and _size(record["build"]["device"]) <= _size(board.device)
    ]
    return sorted(
        found, key=lambda each: (-preset(each.config).multipliers, -_size(each.device), each.config, each.device)
    )
