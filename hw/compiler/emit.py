"""Last pass: instructions, descriptions, tables and channel parameters, as the memory images of a program."""

from typing import Any

import numpy as np

from hw.compiler.emit_select import describe
from hw.compiler.memory.core_schedule import CoreSchedule
from hw.compiler.memory.memory_plan import Placement
from hw.compiler.schedule import Scheduled, ScheduledCommand
from hw.compiler.steps.partition import is_everywhere
from hw.compiler.steps.step import Step, maps_of
from hw.config import WORD_CHANNELS
from hw.network.network import INPUT
from hw.numerics import Rounding
from hw.program.arithmetic import Arithmetic, arithmetic_of, sum_fields
from hw.program.bits import decode, words_of
from hw.program.image_layout import fits, layer_image, program_image, stack
from hw.program.isa import NEVER, NUMBERS, Header, LayerDescription, Opcode, SelectUse
from hw.program.program import Program
from hw.program.selection_encoding import USES, selection_cycles
from hw.program.tiles import Tile, slices
from hw.rules import require

__all__ = ["emit"]

#: Cycles granted to each layer beyond its serial work before a run counts as hung.
_LAYER_SLACK = 1000
#: The longest timeout that a Header can say.
_LONGEST_TIMEOUT = Header.fields["timeout"].high
#: Cycles granted to external memory for each beat, and for each chunk.
_BEAT_CYCLES, _CHUNK_CYCLES = 64, 10_000


def _nothing() -> dict[str, Any]:
    """All fields of a description, 0."""
    return decode(LayerDescription, [0] * words_of(LayerDescription))


class _Core:
    """What a core's memories are filled with."""

    def __init__(self) -> None:
        self.channels: list[np.ndarray] = []
        self.channel_count = 0
        self.channel_base: dict[tuple[str, tuple[int, int]], int] = {}
        self.layers: list[dict[str, Any]] = []

    def base_of(self, layer: str, words: tuple[int, int], arithmetic: Arithmetic) -> int:
        """First word of the parameters of some channels of a layer: all that make these use the same."""
        if (layer, words) not in self.channel_base:
            self.channel_base[layer, words] = self.channel_count // WORD_CHANNELS
            some = slice(words[0] * WORD_CHANNELS, words[1] * WORD_CHANNELS)
            values = (arithmetic.bias, arithmetic.multiplier, arithmetic.shift)
            self.channels.append(np.stack([array[some] for array in values]))
            self.channel_count += some.stop - some.start
        return self.channel_base[layer, words]


def emit(scheduled: Scheduled) -> Program:
    """The program.

    Raises
    ------
    MisfitError
        When a memory is too small, or a layer too large for the instruction format; the message says by how much.
    """
    placed, commands = scheduled.placed, scheduled.commands
    proven = placed.chosen.expanded.proven
    config, steps = proven.config, proven.steps
    # The image's place is free for the next one behind this step.
    last_reader = steps[placed.image_free - 1] if placed.image_free < len(steps) else None
    emitter = _Emitter(scheduled)
    for number, each in enumerate(commands):
        step = each.step
        if number == 0 or commands[number - 1].step is not step:
            emitter.select(step)
        emitter.layer(each)
        if number + 1 == len(commands) or commands[number + 1].step is not step:
            if step is last_reader:
                emitter.image_is_free()
            emitter.exits(step.layer.name)
    described = tuple(each.command() for each in commands)
    return Program(network=proven.given, config=config, commands=described, images=emitter.images())


class _Emitter:
    """Collects what the passes decided and turns it into memory images."""

    def __init__(self, scheduled: Scheduled):
        chosen = scheduled.placed.chosen
        proven = chosen.expanded.proven
        self._network, self._config, self._zero_points = proven.network, proven.config, proven.zero_points
        self._maps = maps_of(proven.network, proven.steps)
        self._places, self._windows = scheduled.placed.places, chosen.windows
        self._lists = scheduled.lists
        self._cores = [_Core() for _ in range(proven.config.cores)]
        self._operations: list[dict[str, Any]] = []
        self._layers = 0
        self._timeout = sum(_BEAT_CYCLES * len(words) + _CHUNK_CYCLES for words, _ in self._lists.chunks)
        self._image_free = NEVER

    def _pitch(self, name: str) -> int:
        """Words from one position of a tensor to the next."""
        return self._config.padded_channels(self._maps[name].shape[2]) // WORD_CHANNELS

    def _pitches(self, name: str, column_major: bool) -> tuple[int, int]:
        """Words of a tensor from one row of a walk to the next, and from one position to the next."""
        pitch = self._pitch(name)
        row = self._maps[name].shape[1] * pitch
        return (pitch, row) if column_major else (row, pitch)

    def _number(self, name: str, row: int) -> int:
        """Number of a row's first word in its map."""
        return row * self._maps[name].shape[1] * self._pitch(name)

    def _window(self, name: str, core: int) -> dict[str, int]:
        place, rows = self._places.get(name, Placement(0, 0)), self._windows[name][core]
        first, last = rows or (0, 0)
        low = self._number(name, first)
        return {"bank": place.bank, "base": place.base, "low": low, "count": self._number(name, last) - low}

    def _address(self, name: str, core: int, row: int) -> int:
        """Where a row of a tensor lies in a core that keeps it."""
        window = self._window(name, core)
        return window["base"] + self._number(name, row) - window["low"]

    def _source(self, step: Step, core: int, work: CoreSchedule, first_list: int) -> dict[str, int]:
        name = step.reads
        down, right = work.steps
        first, last = work.words
        row_pitch, column_pitch = self._pitches(name, work.column_major)
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
            "dump_length": work.dump_length,
            "first_list": first_list,
            "first_dump": work.first_dump,
            "threshold": step.threshold,
            "max_pool": int(step.kernel.max_pool),
            "partial": int(work.partial),
            "depthwise": int(work.depthwise),
            "select": SelectUse.ALL if step.select is None else USES[step.select.kind],
            "first_mask": 0 if step.select is None or step.select.kind == "elements" else first,
        }

    def _residual(self, step: Step, tile: Tile) -> dict[str, Any]:
        name, add = step.residual, step.add
        if add is None or name is None:
            nothing: dict[str, Any] = _nothing()["residual"]
            return nothing
        return {
            "enable": 1,
            "bank": self._places[name].bank,
            "base": self._address(name, tile.core, tile.rows[0]) + tile.words[0],
            **sum_fields(step.layer.output, self._maps[name], add),
        }

    def _positions(self, name: str, tile: Tile, column_major: bool) -> dict[str, int]:
        """In which order a core makes the positions of its tile."""
        row_pitch, column_pitch = self._pitches(name, column_major)
        columns = tile.rows[1] - tile.rows[0] if column_major else self._maps[name].shape[1]
        return {"row_pitch": row_pitch, "column_pitch": column_pitch, "columns": columns}

    def select(self, step: Step) -> None:
        """Append a SELECT instruction for the layer that comes next, if it multiplies a selection only."""
        if step.select is None:
            return
        name, height = step.reads, self._maps[step.reads].shape[0]
        rows = slices(height, self._config.cores)
        starts = [self._address(name, core, rows[core][0]) for core in range(self._config.cores)]
        windows = [self._window(name, core) for core in range(self._config.cores)]
        described = describe(step, rows, starts, windows, self._config)
        for core, description in zip(self._cores, described, strict=True):
            core.layers.append(description)
        self._operation(Opcode.SELECT, step.result.name, self._layers, description=self._descriptions())
        fields = described[0]["selection"]
        self._timeout += (
            selection_cycles(fields["kind"], fields["length"], fields["pitch"], self._config) + _LAYER_SLACK
        )

    def _operation(self, op: Opcode, name: str, index: int, **fields: Any) -> None:
        """Append an instruction; :func:`hw.program.image_layout.program_image`."""
        self._operations.append({"op": op, "name": name, "index": index, **fields})

    def _descriptions(self) -> int:
        """Number of the description appended last."""
        return len(self._cores[0].layers) - 1

    def layer(self, command: ScheduledCommand) -> None:
        """Append a LAYER instruction."""
        step, config = command.step, self._config
        name, tiles, schedules = step.writes, [task.tile for task in command.tasks], command.schedules
        arithmetic = arithmetic_of(
            step.layer, step.source, config.padded_channels(step.result.output.shape[2]), self._zero_points
        )
        everywhere = not config.neighbour_exchange
        if not step.raw:
            everywhere = is_everywhere(tiles, self._windows[name], config)
        partial = schedules[0].partial
        residual, raw = step.residual is not None and not partial, step.raw and not partial
        shared = residual and not config.fast_sums
        slow = shared or (everywhere and config.slow_exchange) or (raw and config.lanes == 2)
        described = [
            _nothing() | {"name": name, "rows": [], "columns": [], "window": self._window(name, core)}
            for core in range(config.cores)
        ]
        for description in described:
            description["target"]["everywhere"] = int(everywhere)
        longest, number = 0, self._layers
        for tile, done in zip(tiles, schedules, strict=True):
            core, layer = self._cores[tile.core], step.layer
            channels = (tile.words[1] - tile.words[0]) * WORD_CHANNELS
            outputs = (tile.rows[1] - tile.rows[0]) * step.result.output.shape[1] * channels
            first = self._number(name, tile.rows[0]) + tile.words[0]
            if partial:
                # The one position that is taken out belongs to no map.
                outputs, first = channels, NUMBERS - channels // WORD_CHANNELS
            described[tile.core] |= {
                "enable": 1,
                "rows": done.row_fields(config.accumulators),
                "columns": done.column_fields(config.accumulators),
                "source": self._source(step, tile.core, done, self._lists.first[number][tile.core]),
                "residual": self._residual(step, tile) if residual else _nothing()["residual"],
                "lane": {
                    "outputs": outputs,
                    "channel_base": core.base_of(layer.name, tile.words, arithmetic),
                    "channels": channels,
                    "raw": int(raw),
                    "classes": self._network.classes if raw else 0,
                    "slow": int(slow),
                    "double": int(arithmetic.rounding is Rounding.DOUBLE),
                    "offset": arithmetic.offset,
                    "clamp_low": layer.clamp[0],
                    "clamp_high": layer.clamp[1],
                },
                "target": {
                    "first": first,
                    **self._positions(name, tile, done.column_major),
                    "words": tile.words[1] - tile.words[0],
                    "zero_point": self._zero_points[step.result.name],
                    "everywhere": int(everywhere),
                },
            }
            if partial:
                described[tile.core]["target"]["columns"] = 1
            longest = max(longest, done.serial_cycles(outputs))
        for core, description in zip(self._cores, described, strict=True):
            core.layers.append(description)
        self._operation(Opcode.LAYER, name, number, description=self._descriptions(), chunks=self._lists.waits[number])
        self._layers += 1
        self._timeout += longest + _LAYER_SLACK

    def image_is_free(self) -> None:
        """Behind the layers so far the next image may be written."""
        self._image_free = min(NEVER, self._layers)

    def exits(self, name: str) -> None:
        """Append the decision behind a layer, if it is a head."""
        for number, head in enumerate(self._network.exits):
            if head.logits == name:
                op = Opcode.STOP if head.threshold is None else Opcode.BRANCH
                decision = {"threshold": head.threshold or 0, "low": head.low, "high": head.high}
                self._operation(op, name, number, decision=decision)

    def images(self) -> dict[str, np.ndarray]:
        """The memory images.

        Raises
        ------
        ValueError
            When a memory is too small; the message says which, and by how much.
        """
        network, config = self._network, self._config
        fits("channel", max(core.channel_count for core in self._cores), config.channel_words)
        nothing = np.zeros((3, 0), dtype=np.int64)
        channels = [np.concatenate([nothing, *core.channels], axis=1) for core in self._cores]
        layers = [
            layer_image(network.name, self._window(INPUT, number), core.layers, config)
            for number, core in enumerate(self._cores)
        ]
        program = program_image(network.name, self._header(), self._operations, self._lists.chunks, config)
        images = {"program": np.array(program, dtype=np.uint32), "layers": stack(layers)}
        for n, name in enumerate(("bias", "multiplier", "shift")):
            images[name] = stack([(values[n] & 0xFFFF_FFFF).tolist() for values in channels])
        weights = [words for words, _ in self._lists.chunks]
        images["weights"] = np.concatenate([np.zeros(0, dtype=np.uint32), *weights])
        return images | {"lists": self._lists.lists}

    def _header(self) -> dict[str, int]:
        """Fields of the header that don't depend on the layout."""
        require(
            self._timeout <= _LONGEST_TIMEOUT,
            f"{self._network.name}: a run must take at most {_LONGEST_TIMEOUT} cycles, not up to {self._timeout}",
        )
        image = self._network.input
        count = int(np.prod(image.shape))
        return {
            "image_window": 0,
            "image_free": self._image_free,
            "image_words": -(-count // 4),
            "image_bytes": count,
            "image_channels": image.shape[2],
            "image_zero_point": self._zero_points[INPUT],
            "timeout": self._timeout,
        }
