"""Reads memory images back, once: what the simulator executes, the host follows, the disassembler prints and
:mod:`hw.program.check` judges.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from hw.config import AcceleratorConfig
from hw.program.bits import decode, words_of
from hw.program.chunks import ListChunk, decode_chunks
from hw.program.instructions import (
    ColumnFields,
    CoreLayer,
    CoreSelection,
    DecisionFields,
    Fields,
    HeaderFields,
    Instruction,
    RowFields,
    WindowFields,
)
from hw.program.isa import LayerDescription, Opcode, Operation, Selection, SelectKind

__all__ = ["Decoded", "decode_images", "disassemble", "listing"]

_F = TypeVar("_F", bound=Fields)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What the memory images of a program say.

    Attributes
    ----------
    header : HeaderFields
    windows : tuple of WindowFields
        What each core keeps of an image.
    instructions : tuple of Instruction
        In the order of their addresses, the STOP last.
    chunks : tuple of ListChunk
    """

    header: HeaderFields
    windows: tuple[WindowFields, ...]
    instructions: tuple[Instruction, ...]
    chunks: tuple[ListChunk, ...]

    @cached_property
    def layers(self) -> tuple[Instruction, ...]:
        """The LAYERs; one's index is its number in layer records."""
        return tuple(instruction for instruction in self.instructions if instruction.op is Opcode.LAYER)


class _Words:
    """Words of a memory with range-checked access."""

    def __init__(self, name: str, words: np.ndarray):
        self._name = name
        self._words: list[int] = words.tolist()

    def words(self, layout: Any, address: int) -> list[int]:
        """Those of a layout."""
        count = words_of(layout)
        if address + count > len(self._words):
            raise ValueError(
                f"{self._name} image ends at {len(self._words)}, inside the {layout.__name__} at {address}"
            )
        return self._words[address : address + count]

    def take(self, kind: type[_F], address: int, **more: Any) -> _F:
        """The fields of a layout."""
        return kind.unpack(self.words(kind.layout, address), **more)

    def layer(self, address: int) -> CoreLayer:
        """The description at an address, with its tables."""
        core = self.take(CoreLayer, address)
        if not core.enable:
            return core
        source = core.source
        rows = tuple(self.take(RowFields, source.row_table + y) for y in range(source.rows))
        columns = tuple(self.take(ColumnFields, source.column_table + x) for x in range(source.columns))
        return replace(core, rows=rows, columns=columns)

    def selection(self, address: int) -> CoreSelection:
        """The same of a selection, in the last words of a description's space."""
        core = self.take(CoreSelection, address + words_of(LayerDescription) - words_of(Selection))
        if core.kind != SelectKind.MASK.value:
            return core
        first, count = core.table, core.pitch
        if first + count > len(self._words):
            raise ValueError(f"{self._name} image ends at {len(self._words)}, inside the {count} masks at {first}")
        return replace(core, masks=tuple(self._words[first : first + count]))


def decode_images(images: dict[str, np.ndarray], config: AcceleratorConfig, number: int = 0) -> Decoded:
    """Read the program of that number.

    Parameters
    ----------
    images : dict of str to uint32 array
        As of :class:`hw.program.program.Program`, and of the config's shapes.

    Raises
    ------
    ValueError
        When an image ends inside something, before a STOP, or holds something that is no instruction or no chunk.
    """
    program = _Words("program", images["program"])
    layers = [_Words(f"core {core}'s layers", words) for core, words in enumerate(images["layers"])]
    header = program.take(HeaderFields, number * words_of(HeaderFields.layout))
    return Decoded(
        header=header,
        windows=tuple(words.take(WindowFields, header.image_window) for words in layers),
        instructions=tuple(_instructions(program, layers, header.entry)),
        chunks=tuple(decode_chunks(images, header, config)),
    )


def _instructions(program: _Words, layers: list[_Words], address: int) -> Iterator[Instruction]:
    """All instructions from an address on up to a STOP."""
    op = None
    while op is not Opcode.STOP:
        operation = decode(Operation, program.words(Operation, address))
        try:
            op = Opcode(operation["op"])
        except ValueError:
            raise ValueError(f"program image holds no instruction at {address}, but {operation['op']}") from None
        target, found = operation["target"], {"address": address, "op": op, "index": operation["index"]}
        address += words_of(Operation)
        if op is Opcode.LAYER:
            cores = tuple(memory.layer(target) for memory in layers)
            yield Instruction(**found, target=target, chunks=operation["chunks"], cores=cores)
        elif op is Opcode.SELECT:
            selections = tuple(memory.selection(target) for memory in layers)
            yield Instruction(**found, target=target, selections=selections)
        else:
            yield Instruction(**found, target=target, decision=program.take(DecisionFields, address))
            address += words_of(DecisionFields.layout)


def _text(fields: Fields, *, without: str = "") -> str:
    """Fields by name; of a field of several parts, each part behind the field's name."""
    return " ".join(_field(name, value) for name, value in fields.values().items() if name != without)


def _field(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(_field(f"{name}.{part}", each) for part, each in value.items())
    return f"{name}={value}"


def _shown(core: CoreLayer) -> dict[str, Fields]:
    """The structures of a description that mean something, by name."""
    if not core.enable:
        return {"window": core.window}
    residual: dict[str, Fields] = {"residual": core.residual} if core.residual.enable else {}
    return {"source": core.source, "lane": core.lane} | residual | {"target": core.target, "window": core.window}


def disassemble(program: Decoded, layers: Sequence[str] = ()) -> str:
    """A program as text, one instruction a line, below it what each core does; ``layers`` are the commands' names."""
    lines = [f"{0:4d}  HEADER  {_text(program.header)}"]
    lines += [f"        core {core}  image     {_text(window)}" for core, window in enumerate(program.windows)]
    for instruction in program.instructions:
        head = f"{instruction.address:4d}  {instruction.op.name:<6s}  {instruction.index}"
        if instruction.decision is not None:
            head += f"  margin {instruction.decision.low}..{instruction.decision.high}"
            if instruction.op is Opcode.BRANCH:
                head += f", leave at {instruction.decision.threshold}"
        elif instruction.index < len(layers):
            head += f"  {layers[instruction.index]}"
        if instruction.chunks:
            head += f"  behind {instruction.chunks} chunks"
        lines.append(head)
        for number, selection in enumerate(instruction.selections):
            kind = SelectKind(selection.kind).name.lower()
            masks = " ".join(f"{mask:02x}" for mask in selection.masks)
            text = _text(selection, without="kind") + (f"  masks {masks}" if masks else "")
            lines.append(f"        core {number}  {kind:<8s}  {text}")
        for number, core in enumerate(instruction.cores):
            lines += [f"        core {number}  {name:<8s}  {_text(fields)}" for name, fields in _shown(core).items()]
    return "\n".join(lines) + "\n"


def listing(program: Decoded, layers: Sequence[str] = ()) -> dict[str, Any]:
    """What :func:`disassemble` says, as values: ``header``, ``windows`` by core, ``instructions``."""
    return {
        "header": program.header.values(),
        "windows": [window.values() for window in program.windows],
        "instructions": [_listed(instruction, layers) for instruction in program.instructions],
    }


def _listed(instruction: Instruction, layers: Sequence[str]) -> dict[str, Any]:
    """One instruction, with what each core does; a BRANCH or STOP with its decision, another one with its layer."""
    cores = [{name: fields.values() for name, fields in _shown(core).items()} for core in instruction.cores]
    selections = [
        selection.values() | {"kind": SelectKind(selection.kind).name.lower(), "masks": list(selection.masks)}
        for selection in instruction.selections
    ]
    found: dict[str, Any] = {"address": instruction.address, "op": instruction.op.name, "index": instruction.index}
    if instruction.decision is not None:
        found["decision"] = instruction.decision.values()
    elif instruction.index < len(layers):
        found["layer"] = layers[instruction.index]
    return {**found, "chunks": instruction.chunks, "cores": cores, "selections": selections}
