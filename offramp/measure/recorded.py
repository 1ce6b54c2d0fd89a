"""Builds that are recorded, and the configs that a board is offered for them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpga.boards import BAUD, Board
from fpga.boards import board as board_of
from hw.config import preset
from offramp.files.result_file import BASELINES, read_json

__all__ = ["RecordedBuild", "recorded_build", "recorded_builds"]

#: Thousands of logic cells by the end of nextpnr's name of a device; the 12F is a 25F with another name.
_SIZES = {"12k": 24, "25k": 24, "45k": 44, "85k": 84}


@dataclass(frozen=True, kw_only=True)
class RecordedBuild:
    """A config that was placed and routed.

    Attributes
    ----------
    config : str
    config_digest : str or None
        Digest of the sizes that were built; older baselines have none.
    report : dict
        As :meth:`fpga.flow.build.BuildReport.to_dict` says.
    """

    config: str
    config_digest: str | None = None
    report: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "RecordedBuild":
        """What ``offramp build --json`` wrote."""
        baseline = read_json(path)
        return cls(config=baseline["config"], config_digest=baseline.get("config_digest"), report=baseline["build"])

    @property
    def refusal(self) -> str | None:
        """Why this is no build of the config of its name as it is today; None if it is one."""
        try:
            sizes = preset(self.config).digest()
        except ValueError as error:
            return f"the recorded build of {self.config} is left out: {error}"
        if self.config_digest in (None, sizes):
            return None
        return (
            f"the recorded build of {self.config} is left out: the config's sizes have changed since, "
            f"so that its digest must be {sizes[:16]}, not {self.config_digest[:16]}; build it again"
        )

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
        from fpga.flow.build import build_digest

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
    """The build of a config that figures are given of, if one is recorded of the sizes that the config has today."""
    path = BASELINES / f"build-{config}.json"
    if not path.exists():
        return None
    found = RecordedBuild.read(path)
    return None if found.refusal else found


def _size(device: str) -> int:
    return _SIZES[device.rpartition("-")[2]]


def recorded_builds(board: Board, say: Callable[[str], None] = lambda refusal: None) -> list[RecordedBuild]:
    """What was routed for devices that are no larger than a board's, as fast as was asked: most multipliers first.

    Of builds with equally many, the one for the largest device comes first: it has the largest memories.

    Parameters
    ----------
    say : callable
        Called with the refusal of each baseline that is left out.
    """
    found = []
    for path in sorted(BASELINES.glob("build-*.json")):
        build = RecordedBuild.read(path)
        if not build.report["timing_met"] or _size(build.device) > _size(board.device):
            continue
        if build.refusal:
            say(build.refusal)
        else:
            found.append(build)
    return sorted(
        found, key=lambda each: (-preset(each.config).multipliers, -_size(each.device), each.config, each.device)
    )
