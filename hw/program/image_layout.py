"""Lays descriptions, tables, instructions and the chunk table out in the words of layer and program memories."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig
from hw.program.bits import encode, words_of
from hw.program.isa import Chunk, Column, Decision, Header, LayerDescription, Operation, Row, Selection, Window
from hw.rules import MisfitError

__all__ = ["description_words", "fits", "instruction_words", "layer_image", "most_described", "program_image", "stack"]


def fits(memory: str, used: int, size: int) -> None:
    """Refuse what a memory can't hold.

    Raises
    ------
    MisfitError
        The message says by how much it is too small.
    """
    if used > size:
        raise MisfitError(f"{memory} memory holds {size} words; this network needs {used}, {used - size} too many")


def _encode(name: str, layout: Any, fields: Mapping[str, Any]) -> list[int]:
    """Pack fields, naming the layer whose values don't fit them."""
    try:
        return encode(layout, **fields)
    except ValueError as error:
        raise MisfitError(f"{name}: {error}: the layer is too large for the instruction format") from error


def instruction_words(layers: int, exits: int) -> int:
    """Words of header and instructions; ``layers`` counts selections as well."""
    return words_of(Header) + layers * words_of(Operation) + exits * (words_of(Operation) + words_of(Decision))


def description_words(layers: int) -> int:
    """Words of the image's window and of descriptions; ``layers`` counts selections as well."""
    return words_of(Window) + layers * words_of(LayerDescription)


def most_described(exits: int, config: AcceleratorConfig) -> int:
    """The most layers and selections whose instructions and descriptions the memories hold."""
    instructions = (config.program_words - instruction_words(0, exits)) // words_of(Operation)
    return min(instructions, (config.layer_words - description_words(0)) // words_of(LayerDescription))


def layer_image(
    name: str, window: Mapping[str, int], layers: Sequence[Mapping[str, Any]], config: AcceleratorConfig
) -> list[int]:
    """A core's layer memory: window of the image, descriptions, tables.

    Parameters
    ----------
    name : str
        Network.
    window : dict
        Fields of :class:`hw.program.isa.Window`.
    layers : sequence of dict
        Each with a ``name``, and the fields of a :class:`hw.program.isa.LayerDescription`, ``rows`` and ``columns``, or
        the fields of a ``selection`` and its ``masks``.
    """
    start = description_words(len(layers))
    table: list[int] = []
    placed: dict[tuple[int, ...], int] = {}

    def put(words: tuple[int, ...]) -> int:
        """Where a table lies; equal ones are kept once."""
        if words not in placed:
            placed[words] = start + len(table)
            table.extend(words)
        return placed[words]

    body = _encode(name, Window, window)
    for layer in layers:
        if "selection" in layer:
            selection = layer["selection"] | ({"table": put(tuple(layer["masks"]))} if layer["masks"] else {})
            body += [0] * (words_of(LayerDescription) - words_of(Selection)) + _encode(
                layer["name"], Selection, selection
            )
            continue
        fields = {name: layer[name] for name in LayerDescription.fields}
        if layer["enable"]:
            for entries, layout in (("rows", Row), ("columns", Column)):
                words = tuple(word for entry in layer[entries] for word in _encode(layer["name"], layout, entry))
                fields["source"] = fields["source"] | {f"{entries.removesuffix('s')}_table": put(words)}
        body += _encode(layer["name"], LayerDescription, fields)
    fits("layer", start + len(table), config.layer_words)
    return body + table


def program_image(
    name: str,
    header: Mapping[str, int],
    operations: Sequence[Mapping[str, Any]],
    chunks: Sequence[tuple[np.ndarray, int]],
    config: AcceleratorConfig,
) -> list[int]:
    """The program memory: header, instructions, chunk table.

    Parameters
    ----------
    name : str
        Network.
    header : dict
        Fields of :class:`hw.program.isa.Header` but those that say what lies where.
    operations : sequence of dict
        Each with a ``name`` to blame, fields of a :class:`hw.program.isa.Operation`, the number of its description as
        ``description`` where it has one, and the fields of its ``decision``.
    chunks : sequence of (uint32 array, int)
        Words of each chunk, and the layers that end before it.
    """
    entry = words_of(Header)
    body: list[int] = []
    for operation in operations:
        fields = {field: operation.get(field, 0) for field in ("op", "index", "chunks")}
        if "description" in operation:
            fields["target"] = description_words(operation["description"])
        body += _encode(operation["name"], Operation, {"target": 0} | fields)
        if "decision" in operation:
            body += encode(Decision, **operation["decision"])
    tables = {"entry": entry, "chunk_table": entry + len(body), "chunks": len(chunks)}
    address = 0
    for words, after in chunks:
        beats = len(words) // config.loader
        body += encode(Chunk, address=address, beats=beats, after=after)
        address += beats
    fits("program", entry + len(body), config.program_words)
    return _encode(name, Header, dict(header) | tables) + body


def stack(rows: Sequence[list[int]]) -> np.ndarray:
    """Words of all cores, filled up with zeros: uint32 (cores, words)."""
    length = max(len(words) for words in rows)
    return np.array([[*words, *[0] * (length - len(words))] for words in rows], dtype=np.uint32)
