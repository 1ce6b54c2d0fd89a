"""Instructions as values: what the words of a program say, one frozen dataclass for each layout.

Names and meanings of fields are those of :mod:`hw.program.isa`; flags are 0 or 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from hw.program import isa
from hw.program.bits import decode, encode
from hw.program.isa import Opcode

__all__ = [
    "ColumnFields",
    "CoreLayer",
    "CoreSelection",
    "DecisionFields",
    "Fields",
    "FixedPointFields",
    "HeaderFields",
    "Instruction",
    "LaneDescriptionFields",
    "LayerDescriptionFields",
    "ResidualFields",
    "RowFields",
    "SelectionFields",
    "SourceFields",
    "TargetFields",
    "WindowFields",
]


class Fields:
    """The fields of a layout; each subclass names its own, and lists its fields but the reserved ones."""

    layout: ClassVar[Any]
    _nested: ClassVar[dict[str, "type[Fields]"]] = {}

    def __init_subclass__(cls, layout: Any = None) -> None:
        if layout is not None:
            cls.layout = layout
            kinds = cls.__annotations__.items()
            cls._nested = {name: kind for name, kind in kinds if isinstance(kind, type) and issubclass(kind, Fields)}

    @classmethod
    def unpack(cls, words: Sequence[int], **more: Any) -> Self:
        """Read 32-bit words; ``more`` is what a subclass adds to the layout's fields.

        Raises
        ------
        ValueError
            When they aren't as many as the layout takes.
        """
        return cls._of(decode(cls.layout, list(words)), **more)

    @classmethod
    def _of(cls, values: Mapping[str, Any], **more: Any) -> Self:
        own = {**values, **{name: kind._of(values[name]) for name, kind in cls._nested.items()}, **more}
        own.pop("reserved", None)
        return cls(**own)

    def values(self) -> dict[str, Any]:
        """The layout's fields by name, in its order, those of nested layouts as dictionaries."""
        names = [name for name in self.layout.fields if name != "reserved"]
        return {name: getattr(self, name).values() if name in self._nested else getattr(self, name) for name in names}

    def pack(self) -> list[int]:
        """The 32-bit words.

        Raises
        ------
        ValueError
            When a value doesn't fit its field.
        """
        return encode(self.layout, **self.values())


@dataclass(frozen=True, kw_only=True)
class HeaderFields(Fields, layout=isa.Header):
    """Of a program."""

    entry: int
    image_window: int
    image_free: int
    image_words: int
    image_bytes: int
    image_channels: int
    image_zero_point: int
    timeout: int
    chunk_table: int
    chunks: int


@dataclass(frozen=True, kw_only=True)
class DecisionFields(Fields, layout=isa.Decision):
    """Of a BRANCH or STOP."""

    threshold: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class WindowFields(Fields, layout=isa.Window):
    """What a core keeps of a map."""

    bank: int
    base: int
    low: int
    count: int

    @property
    def end(self) -> int:
        """The number after that of the last word of the map that is kept."""
        return self.low + self.count


@dataclass(frozen=True, kw_only=True)
class TargetFields(Fields, layout=isa.Target):
    """What a core makes of a map."""

    first: int
    row_pitch: int
    column_pitch: int
    columns: int
    words: int
    zero_point: int
    everywhere: int


@dataclass(frozen=True, kw_only=True)
class SourceFields(Fields, layout=isa.Source):
    """How a core walks a map."""

    bank: int
    base: int
    row_pitch: int
    column_pitch: int
    words: int
    rows: int
    blank_rows: int
    columns: int
    row_table: int
    column_table: int
    first_list: int
    first_dump: int
    list_step: int
    accumulator_step: int
    dump_length: int
    threshold: int
    max_pool: int
    partial: int
    depthwise: int
    select: int
    first_mask: int


@dataclass(frozen=True, kw_only=True)
class RowFields(Fields, layout=isa.Row):
    """An entry of a core's row table."""

    list: int
    accumulator: int
    count: int
    final: int
    parts: int
    skip: int


@dataclass(frozen=True, kw_only=True)
class ColumnFields(Fields, layout=isa.Column):
    """An entry of a core's column table."""

    list: int
    accumulator: int
    dumps: int
    parts: int
    skip: int


@dataclass(frozen=True, kw_only=True)
class LaneDescriptionFields(Fields, layout=isa.LaneDescription):
    """How a core's accumulators become activations."""

    outputs: int
    channel_base: int
    channels: int
    raw: int
    classes: int
    slow: int
    double: int
    offset: int
    clamp_low: int
    clamp_high: int


@dataclass(frozen=True, kw_only=True)
class FixedPointFields(Fields, layout=isa.FixedPoint):
    """A factor below 1."""

    multiplier: int
    shift: int


@dataclass(frozen=True, kw_only=True)
class ResidualFields(Fields, layout=isa.Residual):
    """The second operand of a fused ADD."""

    enable: int
    bank: int
    base: int
    zero_point: int
    first: FixedPointFields
    second: FixedPointFields
    output: FixedPointFields
    offset: int
    clamp_low: int
    clamp_high: int


@dataclass(frozen=True, kw_only=True)
class LayerDescriptionFields(Fields, layout=isa.LayerDescription):
    """The description of a LAYER."""

    enable: int
    source: SourceFields
    lane: LaneDescriptionFields
    residual: ResidualFields
    target: TargetFields
    window: WindowFields


@dataclass(frozen=True, kw_only=True)
class SelectionFields(Fields, layout=isa.Selection):
    """The description of a SELECT."""

    kind: int
    bank: int
    base: int
    words: int
    pitch: int
    length: int
    count: int
    shift: int
    table: int


@dataclass(frozen=True, kw_only=True)
class CoreLayer(LayerDescriptionFields):
    """What one core does in a LAYER: its description and its tables, which are empty where it takes no part."""

    rows: tuple[RowFields, ...] = ()
    columns: tuple[ColumnFields, ...] = ()

    @property
    def split(self) -> bool:
        """Whether its lists are split: numbers of lists count pairs of words then."""
        return any(row.parts for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class CoreSelection(SelectionFields):
    """What one core does in a SELECT: its description, and of a MASK what its table holds, a word for 8 channels."""

    masks: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction of a program.

    Attributes
    ----------
    address : int
    op : Opcode
    index, target : int
        As in :class:`hw.program.isa.Operation`.
    chunks : int
        Of a LAYER: chunks of lists that it waits for.
    decision : DecisionFields or None
        Of BRANCH and STOP.
    cores : tuple of CoreLayer
        Of a LAYER: what every core does.
    selections : tuple of CoreSelection
        The same of a SELECT.
    """

    address: int
    op: Opcode
    index: int
    target: int
    chunks: int = 0
    decision: DecisionFields | None = None
    cores: tuple[CoreLayer, ...] = ()
    selections: tuple[CoreSelection, ...] = ()

    @property
    def working(self) -> dict[int, CoreLayer]:
        """Of a LAYER: what the cores that take part do, by number of the core."""
        return {number: core for number, core in enumerate(self.cores) if core.enable}
