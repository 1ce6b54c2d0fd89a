"""Puts several programs into the memories of one accelerator, where a host runs whichever it names.

Each program gets its own part of program, layer, channel and list memories; activations and accumulators they share,
for they run one after the other. A linked program does what it does alone, in as many cycles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.program.bits import bits_of, decode, encode, words_of
from hw.program.check import check_images
from hw.program.decode import decode_header, decode_images
from hw.program.isa import Header, Layer, Operation, Selection, SelectKind
from hw.program.program import Program, image_sizes, writes_of
from hw.program.protocol import RunFlags

__all__ = ["MOST_PROGRAMS", "Bundle", "link"]

#: Programs that a RUN can name.
MOST_PROGRAMS = 1 << bits_of(RunFlags.as_shape()["program"].shape)
_HEADER = words_of(Header)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Programs that are loaded together.

    Attributes
    ----------
    programs : tuple of Program
        A RUN names one by its place.
    images : dict of str to uint32 array
        As :class:`hw.program.program.Program` has them; the Headers of all programs come first in ``program``.
    """

    programs: tuple[Program, ...]
    images: dict[str, np.ndarray]

    @property
    def config(self) -> AcceleratorConfig:
        """What all of them were compiled for."""
        return self.programs[0].config

    def writes(self) -> list[tuple[int, int, np.ndarray]]:
        """As :meth:`hw.program.program.Program.writes`."""
        return writes_of(self.images, self.config)


def link(programs: Sequence[Program]) -> Bundle:
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
        if len(programs) > 1 and decode_header(program.images)["chunks"]:
            raise ValueError(
                f"{program.network.name} reads lists during its runs: such a program must be loaded alone, not with "
                f"{len(programs) - 1} more"
            )
    sizes = [_sizes(program) for program in programs]
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
    for program, size in zip(programs, sizes, strict=True):
        header, part = _moved(program, bases)
        headers.append(header)
        parts.append(part)
        bases = {name: base + size[name] - (_HEADER if name == "program" else 0) for name, base in bases.items()}
    images = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
    images["program"] = np.concatenate([*headers, images["program"]])
    for number in range(len(programs)):
        check_images(images, config, number)
    return Bundle(programs=tuple(programs), images=images)


def _sizes(program: Program) -> dict[str, int]:
    """Words of every image, those of channels in whole words of activations."""
    used = {name: words for name, (words, _) in program.size_words().items()}
    return used | {name: _filled(used[name]) for name in ("bias", "multiplier", "shift")}


def _filled(words: int) -> int:
    """Channels that fill the last word of activations."""
    return -(-words // WORD_CHANNELS) * WORD_CHANNELS


def _moved(program: Program, bases: dict[str, int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A program's Header and its images without that, as they are ``bases`` words further on."""
    images = {name: image.copy() for name, image in program.images.items()}
    header = decode_header(images)
    header["entry"] += bases["program"]
    header["image_window"] += bases["layers"]
    for instruction in decode_images(program.images):
        if not (instruction.cores or instruction.selections):
            continue
        _change(images["program"], Operation, instruction.address, target=bases["layers"])
        for core, layers in enumerate(images["layers"]):
            if instruction.selections:
                _move_selection(layers, instruction.target, bases)
            elif instruction.cores[core].fields["enable"]:
                _move_layer(layers, instruction.target, bases)
    images["lists"] = np.stack([_moved_pointers(words, bases["lists"], program.config) for words in images["lists"]])
    for name in ("bias", "multiplier", "shift"):
        words = images[name].shape[1]
        images[name] = np.pad(images[name], ((0, 0), (0, _filled(words) - words)))
    images["program"] = images["program"][_HEADER:]
    return np.array(encode(Header, **header), dtype=np.uint32), images


def _move_layer(layers: np.ndarray, address: int, bases: dict[str, int]) -> None:
    fields = decode(Layer, layers[address : address + words_of(Layer)].tolist())
    fields["source"]["row_table"] += bases["layers"]
    fields["source"]["column_table"] += bases["layers"]
    fields["source"]["first_list"] += bases["lists"]
    fields["lane"]["channel_base"] += bases["bias"] // WORD_CHANNELS
    _put(layers, address, encode(Layer, **fields))


def _move_selection(layers: np.ndarray, address: int, bases: dict[str, int]) -> None:
    first = address + words_of(Layer) - words_of(Selection)
    fields = decode(Selection, layers[first : first + words_of(Selection)].tolist())
    if fields["kind"] == SelectKind.MASK.value:
        fields["table"] += bases["layers"]
    _put(layers, first, encode(Selection, **fields))


def _moved_pointers(words: np.ndarray, base: int, config: AcceleratorConfig) -> np.ndarray:
    """A PE's list memory whose pointers, which come before all entries, lead ``base`` further on."""
    starts, counts = words & ((1 << config.start_bits) - 1), words >> config.start_bits
    pointers, number = len(words), 0
    while number < pointers:
        if counts[number]:
            pointers = min(pointers, int(starts[number]))
        number += 1
    used = (np.arange(len(words)) < pointers) & (counts > 0)
    return np.where(used, words + np.uint32(base), words).astype(np.uint32)


def _change(words: np.ndarray, layout: type, address: int, **by: int) -> None:
    """Add to some fields of a layout."""
    fields = decode(layout, words[address : address + words_of(layout)].tolist())
    _put(words, address, encode(layout, **{name: value + by.get(name, 0) for name, value in fields.items()}))


def _put(words: np.ndarray, address: int, values: list[int]) -> None:
    words[address : address + len(values)] = values
