"""The program file: an integer network compiled for one config, with the memory images the hardware runs."""

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw import container
from hw.config import AcceleratorConfig
from hw.decode import Instruction, check_images, decode_images
from hw.isa import Memory
from hw.network import Network

__all__ = ["MAGIC", "VERSION", "Command", "Program", "load"]

MAGIC = b"OFFRPROG"
VERSION = 1

#: Memories with one image each; lists have one per PE.
_CHANNEL_MEMORIES = {"bias": Memory.BIAS, "multiplier": Memory.MULTIPLIER, "shift": Memory.SHIFT}


@dataclass(frozen=True, kw_only=True)
class Command:
    """One LAYER instruction, for people and tests.

    Attributes
    ----------
    name : str
        The tensor it writes, with the channel range where a layer takes several commands.
    kind : str
        Kind of the network layer, ``+add`` where a residual add is fused.
    layer, tensor : str
        The network layer that multiplies, and the tensor that results.
    channels : tuple of 2 int
        First channel of the tensor that it writes, and the one after the last.
    macs : int
        Multiply-accumulates of the dense layer, without padding.
    """

    name: str
    kind: str
    layer: str
    tensor: str
    channels: tuple[int, int]
    macs: int


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
        ``program`` (words), ``lists`` (PEs, words), ``bias``, ``multiplier``, ``shift`` (channels).

    Raises
    ------
    ValueError
        When the images don't belong together or don't fit the config.
    """

    network: Network
    config: AcceleratorConfig
    commands: tuple[Command, ...]
    images: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        check_images(self.images, self.config)
        layers = sum(instruction.layer is not None for instruction in self.instructions())
        if layers != len(self.commands):
            raise ValueError(f"program image holds {layers} layers, its description {len(self.commands)}")

    def instructions(self) -> list[Instruction]:
        """The instructions of the program image, in the order of their addresses."""
        return decode_images(self.images, self.config)

    def writes(self) -> list[tuple[int, np.ndarray]]:
        """Memory number and words of everything a host loads, in the order the checksum takes."""
        writes = [(Memory.PROGRAM.value, self.images["program"])]
        writes += [(memory.value, self.images[name]) for name, memory in _CHANNEL_MEMORIES.items()]
        writes += [(Memory.LISTS.value + pe, words) for pe, words in enumerate(self.images["lists"])]
        return writes

    @staticmethod
    def checksum(payloads: list[np.ndarray]) -> int:
        """CRC-32 (zlib's) of payload words, as COMMIT carries it."""
        crc = 0
        for words in payloads:
            crc = zlib.crc32(np.ascontiguousarray(words, dtype="<u4").tobytes(), crc)
        return crc

    def save(self, path: str | Path) -> None:
        """Write the program file, whole or not at all."""
        manifest = {
            "config": asdict(self.config),
            "config_digest": self.config.digest(),
            "network": self.network.to_dict(),
            "commands": [asdict(command) for command in self.commands],
        }
        arrays = {f"network/{name}": array for name, array in self.network.arrays()}
        arrays |= {f"images/{name}": array for name, array in self.images.items()}
        container.write(Path(path), MAGIC, VERSION, manifest, arrays)

    def size_words(self) -> dict[str, tuple[int, int]]:
        """Words used and available of every memory that a program fills."""
        sizes = {"program": self.config.program_words, "lists": self.config.list_words}
        sizes |= dict.fromkeys(_CHANNEL_MEMORIES, self.config.channel_words)
        return {name: (self.images[name].shape[-1], size) for name, size in sizes.items()}


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _command(values: dict[str, Any]) -> Command:
    return Command(**{**values, "channels": tuple(values["channels"])})


def load(path: str | Path, config: AcceleratorConfig | None = None) -> Program:
    """Read a program file and check all of it.

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
