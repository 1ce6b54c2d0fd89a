"""Reads memory images back: what the simulator executes, the disassembler prints and :mod:`hw.check` judges."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.isa import Branch, Column, Header, Layer, Opcode, Operation, Row, decode, words_of

__all__ = ["Instruction", "decode_header", "decode_images", "disassemble"]


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction of a program image.

    Attributes
    ----------
    address : int
    op : Opcode
    index, target : int
        As in :class:`hw.isa.Operation`.
    threshold : int or None
        Of a BRANCH.
    layer : dict or None
        Of a LAYER: the fields of :class:`hw.isa.Layer`.
    rows, columns : list of dict
        Of a LAYER: its tables.
    """

    address: int
    op: Opcode
    index: int
    target: int
    threshold: int | None = None
    layer: dict[str, Any] | None = None
    rows: tuple[dict[str, int], ...] = ()
    columns: tuple[dict[str, int], ...] = ()


class _Words:
    """Program words with range-checked access."""

    def __init__(self, words: np.ndarray):
        self._words = words

    def take(self, layout: Any, address: int) -> dict[str, Any]:
        count = words_of(layout)
        if address + count > len(self._words):
            raise ValueError(f"program image ends at {len(self._words)}, inside the {layout.__name__} at {address}")
        return decode(layout, self._words[address : address + count].tolist())


def decode_header(images: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fields of :class:`hw.isa.Header`."""
    return _Words(images["program"]).take(Header, 0)


def decode_images(images: dict[str, np.ndarray]) -> list[Instruction]:
    """All instructions that can be reached, by address.

    Raises
    ------
    ValueError
        When an address leads outside the image or to something that is no instruction.
    """
    words = _Words(images["program"])
    found: dict[int, Instruction] = {}
    pending = [decode_header(images)["entry"]]
    while pending:
        address = pending.pop()
        if address in found:
            continue
        operation = words.take(Operation, address)
        try:
            op = Opcode(operation["op"])
        except ValueError:
            raise ValueError(f"program image holds no instruction at {address}, but {operation['op']}") from None
        values = {"address": address, "op": op, "index": operation["index"], "target": operation["target"]}
        if op is Opcode.LAYER:
            layer = words.take(Layer, address + 1)
            source = layer["source"]
            found[address] = Instruction(
                **values,
                layer=layer,
                rows=tuple(words.take(Row, source["row_table"] + y) for y in range(source["rows"])),
                columns=tuple(words.take(Column, source["column_table"] + x) for x in range(source["columns"])),
            )
            pending.append(address + 1 + words_of(Layer))
        elif op is Opcode.BRANCH:
            found[address] = Instruction(**values, threshold=words.take(Branch, address + 1)["threshold"])
            pending += [operation["target"], address + 2]
        else:
            found[address] = Instruction(**values)
    return [found[address] for address in sorted(found)]


def disassemble(images: dict[str, np.ndarray]) -> str:
    """The program image as text, one instruction a line, its fields below."""
    lines = [f"{0:4d}  HEADER  {decode_header(images)}"]
    for instruction in decode_images(images):
        head = f"{instruction.address:4d}  {instruction.op.name:<6s}  {instruction.index}"
        if instruction.op is Opcode.BRANCH:
            head += f"  margin >= {instruction.threshold} -> {instruction.target}"
        lines.append(head)
        if instruction.layer is not None:
            lines += [
                f"        {part:<8s}  " + " ".join(f"{name}={value}" for name, value in fields.items())
                for part, fields in instruction.layer.items()
                if part != "residual" or fields["enable"]
            ]
    return "\n".join(lines) + "\n"
