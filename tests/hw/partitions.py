"""What the compiler may choose from, for tests of what it would choose rarely."""

from collections.abc import Sequence

import pytest

from hw.partition import Partition
from hw.planner import Planner
from hw.steps import Step

__all__ = ["only"]


def only(monkeypatch: pytest.MonkeyPatch, **wanted: bool) -> None:
    """Leave the planner the partitions with these attributes only; all, where a layer has none such.

    ``merged`` is whether lists are, ``upright`` whether cores walk column by column.
    """
    of_layer = Planner._partitions

    def partitions(planner: Planner, steps: Sequence[Step]) -> list[Partition]:
        found = of_layer(planner, steps)
        return [p for p in found if all(getattr(p, name) is value for name, value in wanted.items())] or found

    monkeypatch.setattr(Planner, "_partitions", partitions)
