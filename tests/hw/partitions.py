"""What the compiler may choose from, for tests of what it would choose rarely."""

from collections.abc import Sequence

import pytest

from hw.compiler.search.partition_options import Options
from hw.compiler.steps.partition import Partition
from hw.compiler.steps.step import Step

__all__ = ["only"]


def only(monkeypatch: pytest.MonkeyPatch, **wanted: int) -> None:
    """Leave the planner the partitions with these attributes only; all, where a layer has none such.

    ``merged`` and ``split`` are whether lists are, ``column_major`` whether cores walk column by column, ``bands`` into
    how many parts the rows are cut.
    """
    of_layer = Options._partitions

    def partitions(options: Options, steps: Sequence[Step]) -> list[Partition]:
        found = of_layer(options, steps)
        return [p for p in found if all(getattr(p, name) == value for name, value in wanted.items())] or found

    monkeypatch.setattr(Options, "_partitions", partitions)
