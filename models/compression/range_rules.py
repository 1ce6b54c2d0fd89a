"""The ways in which the range of a map's codes is chosen, by name (:mod:`models.compression.ranges`)."""

from typing import Literal, get_args

from hw.rules import require

__all__ = ["RANGES", "Ranges", "check_ranges"]

Ranges = Literal["minmax", "percentile", "mse"]
#: Ways to choose a range.
RANGES: tuple[str, ...] = get_args(Ranges)


def check_ranges(name: str) -> None:
    """Refuse a way that there isn't.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    require(name in RANGES, f"ranges must be one of {', '.join(RANGES)}, not {name!r}")
