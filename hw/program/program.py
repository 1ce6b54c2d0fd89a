"""The program file: an integer network compiled for one config, with the memory images the hardware runs."""

import math
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hw import container
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.layers import Layer, threshold_of
from hw.network.network import INPUT, Add, Linear, Network
from hw.network.zero_codes import stored_zero_points
from hw.program.check import check_images
from hw.program.check_network import check_network
from hw.program.command import Command
from hw.program.decode import Decoded
from hw.program.instructions import Instruction, SourceFields, WindowFields
from hw.program.isa import NUMBERS, Opcode
from hw.program.protocol import Memory
from hw.program.selection import check_selection, check_use

__all__ = ["MAGIC", "VERSION", "Command", "Program", "image_sizes", "load", "writes_of"]

MAGIC = b"OFFRPROG"
VERSION = 8

#: Memories that a core has once, and the images whose words alternate in them; of lists it has one per PE.
_CORE_MEMORIES = {
    Memory.LAYERS: ("layers",),
    Memory.BIAS: ("bias",),
    Memory.SCALE: ("multiplier", "shift"),
}


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled network.

    Attributes
    ----------
    network : Network
        What it computes.
    config : AcceleratorConfig
        What it was compiled for.
    commands : tuple of Command
        Layers in execution order; a command's place is its number in layer records.
    images : dict of str to uint32 array
        ``program`` (words,); ``layers``, ``bias``, ``multiplier``, ``shift`` (cores, words); ``lists``
        (cores * PEs, words), row ``core * PEs + PE``; ``weights`` (words,), what external memory must hold from its
        address 0 on, empty if all lists fit. All cores' images are as long as the longest.
    decoded : Decoded
        What the images say.

    Raises
    ------
    ValueError
        When the images don't belong together, don't fit the config, or compute something else than the network.
    """

    network: Network
    config: AcceleratorConfig
    commands: tuple[Command, ...]
    images: dict[str, np.ndarray]
    decoded: Decoded = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        decoded = check_images(self.images, self.config)
        object.__setattr__(self, "decoded", decoded)
        layers = decoded.layers
        if len(layers) != len(self.commands):
            raise ValueError(f"program image holds {len(layers)} layers, its description {len(self.commands)}")
        stored = stored_zero_points(self.network)
        self._check_image(stored[INPUT])
        tensors = self.network.tensors()
        order = list(dict.fromkeys(command.layer for command in self.commands))
        wanted = [layer.name for layer in self.network.layers if not isinstance(layer, Add)]
        if order != wanted:
            raise ValueError(f"commands must be of the layers {', '.join(wanted)}, not {', '.join(order)}")
        windows = {INPUT: decoded.windows}
        selections = {instruction.index: instruction for instruction in decoded.instructions if instruction.selections}
        seen: set[str] = set()
        for number, (command, instruction) in enumerate(zip(self.commands, layers, strict=True)):
            layer, selection = self.network.layer(command.layer), selections.get(instruction.index)
            source = layer.inputs[0]
            if command.layer not in seen or selection is not None:
                check_selection(f"command {number}", layer, tensors[source], selection, windows[source], self.config)
            seen.add(command.layer)
            self._check_command(f"command {number}", command, instruction, windows, stored)
            windows[command.tensor] = tuple(core.window for core in instruction.cores)
        self._check_decisions(decoded.instructions)
        check_network(self.network, self.config, self.commands, decoded, self.images)

    def _check_image(self, zero_point: int) -> None:
        """The program takes the network's images."""
        header, image = self.decoded.header, self.network.input
        found = (header.image_bytes, header.image_channels, header.image_zero_point)
        wanted = (math.prod(image.shape), image.shape[2], zero_point)
        if found != wanted:
            raise ValueError(
                f"program image takes images of (codes, channels, zero point) {found}, the network {wanted}"
            )

    def _check_command(
        self,
        where: str,
        command: Command,
        instruction: Instruction,
        windows: dict[str, tuple[WindowFields, ...]],
        stored: dict[str, int],
    ) -> None:
        """A command says of its instruction what is true of the network."""
        layer, result = self.network.layer(command.layer), self.network.layer(command.tensor).output
        edges = [row for band in command.rows for row in band]
        empty = any(start == end for start, end in command.rows)
        if sorted(edges) != edges or empty or not 0 <= edges[0] <= edges[-1] <= result.shape[0]:
            raise ValueError(
                f"{where}: rows of bands must be in order within {command.tensor}'s 0..{result.shape[0]}, "
                f"not {command.rows}"
            )
        first, last = command.channels
        if not 0 <= first < last <= result.shape[2] or first % WORD_CHANNELS:
            raise ValueError(
                f"{where}: channels must be within {command.tensor}'s 0..{result.shape[2]} and begin at a multiple of "
                f"{WORD_CHANNELS}, not {first}..{last}"
            )
        if command.layer != command.tensor and command.layer not in self.network.layer(command.tensor).inputs:
            raise ValueError(f"{where}: {command.layer} does not make {command.tensor}")
        if command.bands * command.groups > self.config.cores:
            raise ValueError(
                f"{where}: {command.bands} bands of {command.groups} groups must be at most the "
                f"{self.config.cores} cores"
            )
        parts = command.parts()
        working = [*instruction.parts]
        if working != [part.core for part in parts]:
            raise ValueError(f"{where}: cores {working} work, of {command.bands} bands of {command.groups} groups")
        depth = self.config.padded_channels(result.shape[2]) // WORD_CHANNELS
        raw = isinstance(layer, Linear) and layer.raw and not command.partial
        for part in parts:
            core = instruction.cores[part.core]
            lane, target = core.lane, core.target
            words, rows = part.words[1] - part.words[0], part.rows[1] - part.rows[0]
            channels = words * WORD_CHANNELS
            outputs, made = rows * result.shape[1] * channels, part.rows[0] * result.shape[1] * depth + part.words[0]
            pitches, columns = (result.shape[1] * depth, depth), result.shape[1]
            if command.upright:
                pitches, columns = (depth, result.shape[1] * depth), rows
            if command.partial:
                outputs, made, columns = channels, NUMBERS - words, 1
            found = [lane.outputs, lane.channels, lane.raw, target.zero_point]
            found += [target.first, target.row_pitch, target.column_pitch, target.columns, target.words]
            zero_point = target.zero_point if raw else stored[command.tensor]
            wanted = [outputs, channels, int(raw), zero_point, made, *pitches, columns, words]
            if found != wanted:
                raise ValueError(
                    f"{where}: core {part.core}'s outputs, channels, raw, zero point, first word, pitches, columns and "
                    f"words must be {wanted}, not {found}"
                )
            if core.source.partial != command.partial:
                raise ValueError(f"{where}: partial must be {command.partial}, not {core.source.partial}")
            window = windows[layer.inputs[0]][part.core]
            self._check_source(f"{where}: core {part.core}", layer, core.source, window)
            pitch = self.config.padded_channels(self.network.tensors()[layer.inputs[0]].shape[2]) // WORD_CHANNELS
            first_word = (core.source.base - window.base + window.low) % pitch
            check_use(f"{where}: core {part.core}", layer, core.source, first_word)

    def _check_source(self, where: str, layer: Layer, source: SourceFields, window: WindowFields) -> None:
        """A core reads what it keeps of the layer's input, and nothing else, with the layer's threshold."""
        if source.threshold != threshold_of(layer):
            raise ValueError(f"{where}: threshold must be {threshold_of(layer)}, not {source.threshold}")
        first = source.base - window.base
        reach = (source.rows - source.blank_rows - 1) * source.row_pitch + (source.columns - 1) * source.column_pitch
        last = first + reach + source.words
        if source.bank != window.bank or first < 0 or last > window.count:
            raise ValueError(
                f"{where} reads words {first} to {last} of bank {source.bank}, beyond the {window.count} of "
                f"bank {window.bank} that it keeps of {layer.inputs[0]}"
            )

    def _check_decisions(self, instructions: tuple[Instruction, ...]) -> None:
        """Every exit of the network is decided behind its head, as it says; the last one stops."""
        found: list[tuple[int, str, int | None, int, int]] = []
        commands = iter(self.commands)
        head = ""
        for instruction in instructions:
            if instruction.op is Opcode.SELECT:
                continue
            if instruction.op is Opcode.LAYER:
                head = next(commands).layer
                continue
            decision = instruction.decision
            assert decision is not None
            threshold = decision.threshold if instruction.op is Opcode.BRANCH else None
            found.append((instruction.index, head, threshold, decision.low, decision.high))
        exits = enumerate(self.network.exits)
        wanted = [(number, leave.logits, leave.threshold, leave.low, leave.high) for number, leave in exits]
        if found != wanted:
            raise ValueError(f"program image decides {found}, the network {wanted}")

    def writes(self) -> list[tuple[int, int, np.ndarray]]:
        """Memory number, core and words of everything a host loads, in the order the checksum takes."""
        return writes_of(self.images, self.config)

    @staticmethod
    def checksum(payloads: list[np.ndarray]) -> int:
        """CRC-32 (zlib's) of the payload words of all WRITEs (:class:`hw.program.protocol.Place`, words), as in
        COMMIT.
        """
        crc = 0
        for words in payloads:
            crc = zlib.crc32(np.ascontiguousarray(words, dtype="<u4").tobytes(), crc)
        return crc

    def save(self, path: str | Path) -> None:
        """Write the program file, whole or not at all."""
        container.write(Path(path), MAGIC, VERSION, self.manifest(), self.arrays())

    def manifest(self) -> dict[str, Any]:
        """What its file says beside the arrays."""
        return {
            "config": asdict(self.config),
            "config_digest": self.config.digest(),
            "network": self.network.to_dict(),
            "commands": [asdict(command) for command in self.commands],
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of its file, by name."""
        arrays = {f"network/{name}": array for name, array in self.network.arrays()}
        return arrays | {f"images/{name}": array for name, array in self.images.items()}

    def size_words(self) -> dict[str, tuple[int, int]]:
        """Words used and available of every memory that a program fills, in the core and PE that needs most."""
        return {name: (self.images[name].shape[-1], size) for name, size in image_sizes(self.config).items()}


def image_sizes(config: AcceleratorConfig) -> dict[str, int]:
    """Words of every memory that a program fills, by the name of its image."""
    sizes = {"program": config.program_words, "layers": config.layer_words, "lists": config.list_words}
    return sizes | dict.fromkeys(("bias", "multiplier", "shift"), config.channel_words)


def writes_of(images: dict[str, np.ndarray], config: AcceleratorConfig) -> list[tuple[int, int, np.ndarray]]:
    """Memory number, core and words of images, as :meth:`Program.writes`."""
    writes = [(Memory.PROGRAM.value, 0, images["program"])]
    for core in range(config.cores):
        for memory, names in _CORE_MEMORIES.items():
            words = np.stack([images[name][core] for name in names], axis=-1)
            writes.append((memory.value, core, words.reshape(-1)))
        lists = images["lists"][core * config.pes : (core + 1) * config.pes]
        writes += [(Memory.LISTS.value + pe, core, words) for pe, words in enumerate(lists)]
    return writes


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _command(values: dict[str, Any]) -> Command:
    rows, channels = tuple(tuple(band) for band in values["rows"]), tuple(values["channels"])
    return Command(**{**values, "rows": rows, "channels": channels})


def load(path: str | Path, config: AcceleratorConfig | None = None) -> Program:
    """Read a program file and check all of it.

    Its images run without harm (:func:`hw.program.check.check_images`) and compute the network that it carries
    (:func:`hw.program.check_network.check_network`). What is trusted is what only time depends on: the expected limit
    of a run, the order of equal work, and that words which nothing reads mean nothing.

    Parameters
    ----------
    config : AcceleratorConfig, optional
        The accelerator it shall run on.

    Raises
    ------
    ValueError
        When the file is truncated, altered, of another version, compiled for another config, or inconsistent.
    """
    manifest, arrays = container.read(Path(path), MAGIC, VERSION)
    try:
        compiled_for = AcceleratorConfig(**manifest["config"])
        if compiled_for.digest() != manifest["config_digest"]:
            raise ValueError("its config does not match the digest of its config")
        if config is not None and config != compiled_for:
            raise ValueError(
                f"it was compiled for config {compiled_for.digest()[:8]}, not {config.digest()[:8]}; compile it again"
            )
        return Program(
            network=Network.from_dict(manifest["network"], _part(arrays, "network/")),
            config=compiled_for,
            commands=tuple(_command(values) for values in manifest["commands"]),
            images=_part(arrays, "images/"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: the description is incomplete or has unknown keys: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
