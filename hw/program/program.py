"""The program file: an integer network compiled for one config, with the memory images the hardware runs."""

import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hw import container
from hw.config import AcceleratorConfig
from hw.network.network import Network
from hw.program.check.commands import check_commands
from hw.program.check.equivalence import check_equivalence
from hw.program.check.image_shape import packed_as
from hw.program.check.images import check_images
from hw.program.command import Command
from hw.program.decode import Decoded
from hw.program.protocol import Memory, ScaleWords
from hw.rules import require, shown

__all__ = ["MAGIC", "VERSION", "Command", "Program", "image_sizes", "load", "writes_of"]

MAGIC = b"OFFRPROG"
VERSION = 10

#: What a file describes, and prefixes of its arrays.
_KEYS = {"config", "config_digest", "network", "commands"}
_NETWORK, _IMAGES = "network/", "images/"
#: Memories that a core has once, and the images whose words alternate in them; of lists it has one per PE.
_CORE_MEMORIES = {
    Memory.LAYERS: ("layers",),
    Memory.BIAS: ("bias",),
    Memory.SCALE: tuple(ScaleWords.fields),
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
        Layers in execution order; a command's index is its number in layer records.
    images : dict of str to uint32 array
        ``program`` (words,); ``layers``, ``bias``, ``multiplier``, ``shift`` (cores, words); ``lists``
        (cores * PEs, words), row ``core * PEs + PE``; ``weights`` (words,), what external memory must hold from its
        address 0 on, empty if all lists fit. All cores' images are as long as the longest.
    decoded : Decoded
        What the images say.
    packed : Network
        The network on the image as its words hold it (:mod:`hw.network.packing`).

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
    packed: Network = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        decoded = check_images(self.images, self.config)
        object.__setattr__(self, "decoded", decoded)
        packed = packed_as(self.network, decoded.header)
        object.__setattr__(self, "packed", packed)
        check_commands(packed, self.config, self.commands, decoded)
        check_equivalence(self.network, packed, self.config, self.commands, decoded, self.images)

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
            "commands": [command.to_dict() for command in self.commands],
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of its file, by name."""
        arrays = {f"{_NETWORK}{name}": array for name, array in self.network.arrays()}
        return arrays | {f"{_IMAGES}{name}": array for name, array in self.images.items()}

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


def load(path: str | Path, config: AcceleratorConfig | None = None) -> Program:
    """Read a program file and check all of it.

    Its images run without harm (:func:`hw.program.check.images.check_images`) and compute the network that it carries
    (:func:`hw.program.check.equivalence.check_equivalence`). What is trusted is what only time depends on: the expected
    timeout of a run, the order of equal work, and that words which nothing reads mean nothing.

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
        unknown = sorted(manifest.keys() - _KEYS)
        require(not unknown, f"the description must be of {', '.join(sorted(_KEYS))}, not {shown(unknown)}")
        unknown = sorted(name for name in arrays if not name.startswith((_NETWORK, _IMAGES)))
        require(not unknown, f"arrays must be of network and images, not {shown(unknown)}")
        compiled_for = AcceleratorConfig(**manifest["config"])
        if compiled_for.digest() != manifest["config_digest"]:
            raise ValueError("its config does not match the digest of its config")
        if config is not None and config != compiled_for:
            raise ValueError(
                f"it was compiled for config {compiled_for.digest()[:8]}, not {config.digest()[:8]}; compile it again"
            )
        return Program(
            network=Network.from_dict(manifest["network"], _part(arrays, _NETWORK)),
            config=compiled_for,
            commands=tuple(Command.from_dict(values) for values in manifest["commands"]),
            images=_part(arrays, _IMAGES),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: the description is incomplete or has unknown keys: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
