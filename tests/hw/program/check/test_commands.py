"""Commands that say of their instructions what isn't so, and descriptions that aren't a layer's."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.program.bits import words_of
from hw.program.isa import NEVER, Header, LayerDescription
from hw.program.program import Program
from tests.hw.networks import runnable


@cache
def split() -> Program:
    """A program of two cores."""
    return compile_network(runnable(), preset("tiny").replace(accumulator_bits=32, cores=2, pes=8))


def with_layer(program: Program, core: int, number: int, **parts: dict[str, int]) -> dict[str, np.ndarray]:
    """The images with fields of a core's description changed."""
    instruction = program.decoded.layers[number]
    description = instruction.cores[core]
    changed = replace(description, **{part: replace(getattr(description, part), **parts[part]) for part in parts})
    layers = program.images["layers"].copy()
    layers[core, instruction.target : instruction.target + words_of(LayerDescription)] = changed.pack()
    return program.images | {"layers": layers}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("rows",), ((0, 3),), r"command 0: cores \[0, 1\] work, of 1 bands of 1 groups"),
        (("rows",), ((0, 2), (2, 3)), r"command 0: core 0's outputs, .* must be \[.*\], not \[.*\]"),
        # Three channels take the word that four take.
        (("channels",), (0, 3), r"command 0: kind and macs must be \('conv2d', \d+\), not \('conv2d', \d+\)"),
        (("channels",), (0, 0), r"command 0: channels must be within stem's 0\.\.4 and begin at .*, not 0\.\.0"),
        (("layer",), "tail", r"commands must be of the layers stem, .*, not tail, .*"),
        (("kind",), "linear", r"command 0: kind and macs must be \('conv2d', \d+\), not \('linear', \d+\)"),
        (("rows", "groups"), (((0, 3),), 2), r"command 0: core 0's outputs, .* must be \[.*\], not \[.*\]"),
    ],
)
def test_another_partition_than_the_instructions_is_refused(place, value, message):
    command = split().commands[0]
    assert (command.bands, command.groups) == (2, 1)
    changed = replace(command, **dict(zip(place, value if len(place) > 1 else (value,), strict=True)))
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(split(), commands=(changed, *split().commands[1:]))


def test_two_commands_of_one_name_are_refused():
    first, second, *others = split().commands
    message = rf"^names of commands must be different, not \['{first.name}'\] of several$"
    with pytest.raises(ValueError, match=message):
        replace(split(), commands=(first, replace(second, name=first.name), *others))


def test_a_core_with_another_threshold_is_refused():
    images = with_layer(split(), 1, 0, source={"threshold": 3})
    with pytest.raises(ValueError, match=r"^command 0: core 1: threshold must be 1, not 3$"):
        replace(split(), images=images)


def test_a_core_that_reads_another_tensor_is_refused():
    """The image is still where it was: the checks of the images allow to read it."""
    number = next(n for n, command in enumerate(split().commands) if command.tensor == "inner")
    image, stem = split().decoded.windows[0], split().decoded.instructions[0].cores[0].window
    assert image.bank == stem.bank == 0
    images = with_layer(split(), 0, number, source={"base": image.base})
    header = replace(split().decoded.header, image_free=NEVER)  # and nothing may be written there before the end
    images["program"] = np.concatenate([header.pack(), images["program"][words_of(Header) :]])
    images["program"] = images["program"].astype(np.uint32)
    message = (
        rf"command {number}: core 0 reads words -16 to -12 of bank 0, beyond the 12 of bank 0 that it keeps of stem"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(split(), images=images)


def test_a_core_that_reads_a_word_behind_its_window_is_refused():
    """Another map lies there: the checks of the images allow to read it."""
    number = len(split().commands) - 1
    base = split().decoded.layers[number].cores[0].source.base
    message = rf"command {number}: core 0 reads words 1 to 2 of bank 0, beyond the 1 of bank 0 that it keeps of hidden"
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(split(), images=with_layer(split(), 0, number, source={"base": base + 1}))
