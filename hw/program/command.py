"""What a program file says of each of its LAYER instructions."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from hw.config import WORD_CHANNELS
from hw.program.tiles import Tile, tiles_of
from hw.rules import integer, integers, require

__all__ = ["Command"]


@dataclass(frozen=True, kw_only=True)
class Command:
    """One LAYER instruction, for people and tests.

    Attributes
    ----------
    name : str
        The tensor it writes, with the channel range where a layer takes several commands.
    kind : str
        Kind of the network layer, ``+add`` where a residual add is fused.
    layer, tensor : str
        The network layer that multiplies, and the tensor that results.
    rows : tuple of tuple of 2 int
        Of each band, first row of the tensor that it writes, and the one after the last.
    channels : tuple of 2 int
        First channel of the tensor that it writes, and the one after the last.
    macs : int
        Multiply-accumulates of the dense layer, without padding.
    groups : int
        Core ``band * groups + group`` makes the output rows of its band in the channel words of its group
        (:func:`hw.program.tiles.tiles_of`).
    partial : bool
        It multiplies some input channels only, and leaves the accumulators to the next command.
    column_major : bool
        A core walks its band column by column.
    """

    name: str
    kind: str
    layer: str
    tensor: str
    rows: tuple[tuple[int, int], ...]
    channels: tuple[int, int]
    macs: int
    groups: int
    partial: bool = False
    column_major: bool = False

    def __post_init__(self) -> None:
        for name in ("name", "kind", "layer", "tensor"):
            require(isinstance(getattr(self, name), str), f"{name} must be a string, not {getattr(self, name)!r}")
        require(
            bool(self.rows) and all(integers(band, 2) for band in self.rows),
            f"{self.name}: rows must be two integers of each band, not {self.rows}",
        )
        require(integers(self.channels, 2), f"{self.name}: channels must be two integers, not {self.channels}")
        require(
            integer(self.macs) and self.macs >= 0,
            f"{self.name}: macs must be an integer of at least 0, not {self.macs!r}",
        )
        for name in ("partial", "column_major"):
            flag = getattr(self, name)
            require(isinstance(flag, bool), f"{self.name}: {name} must be true or false, not {flag!r}")
        require(
            integer(self.groups) and self.groups > 0,
            f"{self.name}: groups must be a positive integer, not {self.groups!r}",
        )

    def to_dict(self) -> dict[str, Any]:
        """As a program file has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        KeyError, TypeError
            When a key is missing or unknown.
        ValueError
            When a value is impossible.
        """
        fields = dict(values)
        fields["rows"] = tuple(tuple(band) for band in fields["rows"])
        fields["channels"] = tuple(fields["channels"])
        return cls(**fields)

    @property
    def bands(self) -> int:
        """Of output rows, over which it is split."""
        return len(self.rows)

    def tiles(self) -> list[Tile]:
        """What each core with work makes of its tensor."""
        first, last = (-(-channel // WORD_CHANNELS) for channel in self.channels)
        return tiles_of(self.rows, (first, last), self.groups)
