"""Images of a good program with one thing changed, for the tests of what is refused."""

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from hw.program.bits import encode
from hw.program.decode import Instruction, decode_header, decode_windows
from hw.program.isa import Column, Header, Layer, Opcode, Row, Window
from hw.program.program import Program

__all__ = ["Changes", "put"]

Images = dict[str, np.ndarray]


def put(index: Any, value: int) -> Callable[[np.ndarray], np.ndarray]:
    """A change that puts a value somewhere."""

    def change(image: np.ndarray) -> np.ndarray:
        image[index] = value
        return image

    return change


class Changes:
    """Makes changed images; every method leaves the program as it is.

    Parameters
    ----------
    program : Program
    """

    def __init__(self, program: Program):
        self.images = program.images
        self.instructions = program.instructions()
        self.layers = [i for i in self.instructions if i.op is Opcode.LAYER]

    @cached_property
    def branch(self) -> Instruction:
        """The first BRANCH."""
        return next(i for i in self.instructions if i.op is Opcode.BRANCH)

    def image(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Images:
        """An image changed by a function."""
        return self.images | {name: change(self.images[name].copy())}

    def program(self, address: int, words: list[int]) -> Images:
        """Words of the program memory."""
        return self.image("program", put(slice(address, address + len(words)), words))

    def memory(self, core: int, address: int, words: list[int], images: Images | None = None) -> Images:
        """Words of a core's layer memory."""
        images = self.images if images is None else images
        layers = images["layers"].copy()
        layers[core, address : address + len(words)] = words
        return images | {"layers": layers}

    def header(self, **fields: int) -> Images:
        """Fields of the header."""
        return self.program(0, encode(Header, **(decode_header(self.images) | fields)))

    def image_window(self, core: int = 0, **fields: int) -> Images:
        """Fields of a core's window of the image."""
        return self.memory(core, 0, encode(Window, **(decode_windows(self.images)[core] | fields)))

    def layer(
        self, number: int, part: str, cores: tuple[int, ...] = (0,), images: Images | None = None, **fields: int
    ) -> Images:
        """Fields of a layer's description, of the part ``source``, ``lane`` and so on, in some cores.

        Parameters
        ----------
        images : dict, optional
            Start from these, changed already in other places than this description.
        """
        return self.description(number, cores, images, **{part: fields})

    def description(
        self, number: int, cores: tuple[int, ...] = (0,), images: Images | None = None, **parts: dict[str, int]
    ) -> Images:
        """Fields of several parts of a layer's description, by part; see :meth:`layer`."""
        for core in cores:
            description = self.layers[number].cores[core].fields
            changed = description | {part: description[part] | fields for part, fields in parts.items()}
            images = self.memory(core, self.layers[number].target, encode(Layer, **changed), images)
        assert images is not None
        return images

    def enable(self, number: int, enable: int, cores: tuple[int, ...]) -> Images:
        """Whether cores take part in a layer."""
        images: Images | None = None
        for core in cores:
            changed = self.layers[number].cores[core].fields | {"enable": enable}
            images = self.memory(core, self.layers[number].target, encode(Layer, **changed), images)
        assert images is not None
        return images

    def row(self, number: int, y: int, images: Images | None = None, **fields: int) -> Images:
        """Fields of a row of core 0; ``images`` as in :meth:`layer`."""
        part = self.layers[number].cores[0]
        return self.memory(0, part.fields["source"]["row_table"] + y, encode(Row, **(part.rows[y] | fields)), images)

    def column(self, number: int, x: int, images: Images | None = None, **fields: int) -> Images:
        """Fields of a column of core 0; ``images`` as in :meth:`layer`."""
        part = self.layers[number].cores[0]
        address = part.fields["source"]["column_table"] + x
        return self.memory(0, address, encode(Column, **(part.columns[x] | fields)), images)

    def at(self, number: int, core: int | None = 0) -> str:
        """How a message about a layer begins, as a regular expression; without core where all are meant."""
        of = "" if core is None else f", core {core}"
        return re.escape(f"layer {number} at {self.layers[number].address}{of}: ")
