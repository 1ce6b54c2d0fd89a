"""Reads memory images back: what the simulator executes, the disassembler prints and :mod:`hw.program.check` judges."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hw.program.bits import decode, words_of
from hw.program.isa import Column, Decision, Header, Layer, Opcode, Operation, Row, Selection, SelectKind, Window

__all__ = [
    "CoreLayer",
    "CoreSelection",
    "Instruction",
    "decode_header",
    "decode_images",
    "decode_windows",
    "disassemble",
]


@dataclass(frozen=True, kw_only=True)
class CoreLayer:
    """What one core does in a LAYER.

    Attributes
    ----------
    fields : dict
        The fields of :class:`hw.program.isa.Layer`.
    rows, columns : list of dict
        Its tables; empty where the core takes no part.
    """

    fields: dict[str, Any]
    rows: tuple[dict[str, int], ...] = ()
    columns: tuple[dict[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CoreSelection:
    """What one core does in a SELECT.

    Attributes
    ----------
    fields : dict
        The fields of :class:`hw.program.isa_select.Selection`.
    masks : tuple of int
        Of a MASK: what its table holds, a word for each 8 channels.
    """

    fields: dict[str, int]
    masks: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction of a program image.

    Attributes
    ----------
    address : int
    op : Opcode
    index, target : int
        As in :class:`hw.program.isa.Operation`.
    chunks : int
        Of a LAYER: chunks of lists that it waits for.
    decision : dict
        Of BRANCH and STOP: the fields of :class:`hw.program.isa.Decision`.
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
    decision: dict[str, int] = field(default_factory=dict)
    cores: tuple[CoreLayer, ...] = ()
    selections: tuple[CoreSelection, ...] = ()


class _Words:
    """Words of a memory with range-checked access."""

    def __init__(self, name: str, words: np.ndarray):
        self._name = name
        self._words: list[int] = words.tolist()

    def take(self, layout: Any, address: int) -> dict[str, Any]:
        count = words_of(layout)
        if address + count > len(self._words):
            raise ValueError(
                f"{self._name} image ends at {len(self._words)}, inside the {layout.__name__} at {address}"
            )
        return decode(layout, self._words[address : address + count])

    def layer(self, address: int) -> CoreLayer:
        """The description at an address, with its tables."""
        fields = self.take(Layer, address)
        if not fields["enable"]:
            return CoreLayer(fields=fields)
        source = fields["source"]
        return CoreLayer(
            fields=fields,
            rows=tuple(self.take(Row, source["row_table"] + y) for y in range(source["rows"])),
            columns=tuple(self.take(Column, source["column_table"] + x) for x in range(source["columns"])),
        )

    def selection(self, address: int) -> CoreSelection:
        """The same of a selection, in the last words of a description's space."""
        fields = self.take(Selection, address + words_of(Layer) - words_of(Selection))
        if fields["kind"] != SelectKind.MASK.value:
            return CoreSelection(fields=fields)
        first, count = fields["table"], fields["pitch"]
        if first + count > len(self._words):
            raise ValueError(f"{self._name} image ends at {len(self._words)}, inside the {count} masks at {first}")
        return CoreSelection(fields=fields, masks=tuple(self._words[first : first + count]))


def _layers(images: dict[str, np.ndarray]) -> list[_Words]:
    return [_Words(f"core {core}'s layers", words) for core, words in enumerate(images["layers"])]


def decode_header(images: dict[str, np.ndarray], number: int = 0) -> dict[str, Any]:
    """The fields of the :class:`hw.program.isa.Header` of the program of that number."""
    return _Words("program", images["program"]).take(Header, number * words_of(Header))


def decode_windows(images: dict[str, np.ndarray], number: int = 0) -> tuple[dict[str, int], ...]:
    """What each core keeps of an image of that program: the fields of :class:`hw.program.isa.Window`.

    Raises
    ------
    ValueError
        When a layer memory is too short to say it.
    """
    address = decode_header(images, number)["image_window"]
    return tuple(words.take(Window, address) for words in _layers(images))


def decode_images(images: dict[str, np.ndarray], number: int = 0) -> list[Instruction]:
    """All instructions of the program of that number, in order, the STOP last.

    Raises
    ------
    ValueError
        When the image ends before a STOP, or holds something that is no instruction.
    """
    words, layers = _Words("program", images["program"]), _layers(images)
    found: list[Instruction] = []
    address = decode_header(images, number)["entry"]
    while not found or found[-1].op is not Opcode.STOP:
        operation = words.take(Operation, address)
        try:
            op = Opcode(operation["op"])
        except ValueError:
            raise ValueError(f"program image holds no instruction at {address}, but {operation['op']}") from None
        values = {"address": address, "op": op, "index": operation["index"], "target": operation["target"]}
        address += words_of(Operation)
        if op is Opcode.LAYER:
            cores = tuple(memory.layer(operation["target"]) for memory in layers)
            found.append(Instruction(**values, chunks=operation["chunks"], cores=cores))
        elif op is Opcode.SELECT:
            selections = tuple(memory.selection(operation["target"]) for memory in layers)
            found.append(Instruction(**values, selections=selections))
        else:
            found.append(Instruction(**values, decision=words.take(Decision, address)))
            address += words_of(Decision)
    return found


def _text(fields: dict[str, int]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())


def disassemble(images: dict[str, np.ndarray]) -> str:
    """The program image as text, one instruction a line, below it what each core does."""
    lines = [f"{0:4d}  HEADER  {decode_header(images)}"]
    lines += [f"        core {core}  image     {_text(w)}" for core, w in enumerate(decode_windows(images))]
    for instruction in decode_images(images):
        head = f"{instruction.address:4d}  {instruction.op.name:<6s}  {instruction.index}"
        if instruction.decision:
            head += "  margin {low}..{high}".format(**instruction.decision)
        if instruction.chunks:
            head += f"  behind {instruction.chunks} chunks"
        if instruction.op is Opcode.BRANCH:
            head += f", leave at {instruction.decision['threshold']}"
        lines.append(head)
        for core, selection in enumerate(instruction.selections):
            kind = SelectKind(selection.fields["kind"]).name.lower()
            fields = {name: value for name, value in selection.fields.items() if name != "kind"}
            masks = " ".join(f"{mask:02x}" for mask in selection.masks)
            lines.append(f"        core {core}  {kind:<8s}  {_text(fields)}{'  masks ' + masks if masks else ''}")
        for core, layer in enumerate(instruction.cores):
            lines += [
                f"        core {core}  {part:<8s}  {_text(fields)}"
                for part, fields in layer.fields.items()
                if part == "window" or (part != "enable" and layer.fields["enable"] and fields.get("enable", 1))
            ]
    return "\n".join(lines) + "\n"
