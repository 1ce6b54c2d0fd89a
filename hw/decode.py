"""Reads memory images back: what the simulator executes, the disassembler prints and the loader checks."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.config import LIST_WORD_BITS, AcceleratorConfig
from hw.isa import MAX_CLASSES, Branch, Column, Header, Layer, Opcode, Operation, Row, decode, words_of

__all__ = ["Instruction", "check_images", "decode_header", "decode_images", "disassemble"]


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


def decode_images(images: dict[str, np.ndarray], config: AcceleratorConfig) -> list[Instruction]:
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


def check_images(images: dict[str, np.ndarray], config: AcceleratorConfig) -> None:
    """Refuse images that aren't those of a runnable program.

    Raises
    ------
    ValueError
        Naming the image or instruction, the rule and the value.
    """
    depths = {"program": config.program_words, "lists": config.list_words}
    depths |= dict.fromkeys(("bias", "multiplier", "shift"), config.channel_words)
    if images.keys() != depths.keys():
        raise ValueError(f"images must be {', '.join(depths)}, not {', '.join(images)}")
    for name, depth in depths.items():
        image = images[name]
        leading = (config.multipliers,) if name == "lists" else ()
        if image.dtype != np.uint32 or image.shape[:-1] != leading or image.ndim != len(leading) + 1:
            raise ValueError(f"{name} image must be uint32 of shape {(*leading, 'words')}, not {image.dtype} {image.shape}")
        if image.shape[-1] > depth:
            raise ValueError(f"{name} image has {image.shape[-1]} words, the memory {depth}")
    if (images["lists"] >> LIST_WORD_BITS).any():
        raise ValueError(f"lists image must hold {LIST_WORD_BITS}-bit words")
    instructions = decode_images(images, config)
    branches = [i for i in instructions if i.op is Opcode.BRANCH]
    if any(branch.target <= branch.address for branch in branches):
        raise ValueError("a branch must lead forward, or the program might never end")
    for instruction in instructions:
        if instruction.layer is not None:
            _check_layer(instruction, config)


def _check_layer(instruction: Instruction, config: AcceleratorConfig) -> None:
    assert instruction.layer is not None
    where = f"layer {instruction.index} at {instruction.address}"
    source, lane = instruction.layer["source"], instruction.layer["lane"]
    if not instruction.rows or not instruction.columns:
        raise ValueError(f"{where}: it must have rows and columns")
    if any(row["count"] == 0 for row in instruction.rows):
        raise ValueError(f"{where}: every row must meet a kernel row")
    if not 0 < source["accumulator_step"] <= source["accumulator_wrap"] <= config.accumulators:
        raise ValueError(
            f"{where}: accumulators of a row and of all rows must be in 1..{config.accumulators}, "
            f"not {source['accumulator_step']} and {source['accumulator_wrap']}"
        )
    dumps = sum(row["dumps"] for row in instruction.rows)
    if dumps * source["accumulator_step"] * config.multipliers != lane["outputs"]:
        raise ValueError(
            f"{where}: {dumps} rows of {source['accumulator_step']} accumulators on {config.multipliers} PEs "
            f"don't make {lane['outputs']} outputs"
        )
    if lane["channels"] % config.pes or not lane["channels"] or lane["outputs"] % lane["channels"]:
        raise ValueError(f"{where}: channels must be a multiple of {config.pes} that divides the outputs, not {lane['channels']}")
    if lane["raw"] and not (2 <= lane["classes"] <= min(MAX_CLASSES, lane["channels"])):
        raise ValueError(f"{where}: a head must have 2 to {MAX_CLASSES} classes, not {lane['classes']}")


def disassemble(images: dict[str, np.ndarray], config: AcceleratorConfig) -> str:
    """The program image as text, one instruction a line, its fields below."""
    lines = [f"{0:4d}  HEADER  {decode_header(images)}"]
    for instruction in decode_images(images, config):
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
