"""A program computes the network that it carries: its images are read back and compared with the layers.

Bound to the network is all that values depend on: which map a core reads and what it keeps of it, which products it
makes and where they add up, bias, scale, offset, clamp and residual operand, where the result goes. What only time
depends on (the order of equal work, slow lanes, when lists and the next image come, the timeout of a run) is not.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.base_layer import Layer
from hw.network.layers import Add, is_raw, multiply_accumulates, select_of
from hw.network.network import Network
from hw.network.zero_points import storage_zero_points
from hw.numerics import Rounding
from hw.program.arithmetic import Arithmetic, arithmetic_of, sum_fields
from hw.program.check.maps import Maps
from hw.program.check.products import ExpectedWork, Stencil, check_products, stencil_of
from hw.program.command import Command
from hw.program.decode import Decoded
from hw.program.instructions import CoreLayer, Instruction
from hw.program.list_memory import ListMemory
from hw.program.tiles import Tile
from hw.rules import require, shown

__all__ = ["check_equivalence"]

#: Of a command that makes a strip of a map, what follows the tensor in its name.
_STRIP = re.compile(r"@\d{1,9}", re.ASCII)


def check_equivalence(
    network: Network,
    packed: Network,
    config: AcceleratorConfig,
    commands: Sequence[Command],
    decoded: Decoded,
    images: dict[str, np.ndarray],
) -> None:
    """Refuse a program that computes anything else than the network, whatever the image.

    Its images are those of a runnable program (:func:`hw.program.check.images.check_images`), and its commands say of
    their instructions what is true (:func:`hw.program.check.commands.check_commands`).

    Parameters
    ----------
    packed : Network
        On the image as words hold it (:func:`hw.program.check.image_shape.packed_as`).

    Raises
    ------
    ValueError
        Naming the command, the rule and the value.
    """
    check, layers = _Check(network, packed, config, images, decoded), decoded.layers
    selecting = {instruction.index for instruction in decoded.instructions if instruction.selections}
    selected = None
    for number, (command, instruction) in enumerate(zip(commands, layers, strict=True)):
        where, layer = f"command {number}", network.layer(command.layer)
        if number in selecting:
            selected = command.layer
        require(
            select_of(layer) is None or selected == command.layer,
            f"{where}: what {command.layer} selects must not be what {selected} has selected",
        )
        last = next(n for n in range(number, len(layers)) if not commands[n].partial)
        require(
            _shape(commands[last]) == _shape(command),
            f"{where}: what is partial must be of the same tile of the same layer as command {last}",
        )
        check.command(where, command, instruction, layers[last])


def _shape(command: Command) -> tuple[object, ...]:
    """What the commands of one layer that add up have in common."""
    return command.layer, command.tensor, command.rows, command.channels, command.groups, command.column_major


@dataclass(frozen=True)
class _Of:
    """What a command is of."""

    command: Command
    layer: Layer
    stencil: Stencil
    arithmetic: Arithmetic
    inputs: tuple[int, int]  # words of a position of the input that are multiplied
    last: Instruction  # that takes the outputs out


class _Check:
    """Follows the commands of a program."""

    def __init__(
        self,
        network: Network,
        packed: Network,
        config: AcceleratorConfig,
        images: dict[str, np.ndarray],
        decoded: Decoded,
    ):
        self._network, self._packed, self._config, self._images = network, packed, config, images
        self._tensors, self._zero_points = packed.tensors(), storage_zero_points(network)
        self._memory = ListMemory(images["lists"], decoded.chunks, config)
        self._maps = Maps(packed, decoded.windows, config)
        self._multiplied = 0

    def command(self, where: str, command: Command, instruction: Instruction, last: Instruction) -> None:
        """Check the next command."""
        layer, result = self._network.layer(command.layer), self._network.layer(command.tensor)
        source = self._tensors[layer.inputs[0]]
        padded = self._config.padded_channels(layer.output.shape[2])
        tiles, stencil = command.tiles(), stencil_of(self._packed.layer(command.layer), source.shape)
        first = instruction.cores[tiles[0].core].source
        words = self._maps.shape(layer.inputs[0])[2]
        inputs = (self._multiplied, self._multiplied + first.words)
        if stencil.depthwise:
            inputs = (0, words)
        require(
            inputs[1] <= words and (command.partial or inputs[1] == words),
            f"{where}: commands must multiply each of {words} words of {layer.inputs[0]} once, not up to {inputs[1]}",
        )
        self._multiplied = inputs[1] if command.partial else 0
        of = _Of(command, layer, stencil, arithmetic_of(layer, source, padded, self._zero_points), inputs, last)
        lists = self._memory.at(instruction.chunks)
        for tile in tiles:
            self._core(f"{where}: core {tile.core}", of, tile, instruction.cores[tile.core], lists[tile.core])
        self._describe(where, of, result)
        self._maps.open(command.tensor, tuple(core.window for core in instruction.cores))
        if not command.partial:
            self._maps.make(command.tensor, command.rows, (tiles[0].words[0], tiles[-1].words[1]))

    def _describe(self, where: str, of: _Of, result: Layer) -> None:
        """Refuse what the command says of itself to people, if it isn't so."""
        command, depth = of.command, self._tensors[of.layer.inputs[0]].shape[2]
        first, last = (min(word * WORD_CHANNELS, depth) for word in of.inputs)
        rows, (low, high) = sum(end - start for start, end in command.rows), command.channels
        wanted = (
            of.layer.kind + ("+add" if isinstance(result, Add) else ""),
            multiply_accumulates(of.layer, rows, high - low, (last - first, depth)),
        )
        found = command.kind, command.macs
        require(found == wanted, f"{where}: kind and macs must be {wanted}, not {found}")
        height, _, made = result.output.shape
        slices = "" if (low, high) == (0, made) else f"[{low}:{high}]"
        slices += "" if (first, last) == (0, depth) else f"<{first}:{last}>"
        strip = command.name.removeprefix(command.tensor).removesuffix(slices)
        rule = f"name must be {command.tensor}{'@NUMBER' if rows < height else ''}{slices}"
        right = command.name == f"{command.tensor}{strip}{slices}"
        right = right and (_STRIP.fullmatch(strip) is not None or (not strip and rows == height))
        require(right, f"{where}: {rule}, not {shown(command.name)}")

    def _core(self, where: str, of: _Of, tile: Tile, core: CoreLayer, lists: np.ndarray) -> None:
        """Check a core's tile of a command."""
        self._lane(where, of, tile, core)
        self._residual(where, of, tile, core)
        name, source = of.layer.inputs[0], core.source
        height, width, pitch = self._maps.shape(name)
        window = self._maps.window(name, tile.core)
        rows, columns = np.arange(len(core.rows) - source.blank_rows), np.arange(len(core.columns))
        numbers = (
            source.base - window.base + window.low + (rows[:, None] * source.row_pitch + columns * source.column_pitch)
        )
        words = tile.words if of.stencil.depthwise else of.inputs
        found = np.flatnonzero(np.bincount((numbers % pitch).reshape(-1))).tolist(), source.words
        require(
            found == ([words[0]], words[1] - words[0]) and numbers.max() < height * width * pitch,
            f"{where}: it must walk {words[1] - words[0]} words from word {words[0]} of positions of {name} on, not "
            f"{found[1]} from {found[0]}",
        )
        positions = np.divmod(numbers // pitch, width)
        self._maps.read(where, name, tile.core, positions[0], words)
        final, depth = of.last.cores[tile.core].source, self._config.accumulators
        if source.partial:
            outputs = (tile.rows[1] - tile.rows[0]) * self._maps.shape(of.command.tensor)[1] * source.dump_length
            left = (source.first_dump - final.first_dump) % depth
            require(
                outputs <= left <= depth - source.dump_length and final.dump_length == source.dump_length,
                f"{where}: what is partial must take out none of its {outputs} accumulators",
            )
        flags = bool(source.depthwise), bool(source.max_pool)
        wanted = of.stencil.depthwise, of.stencil.max_pool
        require(flags == wanted, f"{where}: depthwise and max_pool must be {wanted}, not {flags}")
        channels, depth = (tile.words[0] * WORD_CHANNELS, tile.words[1] * WORD_CHANNELS), self._tensors[name].shape[2]
        work = ExpectedWork(
            stencil=of.stencil,
            shape=(height, width),
            positions=positions,
            rows=tile.rows,
            columns=self._network.layer(of.command.tensor).output.shape[1],
            channels=channels,
            inputs=(words[0] * WORD_CHANNELS, min(words[1] * WORD_CHANNELS, depth)),
            column_major=of.command.column_major,
            first=final.first_dump,
        )
        check_products(where, work, core, lists, self._config)

    def _lane(self, where: str, of: _Of, tile: Tile, core: CoreLayer) -> None:
        """What becomes of accumulators."""
        layer, lane = of.layer, core.lane
        raw = is_raw(layer) and not of.command.partial
        wanted = {
            "classes": self._network.classes if raw else 0,
            "double": int(of.arithmetic.rounding is Rounding.DOUBLE),
            "offset": of.arithmetic.offset,
            "clamp_low": layer.clamp[0],
            "clamp_high": layer.clamp[1],
        }
        found = {name: getattr(lane, name) for name in wanted}
        require(found == wanted, f"{where}: lanes must have {wanted}, not {found}")
        first, (low, high) = lane.channel_base * WORD_CHANNELS, (word * WORD_CHANNELS for word in tile.words)
        for name in ("bias", "multiplier", "shift"):
            there = self._images[name][tile.core, first : first + high - low]
            values = (getattr(of.arithmetic, name)[low:high] & 0xFFFF_FFFF).astype(np.uint32)
            require(np.array_equal(there, values), f"{where}: {name} of its channels must be those of {layer.name}")

    def _residual(self, where: str, of: _Of, tile: Tile, core: CoreLayer) -> None:
        """What is added."""
        residual, result = core.residual, self._network.layer(of.command.tensor)
        add = result if isinstance(result, Add) and not of.command.partial else None
        require(
            bool(residual.enable) == (add is not None), f"{where}: it must add an operand for an add, and only then"
        )
        if add is None:
            return
        name = add.inputs[1] if add.inputs[0] == of.layer.name else add.inputs[0]
        window = self._maps.window(name, tile.core)
        first, (_, width, pitch) = self._maps.number(name, tile.rows[0], tile.words[0]), self._maps.shape(name)
        last = first + (tile.rows[1] - tile.rows[0]) * width * pitch - pitch + tile.words[1] - tile.words[0]
        require(
            window.low <= first and last <= window.end,
            f"{where}: words {first} to {last} of {name} must be among those that it keeps",
        )
        wanted = {
            "bank": window.bank,
            "base": window.base + first - window.low,
            **sum_fields(of.layer.output, self._tensors[name], add),
        }
        found = {field: value for field, value in residual.values().items() if field in wanted}
        require(found == wanted, f"{where}: its residual operand must be {wanted}, not {found}")
        self._maps.read(where, name, tile.core, np.arange(*tile.rows), tile.words)
