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
            scales = [f"{which}_{part}" for which in ("first", "second", "output") for part in ("multiplier", "shift")]
            return dict.fromkeys((*names, *scales), 0)
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
                "rows": schedule.row_fields(schedule.add_lists(self._lists)),
                "columns": schedule.column_fields(),
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
        program = self._program()
        for name, used, size in (
            ("program", len(program), self._config.program_words),
            ("channel", self._channel_count, self._config.channel_words),
        ):
            if used > size:
                raise ValueError(f"{name} memory holds {size} words; this network needs {used}, {used - size} too many")
        names = ("bias", "multiplier", "shift")
        images = {
            name: (np.concatenate(parts) & 0xFFFF_FFFF).astype(np.uint32)
            for name, parts in zip(names, self._channels, strict=True)
        }
        return {"program": np.array(program, dtype=np.uint32), "lists": self._lists.pack()} | images

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

        layers = 0
        for instruction in self._instructions:
            op = instruction["op"]
            if op is Opcode.LAYER:
                rows = place([word for row in instruction["rows"] for word in encode(Row, **row)])
                columns = place([word for column in instruction["columns"] for word in encode(Column, **column)])
                body += encode(Operation, op=op, index=layers, target=0)
                body += encode(
                    LayerWords,
                    source=instruction["source"] | {"row_table": rows, "column_table": columns},
                    **{part: instruction[part] for part in ("lane", "residual", "target")},
                )
                layers += 1
            elif op is Opcode.BRANCH:
                target = stops + branches.index(instruction["index"])
                body += encode(Operation, op=op, index=instruction["index"], target=target)
                body += encode(Branch, threshold=instruction["threshold"])
            else:
                body += encode(Operation, op=op, index=instruction["index"], target=0)
        for number in branches:
            body += encode(Operation, op=Opcode.STOP, index=number, target=0)
        height, width, channels = self._network.input.shape
        count = height * width * channels
        header = encode(
            Header,
            entry=entry,
            image_words=-(-count // 4),
            image_bytes=count,
            limit=self._limit,
            image=self._target(INPUT, self._network.input, 0, channels),
        )
        return header + body + table
