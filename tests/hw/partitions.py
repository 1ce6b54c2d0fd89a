"""What the compiler may choose from, for tests of what it would choose rarely."""

import pytest

from hw.partition import Partition
from hw.planner import Planner
from hw.steps import Step

__all__ = ["only_merged"]


def only_merged(monkeypatch: pytest.MonkeyPatch, merged: bool) -> None:
    """Leave the planner the partitions with merged lists only, or those without; all, where a layer has none such."""
    of_step = Planner._partitions

    def partitions(planner: Planner, step: Step) -> list[Partition]:
        found = of_step(planner, step)
        return [partition for partition in found if partition.merged is merged] or found

    monkeypatch.setattr(Planner, "_partitions", partitions)
