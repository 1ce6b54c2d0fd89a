"""Programs that the hardware must never be given, each made from a good one by one change."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.program.bits import encode, words_of
from hw.program.check.images import check_images
from hw.program.isa import Decision, Opcode, Operation
from tests.hw.changes import Changes, Images, put
from tests.hw.compiler.memory.test_streaming import streaming
from tests.hw.machine import Machine
from tests.hw.networks import runnable
from tests.hw.partitions import only

TINY = preset("tiny").replace(accumulator_bits=32)


@cache
def good() -> Changes:
    """Of a program with a list for each kernel row, so that a row may have several."""
    with pytest.MonkeyPatch.context() as patch:
        only(patch, merged=False, column_major=False)
        return Changes(compile_network(runnable(), TINY))


def at(number: int, core: int | None = 0) -> str:
    """How a message about a layer begins."""
    return good().at(number, core)


def lists() -> int:
    """Words of lists, in each PE."""
    return good().images["lists"].shape[1]


def channels() -> int:
    """Channels that have parameters, in each core."""
    return good().images["bias"].shape[1]


STEM, EARLY, INNER, SUM = range(4)
NAMES = "images must be program, layers, lists, bias, multiplier, shift, weights, not .*"


def operation(address: int, op: Opcode, index: int = 0, target: int = 0, chunks: int = 0) -> Images:
    """The images with another instruction at an address."""
    return good().program(address, encode(Operation, op=op, index=index, target=target, chunks=chunks))


def test_a_good_program_passes():
    check_images(good().images, TINY)


def test_chunks_may_be_written_right_behind_the_lists_that_are_loaded():
    program = streaming(6)
    first = min(segment.address for chunk in program.decoded.chunks for segment in chunk.segments)
    assert first == program.images["lists"].shape[1]
    check_images(program.images, program.config)


REFUSALS: dict[str, Callable[[], tuple[Images, str]]] = {
    "no shift image": lambda: ({name: image for name, image in good().images.items() if name != "shift"}, NAMES),
    "another image": lambda: (good().images | {"notes": good().images["bias"]}, NAMES),
    "signed bias": lambda: (
        good().image("bias", lambda image: image.astype(np.int32)),
        rf"bias image must be uint32 of shape \(1, 'words'\), not int32 \(1, {channels()}\)",
    ),
    "flat lists": lambda: (
        good().image("lists", lambda image: image.reshape(-1)),
        r"lists image must be uint32 of shape \(4, 'words'\), not uint32 \(\d+,\)",
    ),
    "lists of other PEs": lambda: (
        good().image("lists", lambda image: image[:3]),
        r"lists image must be uint32 of shape \(4, 'words'\), not uint32 \(3, \d+\)",
    ),
    "layers of two cores": lambda: (
        good().image("layers", lambda image: np.repeat(image, 2, axis=0)),
        r"layers image must be uint32 of shape \(1, 'words'\), not uint32 \(2, \d+\)",
    ),
    "program too long": lambda: (
        good().image("program", lambda image: np.resize(image, 257)),
        "program image has 257 words, the memory 256",
    ),
    "layers too long": lambda: (
        good().image("layers", lambda image: np.resize(image, (1, 513))),
        "layers image has 513 words, the memory 512",
    ),
    "lists too long": lambda: (
        good().image("lists", lambda image: np.resize(image, (4, 2049))),
        "lists image has 2049 words, the memory 2048",
    ),
    "wide list word": lambda: (good().image("lists", put((2, 5), 1 << 18)), "lists image must hold 18-bit words"),
    "wide multiplier": lambda: (
        good().image("multiplier", put((0, 3), 1 << 31)),
        "multiplier image must hold 31-bit words",
    ),
    "wide shift": lambda: (good().image("shift", put((0, 3), 32)), "shift image must hold 5-bit words"),
    "stop before a head": lambda: (
        operation(good().layers[STEM].address, Opcode.STOP),
        rf"STOP at {good().layers[STEM].address}: a decision must directly follow a head",
    ),
    "stop behind a branch": lambda: (
        operation(good().layers[INNER].address, Opcode.STOP),
        rf"STOP at {good().layers[INNER].address}: a decision must directly follow a head",
    ),
    "image words": lambda: (
        good().header(image_words=13),
        "header: 13 words must hold 48 codes of an image of 2 channels",
    ),
    "no image": lambda: (
        good().header(image_words=0, image_bytes=0),
        "header: 0 words must hold 0 codes of an image of 2 channels",
    ),
    "no channels": lambda: (
        good().header(image_channels=0),
        "header: 12 words must hold 48 codes of an image of 0 channels",
    ),
    "half a position": lambda: (
        good().header(image_channels=5),
        "header: 12 words must hold 48 codes of an image of 5 channels",
    ),
    "huge image": lambda: (
        good().header(image_words=1 << 14, image_bytes=1 << 16, image_channels=1)
        | {"layers": good().image_window(low=1, count=1)["layers"]},
        r"layer 0 at \d+, core 0: it reads words that nothing before it writes",
    ),
    "an image of too many words": lambda: (
        good().header(image_words=33000, image_bytes=132000, image_channels=1),
        "header: an image must have at most 65536 words, not 132000",
    ),
    "an image of a few words too many": lambda: (
        good().header(image_words=16385, image_bytes=65540, image_channels=1),
        "header: an image must have at most 65536 words, not 65540",
    ),
    "layer out of order": lambda: (
        operation(good().layers[STEM].address, Opcode.LAYER, 7, good().layers[STEM].target),
        rf"layer 7 at {good().layers[STEM].address}: layers must be numbered in order, this one 0",
    ),
    "no core": lambda: (good().enable(SUM, 0, (0,)), at(SUM, None) + "at least one core must take part"),
    "not everywhere": lambda: (
        good().layer(STEM, "target", everywhere=0),
        at(STEM, None) + r"everywhere must be the same in all cores, and 1 with fewer than 4, not \[0\]",
    ),
    "a row below the map that is read": lambda: (
        good().layer(STEM, "source", blank_rows=0),
        at(STEM) + "it reads words that nothing before it writes",
    ),
    "short bias": lambda: (
        good().image("bias", lambda image: image[:, :-1]),
        rf"bias, multiplier and shift images must be equally long, not \[{channels() - 1}(, {channels()}){{2}}\] .*",
    ),
    "description beyond the image": lambda: (
        operation(good().layers[STEM].address, Opcode.LAYER, 0, good().images["layers"].shape[1] - 1),
        r"core 0's layers image ends at \d+, inside the LayerDescription at \d+",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_programs_that_would_do_harm_are_refused(name):
    images, message = REFUSALS[name]()
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_images(images, TINY)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["program", "layers", "layers", "layers", "lists", "bias", "multiplier", "shift"]),
            st.integers(0, 1 << 20),
            st.integers(0, 31),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_flipped_bits_are_harmless_or_refused_in_one_sentence(flips):
    images = {name: image.copy() for name, image in good().images.items()}
    for name, place, bit in flips:
        flat = images[name].reshape(-1)
        flat[place % flat.size] ^= np.uint32(1 << bit)
    try:
        decoded = check_images(images, TINY)
    except ValueError as error:
        message = str(error)
    else:
        # Whatever it computes: the machine finds nothing to object to, twice.
        machine = Machine(images, TINY, compiled=False)
        for fill in (-7, 100):
            machine.run(np.full(decoded.header.image_bytes, fill, dtype=np.int8))
        message = "harmless"
    assert message
    assert "\n" not in message


def test_words_of_instructions_are_as_the_checks_assume():
    assert good().branch.address + words_of(Operation) + words_of(Decision) == good().layers[INNER].address
    assert good().layers[STEM].address + words_of(Operation) == good().layers[EARLY].address
