"""Lays instructions, descriptions, tables, lists and channel parameters out in the memory images of a program."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.emit_select import USES, describe
from hw.estimate import selection_cycles
from hw.isa import (
    NEVER,
    NUMBERS,
    Chunk,
    Column,
    Decision,
    Header,
    Opcode,
    Operation,
    Row,
    Selection,
    SelectUse,
    Window,
)
from hw.isa import Layer as LayerWords
from hw.memory_plan import Placement
from hw.network import INPUT, Network
from hw.numerics import Rounding, add_scales
from hw.partition import Part, Rows, is_everywhere, shares
from hw.schedule import Schedule
from hw.steps import Step
from hw.streaming import ListPlan
from hw.words import decode, encode, words_of

__all__ = ["Arithmetic", "Emitter"]

#: Cycles granted to each layer beyond its serial work before a run counts as hung.
_LAYER_SLACK = 1000
#: The longest limit of a run.
_LONGEST = (1 << 32) - 1
#: Cycles granted to external memory for each beat, and for each chunk.
_BEAT_CYCLES, _CHUNK_CYCLES = 64, 10_000


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


def _nothing() -> dict[str, Any]:
    """All fields of a description, 0."""
    return decode(LayerWords, [0] * words_of(LayerWords))


@dataclass(frozen=True)
class Arithmetic:
    """What the lane needs to know of a layer, per output channel.

    Dummy channels are included; they stay at the real zero.
    """

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    rounding: Rounding
    offset: int


class _Core:
    """What a core's memories are filled with."""

    def __init__(self) -> None:
        self.channels: list[np.ndarray] = []
        self.channel_count = 0
        self.layers: list[dict[str, Any]] = []


class Emitter:
    """Collects what the compiler decides and turns it into memory images.

    Parameters
    ----------
    placements : dict of str to Placement
        Where every stored tensor lies.
    windows : dict of str to list of rows
        Which rows of every tensor each core keeps.
    lists : ListPlan
        Where the lists of every command lie.
    """

    def __init__(
        self,
        network: Network,
        config: AcceleratorConfig,
        placements: dict[str, Placement],
        windows: dict[str, list[Rows]],
        lists: ListPlan,
    ):
        self._network = network
        self._config = config
        self._places = placements
        self._windows = windows
        self._lists = lists
        self._tensors = network.tensors()
        self._cores = [_Core() for _ in range(config.cores)]
        self._operations: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._limit = sum(_BEAT_CYCLES * len(words) + _CHUNK_CYCLES for words, _ in lists.chunks)
        self._image_free = NEVER

    def _pitch(self, name: str) -> int:
        """Words from one position of a tensor to the next."""
        return self._config.padded_channels(self._tensors[name].shape[2]) // WORD_CHANNELS

    def _pitches(self, name: str, upright: bool) -> tuple[int, int]:
        """Words of a tensor from one row of a walk to the next, and from one position to the next."""
        pitch = self._pitch(name)
        row = self._tensors[name].shape[1] * pitch
        return (pitch, row) if upright else (row, pitch)

    def _number(self, name: str, row: int) -> int:
        """Number of a row's first word in its map."""
        return row * self._tensors[name].shape[1] * self._pitch(name)

    def _window(self, name: str, core: int) -> dict[str, int]:
        place, rows = self._places.get(name, Placement(0, 0)), self._windows[name][core]
        first, last = rows or (0, 0)
        low = self._number(name, first)
        return {"bank": place.bank, "base": place.base, "low": low, "count": self._number(name, last) - low}

    def _address(self, name: str, core: int, row: int) -> int:
        """Where a row of a tensor lies in a core that keeps it."""
        window = self._window(name, core)
        return window["base"] + self._number(name, row) - window["low"]

    def _source(self, step: Step, core: int, work: Schedule, first_list: int) -> dict[str, int]:
        name = step.reads
        down, right = work.steps
        first, last = work.words
        row_pitch, column_pitch = self._pitches(name, work.upright)
        return {
            "bank": self._places[name].bank,
            "base": self._address(name, core, work.top) + first,
            "row_pitch": down * row_pitch,
            "column_pitch": right * column_pitch,
            "words": last - first,
            "rows": len(work.rows),
            "blank_rows": work.blank_rows,
            "columns": len(work.columns),
            "list_step": work.block_step * work.channels,
            "accumulator_step": work.width % self._config.accumulators,
            "slots": work.slots,
            "first_list": first_list,
            "first_dump": work.first_dump,
            "threshold": step.threshold,
            "maximum": int(step.kernel.maximum),
            "partial": int(work.partial),
            "select": SelectUse.ALL if step.select is None else USES[step.select.kind],
            "first_mask": 0 if step.select is None or step.select.kind == "elements" else first,
        }

    def _residual(self, step: Step, part: Part) -> dict[str, int]:
        name, add = step.residual, step.add
        if add is None or name is None:
            return _nothing()["residual"]
        scales = add_scales(step.layer.output.scale, self._tensors[name].scale, add.output.scale)
        return {
            "enable": 1,
            "bank": self._places[name].bank,
            "base": self._address(name, part.core, part.rows[0]) + part.words[0],
            "zero_point": _code(step.layer.output.zero_point),
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

    def _positions(self, name: str, part: Part, upright: bool) -> dict[str, int]:
        """In which order a core makes the positions of its part."""
        row_pitch, column_pitch = self._pitches(name, upright)
        columns = part.rows[1] - part.rows[0] if upright else self._tensors[name].shape[1]
        return {"row_pitch": row_pitch, "column_pitch": column_pitch, "columns": columns}

    def select(self, step: Step) -> None:
        """Append a SELECT instruction for the layer that comes next, if it multiplies a selection only.

        Raises
        ------
        ValueError
            When this config can't; the message names the layer.
        """
        if step.select is None:
            return
        name, height = step.reads, self._tensors[step.reads].shape[0]
        rows = shares(height, self._config.cores)
        starts = [self._address(name, core, rows[core][0]) for core in range(self._config.cores)]
        windows = [self._window(name, core) for core in range(self._config.cores)]
        described = describe(step, rows, starts, windows, self._config)
        for core, description in zip(self._cores, described, strict=True):
            core.layers.append(description)
        self._operations.append({"op": Opcode.SELECT, "index": len(self._names), "slot": self._slots()})
        fields = described[0]["selection"]
        self._limit += selection_cycles(fields["kind"], fields["length"], fields["pitch"], self._config) + _LAYER_SLACK

    def _slots(self) -> int:
        """Number of the description appended last."""
        return len(self._cores[0].layers) - 1

    def layer(self, step: Step, parts: list[Part], schedules: list[Schedule], arithmetic: Arithmetic) -> None:
        """Append a LAYER instruction.

        Parameters
        ----------
        parts, schedules : lists of equal length
            What each core with work makes, and how.
        arithmetic : Arithmetic
            Of all of the layer's channels.
        """
        name, config = step.result.name, self._config
        everywhere = config.cores < 4
        if not step.raw:
            everywhere = is_everywhere(parts, self._windows[name], config.cores)
        partial = schedules[0].partial
        residual, raw = step.residual is not None and not partial, step.raw and not partial
        slow = residual or (everywhere and config.slow_exchange) or (raw and config.lanes == 2)
        described = [
            _nothing() | {"name": name, "rows": [], "columns": [], "window": self._window(name, core)}
            for core in range(config.cores)
        ]
        for description in described:
            description["target"]["everywhere"] = int(everywhere)
        longest, number = 0, len(self._names)
        for part, work in zip(parts, schedules, strict=True):
            core, layer = self._cores[part.core], step.layer
            channels = (part.words[1] - part.words[0]) * WORD_CHANNELS
            outputs = (part.rows[1] - part.rows[0]) * step.result.output.shape[1] * channels
            first = self._number(name, part.rows[0]) + part.words[0]
            if partial:
                # The one position that is taken out belongs to no map.
                outputs, first = channels, NUMBERS - channels // WORD_CHANNELS
            described[part.core] |= {
                "enable": 1,
                "rows": work.row_fields(config.accumulators),
                "columns": work.column_fields(config.accumulators),
                "source": self._source(step, part.core, work, self._lists.first[number][part.core]),
                "residual": self._residual(step, part) if residual else _nothing()["residual"],
                "lane": {
                    "outputs": outputs,
                    "channel_base": core.channel_count // WORD_CHANNELS,
                    "channels": channels,
                    "raw": int(raw),
                    "classes": self._network.classes if raw else 0,
                    "slow": int(slow),
                    "double": int(arithmetic.rounding is Rounding.DOUBLE),
                    "offset": _code(arithmetic.offset),
                    "clamp_low": _code(layer.clamp[0]),
                    "clamp_high": _code(layer.clamp[1]),
                },
                "target": {
                    "first": first,
                    **self._positions(name, part, work.upright),
                    "words": part.words[1] - part.words[0],
                    "zero_point": _code(step.result.output.zero_point),
                    "everywhere": int(everywhere),
                },
            }
            if partial:
                described[part.core]["target"]["columns"] = 1
            else:
                first = part.words[0] * WORD_CHANNELS
                values = (arithmetic.bias, arithmetic.multiplier, arithmetic.shift)
                core.channels.append(np.stack([array[first : first + channels] for array in values]))
                core.channel_count += channels
            longest = max(longest, work.serial_cycles(outputs))
        for core, description in zip(self._cores, described, strict=True):
            core.layers.append(description)
        waits = self._lists.waits[number]
        self._operations.append({"op": Opcode.LAYER, "index": number, "slot": self._slots(), "chunks": waits})
        self._names.append(name)
        self._limit += longest + _LAYER_SLACK

    def image_is_free(self) -> None:
        """Behind the layers so far the next image may be written."""
        self._image_free = min(NEVER, len(self._names))

    def exits(self, name: str) -> None:
        """Append the decision behind a layer, if it is a head."""
        for number, head in enumerate(self._network.exits):
            if head.logits == name:
                op = Opcode.STOP if head.threshold is None else Opcode.BRANCH
                decision = {"threshold": head.threshold or 0, "low": head.low, "high": head.high}
                self._operations.append({"op": op, "index": number, "decision": decision})

    @staticmethod
    def program_words(layers: int, exits: int) -> int:
        """Words of header and instructions; ``layers`` counts selections as well."""
        return words_of(Header) + layers * words_of(Operation) + exits * (words_of(Operation) + words_of(Decision))

    def images(self) -> dict[str, np.ndarray]:
        """The memory images.

        Raises
        ------
        ValueError
            When a memory is too small; the message says which, and by how much.
        """
        config = self._config
        _fits("channel", max(core.channel_count for core in self._cores), config.channel_words)
        nothing = np.zeros((3, 0), dtype=np.int64)
        channels = [np.concatenate([nothing, *core.channels], axis=1) for core in self._cores]
        layers = [self._layers(number) for number in range(config.cores)]
        program = self._program()
        _fits("program", len(program), config.program_words)
        images = {"program": np.array(program, dtype=np.uint32), "layers": _stack(layers)}
        for n, name in enumerate(("bias", "multiplier", "shift")):
            images[name] = _stack([(values[n] & 0xFFFF_FFFF).tolist() for values in channels])
        weights = [words for words, _ in self._lists.chunks]
        images["weights"] = np.concatenate([np.zeros(0, dtype=np.uint32), *weights])
        return images | {"lists": self._lists.lists}

    def _layers(self, number: int) -> list[int]:
        """A core's layer memory: window of the image, descriptions, tables."""
        layers = self._cores[number].layers
        start = words_of(Window) + len(layers) * words_of(LayerWords)
        table: list[int] = []
        placed: dict[tuple[int, ...], int] = {}
        described = []

        def place(words: tuple[int, ...]) -> int:
            """Where a table lies; equal ones are kept once."""
            if words not in placed:
                placed[words] = start + len(table)
                table.extend(words)
            return placed[words]

        for layer in layers:
            if "selection" in layer:
                selection = layer["selection"] | ({"table": place(tuple(layer["masks"]))} if layer["masks"] else {})
                described.append((layer["name"], selection))
                continue
            fields = {part: layer[part] for part in dict(LayerWords.as_shape())}
            if layer["enable"]:
                for part, layout in (("rows", Row), ("columns", Column)):
                    words = tuple(word for row in layer[part] for word in _encode(layer["name"], layout, row))
                    fields["source"] = fields["source"] | {f"{part.removesuffix('s')}_table": place(words)}
            described.append((layer["name"], fields))
        _fits("layer", start + len(table), self._config.layer_words)
        body = _encode(self._network.name, Window, self._window(INPUT, number))
        for name, fields in described:
            if "kind" in fields:
                body += [0] * (words_of(LayerWords) - words_of(Selection)) + _encode(name, Selection, fields)
            else:
                body += _encode(name, LayerWords, fields)
        return body + table

    def _program(self) -> list[int]:
        """Header, instructions, chunk table."""
        entry = words_of(Header)
        body: list[int] = []
        for operation in self._operations:
            op, index = operation["op"], operation["index"]
            target = 0
            if "slot" in operation:
                target = words_of(Window) + operation["slot"] * words_of(LayerWords)
            fields = {"op": op, "index": index, "target": target, "chunks": operation.get("chunks", 0)}
            body += _encode(self._names[index] if op is Opcode.LAYER else self._network.name, Operation, fields)
            if "decision" in operation:
                body += encode(Decision, **operation["decision"])
        image = self._network.input
        count = int(np.prod(image.shape))
        fields = {
            "entry": entry,
            "image_window": 0,
            "image_free": self._image_free,
            "image_words": -(-count // 4),
            "image_bytes": count,
            "image_channels": image.shape[2],
            "image_zero_point": _code(image.zero_point),
            "limit": min(self._limit, _LONGEST),
            "chunk_table": entry + len(body),
            "chunks": len(self._lists.chunks),
        }
        address = 0
        for words, after in self._lists.chunks:
            beats = len(words) // self._config.loader
            body += encode(Chunk, address=address, beats=beats, after=after)
            address += beats
        return _encode(self._network.name, Header, fields) + body


def _stack(rows: list[list[int]]) -> np.ndarray:
    """Words of all cores, filled up with zeros: uint32 (cores, words)."""
    length = max(len(words) for words in rows)
    return np.array([[*words, *[0] * (length - len(words))] for words in rows], dtype=np.uint32)
