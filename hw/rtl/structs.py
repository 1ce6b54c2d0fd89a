"""The layouts of :mod:`hw.program` as Amaranth's: what signals and ports of the RTL are declared with.

The RTL imports layouts and enumerations from here; software takes the same names from :mod:`hw.program.isa` and
:mod:`hw.program.protocol`, and needs no Amaranth.
"""

from functools import cache

from amaranth import signed as signed_shape
from amaranth import unsigned
from amaranth.lib import data, enum

from hw.config import AcceleratorConfig
from hw.program import isa, protocol
from hw.program.bits import FieldEnum, Layout, Signed

__all__ = [
    "Burst",
    "Chunk",
    "Column",
    "CommandHeader",
    "Commit",
    "Decision",
    "Entry",
    "ErrorCode",
    "FixedPoint",
    "Header",
    "HostCommand",
    "Identity",
    "LaneDescription",
    "LayerDescription",
    "LayerRecord",
    "Memory",
    "Opcode",
    "Operation",
    "PairWord",
    "Place",
    "ReadRange",
    "Reply",
    "ReplyHeader",
    "Residual",
    "Row",
    "RunError",
    "RunFlags",
    "RunOptions",
    "RunResult",
    "ScaleWords",
    "Segment",
    "SelectKind",
    "SelectUse",
    "Selection",
    "Source",
    "SplitEntry",
    "Target",
    "Window",
    "cuts_layout",
    "entry_layout",
    "pointer_layout",
    "struct",
    "table_layouts",
]


def _enumeration(kind: type[FieldEnum]) -> type[FieldEnum]:
    """The enumeration itself, which Amaranth takes as a shape from now on: a member is the same object in both."""
    kind.__class__ = enum.EnumType
    kind._amaranth_shape_ = unsigned(kind.bits)
    kind._amaranth_view_class_ = enum.EnumView
    return kind


@cache
def struct(layout: type[Layout]) -> type[data.Struct]:
    """A layout as a Struct; ``bits_of`` and ``words_of`` of :mod:`hw.program.bits` take either."""
    return _struct(layout, ())


def _struct(layout: type[Layout], without: tuple[str, ...]) -> type[data.Struct]:
    """The Struct of a layout but for some fields, its last ones."""
    shapes = {name: _shape(field.kind) for name, field in layout.fields.items() if name not in without}
    names = {"__doc__": layout.__doc__, "__module__": __name__, "__annotations__": shapes}
    names["bits"] = sum(field.bits for name, field in layout.fields.items() if name not in without)
    return type(data.Struct)(layout.__name__, (data.Struct,), names)


def _shape(kind):
    if isinstance(kind, Signed):
        return signed_shape(kind.bits)
    if isinstance(kind, type) and issubclass(kind, Layout):
        return struct(kind)
    return kind


def pointer_layout(config: AcceleratorConfig) -> type[data.Struct]:
    """As :func:`hw.program.isa.pointer_layout`."""
    return struct(isa.pointer_layout(config))


def cuts_layout(config: AcceleratorConfig) -> type[data.Struct]:
    """As :func:`hw.program.isa.cuts_layout`."""
    return struct(isa.cuts_layout(config))


def entry_layout(config: AcceleratorConfig) -> type[data.Struct]:
    """As :func:`hw.program.isa.entry_layout`."""
    return struct(isa.entry_layout(config))


@cache
def table_layouts(config: AcceleratorConfig) -> tuple[type[data.Struct], type[data.Struct]]:
    """A Row and a Column, as far as the hardware of a config reads them."""
    if config.split_lists:
        return Row, Column
    return _struct(isa.Row, ("parts", "skip")), _struct(isa.Column, ("parts", "skip"))


Opcode = _enumeration(isa.Opcode)
SelectKind = _enumeration(isa.SelectKind)
SelectUse = _enumeration(isa.SelectUse)
Operation = struct(isa.Operation)
Decision = struct(isa.Decision)
Window = struct(isa.Window)
Target = struct(isa.Target)
Source = struct(isa.Source)
Row = struct(isa.Row)
Column = struct(isa.Column)
LaneDescription = struct(isa.LaneDescription)
FixedPoint = struct(isa.FixedPoint)
Residual = struct(isa.Residual)
LayerDescription = struct(isa.LayerDescription)
Selection = struct(isa.Selection)
Header = struct(isa.Header)
Chunk = struct(isa.Chunk)
Burst = struct(isa.Burst)
Segment = struct(isa.Segment)
Entry = struct(isa.Entry)
SplitEntry = struct(isa.SplitEntry)

HostCommand = _enumeration(protocol.HostCommand)
Memory = _enumeration(protocol.Memory)
Reply = _enumeration(protocol.Reply)
ErrorCode = _enumeration(protocol.ErrorCode)
CommandHeader = struct(protocol.CommandHeader)
RunFlags = struct(protocol.RunFlags)
RunOptions = struct(protocol.RunOptions)
Place = struct(protocol.Place)
Commit = struct(protocol.Commit)
ScaleWords = struct(protocol.ScaleWords)
ReadRange = struct(protocol.ReadRange)
PairWord = struct(protocol.PairWord)
Identity = struct(protocol.Identity)
ReplyHeader = struct(protocol.ReplyHeader)
LayerRecord = struct(protocol.LayerRecord)
RunResult = struct(protocol.RunResult)
RunError = struct(protocol.RunError)
