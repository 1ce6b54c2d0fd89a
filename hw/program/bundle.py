"""Puts several programs into the memories of one accelerator, where a host runs whichever it names.

Each program gets its own part of program, layer, channel and list memories; activations and accumulators they share,
for they run one after the other. A program in a bundle does what it does alone, in as many cycles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.bits import decode, encode, words_of
from hw.program.check.images import check_images
from hw.program.decode import Decoded
from hw.program.instructions import CoreLayer
from hw.program.isa import Header, LayerDescription, Operation, Selection
from hw.program.list_memory import moved_pointers, unpack_pointers
from hw.program.program import Program, image_sizes, writes_of
from hw.program.protocol import RunFlags

__all__ = ["MOST_PROGRAMS", "Bundle", "bundle_of"]

#: Programs that a RUN can name.
MOST_PROGRAMS = 1 << RunFlags.fields["program"].bits
_HEADER = words_of(Header)
#: Where the description of a SELECT begins in the space of a LAYER's.
_SELECTION = words_of(LayerDescription) - words_of(Selection)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Programs that are loaded together.

    Attributes
    ----------
    programs : tuple of Program
        A RUN names one by its number in this order.
    images : dict of str to uint32 array
        As :class:`hw.program.program.Program` has them; the Headers of all programs come first in ``program``.
    decoded : tuple of Decoded
        What the images say of each.
    """

    programs: tuple[Program, ...]
    images: dict[str, np.ndarray]
    decoded: tuple[Decoded, ...]

    @property
    def config(self) -> AcceleratorConfig:
        """What all of them were compiled for."""
        return self.programs[0].config

    def writes(self) -> list[tuple[int, int, np.ndarray]]:
        """As :meth:`hw.program.program.Program.writes`."""
        return writes_of(self.images, self.config)


def bundle_of(programs: Sequence[Program]) -> Bundle:
    """Put programs together.

    Raises
    ------
    ValueError
        When there is none or too many, when they were compiled for different configs, or when a memory is too small;
        the message says which, and by how much.
    """
    if not 1 <= len(programs) <= MOST_PROGRAMS:
        raise ValueError(f"programs must be 1 to {MOST_PROGRAMS} to be loaded together, not {len(programs)}")
    config = programs[0].config
    for program in programs:
        if program.config != config:
            raise ValueError(
                f"{program.network.name} was compiled for config {program.config.digest()[:8]}, "
                f"{programs[0].network.name} for {config.digest()[:8]}: programs loaded together must have one config"
            )
        if len(programs) > 1 and program.decoded.header.chunks:
            raise ValueError(
                f"{program.network.name} reads lists during its runs: such a program must be loaded alone, not with "
                f"{len(programs) - 1} more"
            )
    padded = [_padded(program) for program in programs]
    sizes = [{name: image.shape[-1] for name, image in images.items()} for images in padded]
    for name, available in image_sizes(config).items():
        needed = [size[name] for size in sizes]
        if sum(needed) > available:
            names = ", ".join(program.network.name for program in programs)
            raise ValueError(
                f"{name} memory holds {available} words; {names} need {' + '.join(map(str, needed))} together, "
                f"{sum(needed) - available} too many"
            )
    bases = dict.fromkeys(sizes[0], 0)
    # Every program has a Header, so each body lies behind all of them.
    bases["program"] = (len(programs) - 1) * _HEADER
    headers, parts = [], []
    for program, images, size in zip(programs, padded, sizes, strict=True):
        header, part = _moved(program, images, bases)
        headers.append(header)
        parts.append(part)
        bases = {name: base + size[name] - (_HEADER if name == "program" else 0) for name, base in bases.items()}
    images = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
    images["program"] = np.concatenate([*headers, images["program"]])
    decoded = tuple(check_images(images, config, number) for number in range(len(programs)))
    return Bundle(programs=tuple(programs), images=images, decoded=decoded)


def _padded(program: Program) -> dict[str, np.ndarray]:
    """A program's images, padded to where those of the next program may begin."""
    units = dict.fromkeys(("bias", "multiplier", "shift"), WORD_CHANNELS)
    # Split lists are pairs of words. A program with chunks is alone, and the first one may lie directly behind.
    if program.config.split_lists and not program.decoded.header.chunks:
        units["lists"] = 2
    return {
        name: np.pad(image, [(0, 0)] * (image.ndim - 1) + [(0, -image.shape[-1] % units.get(name, 1))])
        for name, image in program.images.items()
    }


def _moved(
    program: Program, images: dict[str, np.ndarray], bases: dict[str, int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A program's Header and its padded images without that, as they are ``bases`` words further on."""
    header = program.decoded.header
    header = replace(header, entry=header.entry + bases["program"], image_window=header.image_window + bases["layers"])
    for instruction in program.decoded.instructions:
        if not (instruction.cores or instruction.selections):
            continue
        _change(images["program"], Operation, instruction.address, target=bases["layers"])
        for number, core in instruction.working.items():
            _put(images["layers"][number], instruction.target, _moved_layer(core, bases).pack())
        for number, selection in enumerate(instruction.selections):
            if selection.masks:
                moved = replace(selection, table=selection.table + bases["layers"])
                _put(images["layers"][number], instruction.target + _SELECTION, moved.pack())
    images["lists"] = np.stack([_moved_lists(words, bases["lists"], program.config) for words in images["lists"]])
    images["program"] = images["program"][_HEADER:]
    return np.array(header.pack(), dtype=np.uint32), images


def _moved_layer(core: CoreLayer, bases: dict[str, int]) -> CoreLayer:
    """A core's description, as what it names is further on."""
    source, lane = core.source, core.lane
    source = replace(
        source,
        row_table=source.row_table + bases["layers"],
        column_table=source.column_table + bases["layers"],
        first_list=source.first_list + bases["lists"] // (2 if core.split else 1),
    )
    lane = replace(lane, channel_base=lane.channel_base + bases["bias"] // WORD_CHANNELS)
    return replace(core, source=source, lane=lane)


def _moved_lists(words: np.ndarray, base: int, config: AcceleratorConfig) -> np.ndarray:
    """A PE's list memory whose pointers, which come before all entries, lead ``base`` further on."""
    starts, counts = unpack_pointers(words, config)
    pointers, number = len(words), 0
    while number < pointers:
        if counts[number]:
            pointers = min(pointers, int(starts[number]))
        number += 1
    return np.concatenate([moved_pointers(words[:pointers], base, config), words[pointers:]])


def _change(words: np.ndarray, layout: type, address: int, **by: int) -> None:
    """Add to some fields of a layout."""
    fields = decode(layout, words[address : address + words_of(layout)].tolist())
    _put(words, address, encode(layout, **{name: value + by.get(name, 0) for name, value in fields.items()}))


def _put(words: np.ndarray, address: int, values: list[int]) -> None:
    words[address : address + len(values)] = values
