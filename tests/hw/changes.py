"""Images of a good program with one thing changed, for the tests of what is refused."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from hw.program.instructions import Instruction
from hw.program.isa import Opcode
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
        self.header_fields, self.windows = program.decoded.header, program.decoded.windows
        self.instructions, self.layers = program.decoded.instructions, program.decoded.layers

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
        return self.program(0, replace(self.header_fields, **fields).pack())

    def image_window(self, core: int = 0, **fields: int) -> Images:
        """Fields of a core's window of the image."""
        return self.memory(core, 0, replace(self.windows[core], **fields).pack())

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
            description = self.layers[number].cores[core]
            changed = {part: replace(getattr(description, part), **fields) for part, fields in parts.items()}
            images = self.memory(core, self.layers[number].target, replace(description, **changed).pack(), images)
        assert images is not None
        return images

    def enable(self, number: int, enable: int, cores: tuple[int, ...]) -> Images:
        """Whether cores take part in a layer."""
        images: Images | None = None
        for core in cores:
            changed = replace(self.layers[number].cores[core], enable=enable)
            images = self.memory(core, self.layers[number].target, changed.pack(), images)
        assert images is not None
        return images

    def row(self, number: int, y: int, images: Images | None = None, **fields: int) -> Images:
        """Fields of a row of core 0; ``images`` as in :meth:`layer`."""
        part = self.layers[number].cores[0]
        return self.memory(0, part.source.row_table + y, replace(part.rows[y], **fields).pack(), images)

    def column(self, number: int, x: int, images: Images | None = None, **fields: int) -> Images:
        """Fields of a column of core 0; ``images`` as in :meth:`layer`."""
        part = self.layers[number].cores[0]
        address = part.source.column_table + x
        return self.memory(0, address, replace(part.columns[x], **fields).pack(), images)

    def at(self, number: int, core: int | None = 0) -> str:
        """How a message about a layer begins, as a regular expression; without core where all are meant."""
        of = "" if core is None else f", core {core}"
        return re.escape(f"layer {number} at {self.layers[number].address}{of}: ")
