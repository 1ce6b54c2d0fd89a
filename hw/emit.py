"""Lays instructions, tables, lists and channel parameters out in the memory images of a program."""

from typing import Any

import numpy as np

from hw.config import MASK_CHANNELS, AcceleratorConfig
from hw.isa import Branch, Column, Header, Opcode, Operation, Row, encode, words_of
from hw.isa import Layer as LayerWords
from hw.memory_plan import Placement
from hw.network import INPUT, Add, Layer, Linear, Network, Tensor
from hw.numerics import Rounding, add_scales
from hw.schedule import Schedule
from hw.sparse import ListStore

__all__ = ["Emitter"]

#: Cycles granted to each layer beyond its serial work before a run counts as hung.
_LAYER_SLACK = 1000


def _code(value: int) -> int:
    """Two's complement of an int8."""
    return value & 0xFF


def _fits(memory: str, used: int, size: int) -> None:
    """Refuse what a memory can't hold."""
    if used > size:
        raise ValueError(f"{memory} memory holds {size} words; this network needs {used}, {used - size} too many")


def _encode(name: str, layout: Any, fields: dict[str, Any]) -> list[int]:
    """Pack fields, naming the layer whose values don't fit them."""
    try:
        return encode(layout, **fields)
    except ValueError as error:
        raise ValueError(f"{name}: {error}: the layer is too large for the instruction format") from error


class Emitter:
    """Collects what the compiler decides and turns it into memory images.

    Parameters
    ----------
    placements : dict of str to Placement
        Where every stored tensor lies.
    """

    def __init__(self, network: Network, config: AcceleratorConfig, placements: dict[str, Placement]):
        self._network = network
        self._config = config
        self._places = placements
        self._tensors = network.tensors()
        self._lists = ListStore(config)
        self._channels: list[list[np.ndarray]] = [[], [], []]
        self._channel_count = 0
        self._instructions: list[dict[str, Any]] = []
        self._limit = 0

    def _pitch(self, name: str) -> tuple[int, int]:
        """Activations and mask words from one position of a tensor to the next."""
        channels = self._tensors[name].shape[2]
        stored = channels if name == INPUT else self._config.padded_channels(channels)
        return stored, -(-stored // MASK_CHANNELS)

    def _source(self, name: str, schedule: Schedule) -> dict[str, int]:
        place, width = self._places[name], self._tensors[name].shape[1]
        pitch, words = self._pitch(name)
        down, right = schedule.steps
        return {
            "bank": place.bank,
            "base": place.base,
            "row_pitch": down * width * pitch,
            "column_pitch": right * pitch,
            "mask_base": place.mask_base,
            "mask_row_pitch": down * width * words,
            "mask_column_pitch": right * words,
            "mask_words": words,
            "rows": len(schedule.rows),
            "columns": len(schedule.columns),
            "list_step": schedule.row_step * schedule.channels,
            "accumulator_step": schedule.width,
            "accumulator_wrap": schedule.accumulators,
        }

    def _target(self, name: str, tensor: Tensor, first: int, channels: int) -> dict[str, int]:
        place = self._places.get(name, Placement(0, 0, 0))
        pitch, words = self._pitch(name)
        return {
            "bank": place.bank,
            "base": place.base + first,
            "pitch": pitch,
            "channels": channels,
            "mask_base": place.mask_base + first // MASK_CHANNELS,
            "mask_pitch": words,
            "zero_point": _code(tensor.zero_point),
        }

    def _residual(self, layer: Layer, add: Add | None, residual: str | None, first: int) -> dict[str, int]:
        if add is None or residual is None:
            names = ("enable", "bank", "base", "pitch", "zero_point", "offset", "clamp_low", "clamp_high")
            factors = [f"{which}_{part}" for which in ("first", "second", "output") for part in ("multiplier", "shift")]
            return dict.fromkeys((*names, *factors), 0)
        scales = add_scales(layer.output.scale, self._tensors[residual].scale, add.output.scale)
        place = self._places[residual]
        return {
            "enable": 1,
            "bank": place.bank,
            "base": place.base + first,
            "pitch": self._pitch(residual)[0],
            "zero_point": _code(layer.output.zero_point),
            "first_multiplier": scales.first.multiplier,
            "first_shift": scales.first.shift,
            "second_multiplier": scales.second.multiplier,
            "second_shift": scales.second.shift,
            "output_multiplier": scales.output.multiplier,
            "output_shift": scales.output.shift,
            "offset": _code(add.output.zero_point),
            "clamp_low": _code(add.clamp[0]),
            "clamp_high": _code(add.clamp[1]),
        }

    def layer(
        self,
        *,
        layer: Layer,
        add: Add | None,
        residual: str | None,
        schedule: Schedule,
        channels: tuple[int, int],
        parameters: tuple[np.ndarray, ...],
        rounding: Rounding,
        offset: int,
    ) -> None:
        """Append a LAYER instruction for some of a layer's output channels.

        Parameters
        ----------
        channels : tuple of 2 int
            First stored channel, and the one after the last, dummies included.
        parameters : arrays
            Bias, multiplier, shift of these channels.
        offset : int
            Code added after scaling.
        """
        result = add or layer
        first, end = channels
        raw = isinstance(layer, Linear) and layer.raw
        outputs = result.output.shape[0] * result.output.shape[1] * (end - first)
        lane = {
            "outputs": outputs,
            "channel_base": self._channel_count,
            "channels": end - first,
            "raw": int(raw),
            "classes": self._network.classes if raw else 0,
            "double": int(rounding is Rounding.DOUBLE),
            "offset": _code(offset),
            "clamp_low": _code(layer.clamp[0]),
            "clamp_high": _code(layer.clamp[1]),
        }
        self._instructions.append(
            {
                "op": Opcode.LAYER,
                "name": result.name,
                "rows": schedule.row_fields(schedule.add_lists(self._lists)),
                "columns": schedule.column_fields(self._config.accumulators),
                "source": self._source(layer.inputs[0], schedule),
                "lane": lane,
                "residual": self._residual(layer, add, residual, first),
                "target": self._target(result.name, result.output, first, end - first),
            }
        )
        for store, values in zip(self._channels, parameters, strict=True):
            store.append(values)
        self._channel_count += end - first
        self._limit += schedule.serial_cycles(outputs) + _LAYER_SLACK

    def exits(self, name: str) -> None:
        """Append the decision behind a layer, if it is a head."""
        for number, head in enumerate(self._network.exits):
            if head.logits == name:
                op = Opcode.STOP if head.threshold is None else Opcode.BRANCH
                self._instructions.append({"op": op, "index": number, "threshold": head.threshold})

    def images(self) -> dict[str, np.ndarray]:
        """The memory images.

        Raises
        ------
        ValueError
            When a memory is too small; the message says which, and by how much.
        """
        _fits("channel", self._channel_count, self._config.channel_words)
        names = ("bias", "multiplier", "shift")
        images = {
            name: (np.concatenate(parts) & 0xFFFF_FFFF).astype(np.uint32)
            for name, parts in zip(names, self._channels, strict=True)
        }
        # Lists come first: without room for them, their numbers may not fit the tables either.
        images = {"lists": self._lists.pack()} | images
        return {"program": np.array(self._program(), dtype=np.uint32)} | images

    def _program(self) -> list[int]:
        """Header, instructions, the STOPs that branches lead to, tables."""
        sizes = {
            Opcode.LAYER: words_of(Operation) + words_of(LayerWords),
            Opcode.BRANCH: words_of(Operation) + words_of(Branch),
            Opcode.STOP: words_of(Operation),
        }
        entry = words_of(Header)
        stops = entry + sum(sizes[instruction["op"]] for instruction in self._instructions)
        branches = [i["index"] for i in self._instructions if i["op"] is Opcode.BRANCH]
        tables = stops + len(branches) * sizes[Opcode.STOP]
        body: list[int] = []
        table: list[int] = []
        placed: dict[tuple[int, ...], int] = {}

        def place(words: list[int]) -> int:
            """Address of a table; equal tables are kept once."""
            key = tuple(words)
            if key not in placed:
                placed[key] = tables + len(table)
                table.extend(words)
            return placed[key]

        layers = [instruction for instruction in self._instructions if instruction["op"] is Opcode.LAYER]
        for number, layer in enumerate(layers):
            layer["index"] = number
            for part, layout in (("rows", Row), ("columns", Column)):
                words = [word for fields in layer[part] for word in _encode(layer["name"], layout, fields)]
                layer["source"][f"{part.removesuffix('s')}_table"] = place(words)
        _fits("program", tables + len(table), self._config.program_words)
        for instruction in self._instructions:
            op = instruction["op"]
            target = stops + branches.index(instruction["index"]) if op is Opcode.BRANCH else 0
            body += encode(Operation, op=op, index=instruction["index"], target=target)
            if op is Opcode.LAYER:
                parts = {part: instruction[part] for part in ("source", "lane", "residual", "target")}
                body += _encode(instruction["name"], LayerWords, parts)
            elif op is Opcode.BRANCH:
                body += encode(Branch, threshold=instruction["threshold"])
        for number in branches:
            body += encode(Operation, op=Opcode.STOP, index=number, target=0)
        height, width, channels = self._network.input.shape
        count = height * width * channels
        fields = {
            "entry": entry,
            "image_words": -(-count // 4),
            "image_bytes": count,
            "limit": self._limit,
            "image": self._target(INPUT, self._network.input, 0, channels),
        }
        header = _encode(self._network.name, Header, fields)
        return header + body + table
