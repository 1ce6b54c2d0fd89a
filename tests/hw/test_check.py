"""Programs that the hardware must never be given, each made from a good one by one change."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.check import check_images
from hw.compile import compile_network
from hw.config import preset
from hw.decode import decode_header
from hw.isa import Branch, Column, Header, Layer, Opcode, Operation, Row, encode, words_of
from hw.network import INPUT
from tests.hw.machine import Machine
from tests.hw.networks import runnable
from tests.random_networks import NetworkMaker

TINY = preset("tiny").replace(accumulator_bits=32)
PROGRAM = compile_network(runnable(), TINY)
INSTRUCTIONS = PROGRAM.instructions()
LAYERS = [instruction for instruction in INSTRUCTIONS if instruction.layer is not None]
STEM, EARLY, INNER, SUM = range(4)


def with_words(address: int, words: list[int]) -> dict[str, np.ndarray]:
    program = PROGRAM.images["program"].copy()
    program[address : address + len(words)] = words
    return PROGRAM.images | {"program": program}


def with_layer(number: int, part: str, **fields: int) -> dict[str, np.ndarray]:
    """The images with fields of a LAYER changed."""
    layer = LAYERS[number].layer
    changed = layer | {part: layer[part] | fields}
    return with_words(LAYERS[number].address + 1, encode(Layer, **changed))


def with_header(image: dict[str, int] | None = None, **fields: int) -> dict[str, np.ndarray]:
    header = decode_header(PROGRAM.images)
    return with_words(0, encode(Header, **(header | fields | {"image": header["image"] | (image or {})})))


def with_row(number: int, y: int, **fields: int) -> dict[str, np.ndarray]:
    address = LAYERS[number].layer["source"]["row_table"] + y
    return with_words(address, encode(Row, **(LAYERS[number].rows[y] | fields)))


def with_column(number: int, x: int, **fields: int) -> dict[str, np.ndarray]:
    address = LAYERS[number].layer["source"]["column_table"] + x
    return with_words(address, encode(Column, **(LAYERS[number].columns[x] | fields)))


def with_image(name: str, change: Any) -> dict[str, np.ndarray]:
    return PROGRAM.images | {name: change(PROGRAM.images[name].copy())}


def put(index: Any, value: int) -> Any:
    """A change that puts a value somewhere."""

    def change(image: np.ndarray) -> np.ndarray:
        image[index] = value
        return image

    return change


def at(number: int) -> str:
    return re.escape(f"layer {number} at {LAYERS[number].address}: ")


def test_a_good_program_passes():
    check_images(PROGRAM.images, TINY)


BRANCH = next(i for i in INSTRUCTIONS if i.op is Opcode.BRANCH)
STOP = INSTRUCTIONS[-1]
LISTS = PROGRAM.images["lists"].shape[1]
CHANNELS = len(PROGRAM.images["bias"])

REFUSALS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "no shift image": (
        {name: image for name, image in PROGRAM.images.items() if name != "shift"},
        r"images must be program, lists, bias, multiplier, shift, not .*",
    ),
    "another image": (
        PROGRAM.images | {"notes": PROGRAM.images["bias"]},
        r"images must be program, lists, bias, multiplier, shift, not .*notes.*",
    ),
    "signed bias": (
        with_image("bias", lambda image: image.astype(np.int32)),
        rf"bias image must be uint32 of shape \('words',\), not int32 \({CHANNELS},\)",
    ),
    "flat lists": (
        with_image("lists", lambda image: image.reshape(-1)),
        r"lists image must be uint32 of shape \(4, 'words'\), not uint32 \(\d+,\)",
    ),
    "lists of other PEs": (
        with_image("lists", lambda image: image[:3]),
        r"lists image must be uint32 of shape \(4, 'words'\), not uint32 \(3, \d+\)",
    ),
    "program too long": (
        with_image("program", lambda image: np.resize(image, 513)),
        "program image has 513 words, the memory 512",
    ),
    "lists too long": (
        with_image("lists", lambda image: np.resize(image, (4, 2049))),
        "lists image has 2049 words, the memory 2048",
    ),
    "wide list word": (with_image("lists", put((2, 5), 1 << 18)), "lists image must hold 18-bit words"),
    "wide multiplier": (with_image("multiplier", put(3, 1 << 31)), "multiplier image must hold 31-bit words"),
    "wide shift": (with_image("shift", put(3, 32)), "shift image must hold 5-bit words"),
    "backward branch": (
        with_words(BRANCH.address, encode(Operation, op=Opcode.BRANCH, index=0, target=LAYERS[STEM].address)),
        rf"BRANCH at {BRANCH.address}: a branch must lead forward to a STOP, not to {LAYERS[STEM].address}",
    ),
    "branch to itself": (
        with_words(BRANCH.address, encode(Operation, op=Opcode.BRANCH, index=0, target=BRANCH.address)),
        rf"BRANCH at {BRANCH.address}: a branch must lead forward to a STOP, not to {BRANCH.address}",
    ),
    "branch to a layer": (
        with_words(BRANCH.address, encode(Operation, op=Opcode.BRANCH, index=0, target=LAYERS[SUM].address)),
        rf"BRANCH at {BRANCH.address}: a branch must lead forward to a STOP, not to {LAYERS[SUM].address}",
    ),
    "stop before a head": (
        with_words(LAYERS[STEM].address, encode(Operation, op=Opcode.STOP, index=0, target=0)),
        rf"STOP at {LAYERS[STEM].address}: a decision must follow a head",
    ),
    "image words": (
        with_header(image_words=13),
        "header: 13 words must hold 48 codes of an image of 2 channels",
    ),
    "no image": (with_header(image_words=0, image_bytes=0), "header: 0 words must hold 0 codes of an image of 2 .*"),
    "no channels": (with_header({"channels": 0}), "header: 12 words must hold 48 codes of an image of 0 channels"),
    "half a position": (with_header({"channels": 5}), "header: 12 words must hold 48 codes of an image of 5 channels"),
    "image beyond the bank": (
        with_header({"base": 4090}),
        "header: image: activation 4137 is beyond the 4096 words of a bank",
    ),
    "image masks beyond the bank": (
        with_header({"mask_base": 250}),
        "header: image: mask 273 is beyond the 256 words of a bank",
    ),
    "overlapping positions": (
        with_header({"pitch": 1}),
        "header: image: 2 channels a position must not overlap at pitch 1 and mask pitch 1",
    ),
    "layer out of order": (
        with_words(LAYERS[STEM].address, encode(Operation, op=Opcode.LAYER, index=7, target=0)),
        rf"layer 7 at {LAYERS[STEM].address}: layers must be numbered in order, this one 0",
    ),
    "no rows": (with_layer(STEM, "source", rows=0), at(STEM) + "it must have rows, columns and mask words"),
    "no columns": (with_layer(STEM, "source", columns=0), at(STEM) + "it must have rows, columns and mask words"),
    "no mask words": (with_layer(STEM, "source", mask_words=0), at(STEM) + "it must have rows, columns and mask words"),
    "no accumulators": (
        with_layer(STEM, "source", accumulator_step=0),
        at(STEM) + r"accumulators of all live rows must be .*, not 8 and 0",
    ),
    "too many accumulators": (
        with_layer(STEM, "source", accumulator_wrap=260),
        at(STEM) + r"accumulators of all live rows must be at most 256 and a multiple .*, not 260 and 4",
    ),
    "ring of a part of a row": (
        with_layer(STEM, "source", accumulator_wrap=6),
        at(STEM) + r"accumulators of all live rows must be .*, not 6 and 4",
    ),
    "row without kernel rows": (
        with_row(STEM, 1, count=0),
        at(STEM) + "row 1 must meet 1 to 2 kernel rows, not 0",
    ),
    "row with too many kernel rows": (
        with_row(STEM, 1, count=3),
        at(STEM) + "row 1 must meet 1 to 2 kernel rows, not 3",
    ),
    "row between accumulators": (
        with_row(STEM, 1, accumulator=3),
        at(STEM) + "row 1 must begin at a multiple of 4 below 8, not at 3",
    ),
    "row beyond the accumulators": (
        with_row(STEM, 1, accumulator=8),
        at(STEM) + "row 1 must begin at a multiple of 4 below 8, not at 8",
    ),
    "row never taken out": (
        with_row(SUM, 2, accumulator=0, dumps=0),
        at(SUM) + "1 rows of accumulators are filled but never taken out",
    ),
    "too few dumps": (
        with_row(SUM, 1, dumps=0),
        at(SUM) + "2 rows of 4 accumulators on 4 PEs don't make 48 outputs",
    ),
    "no outputs": (
        with_layer(SUM, "lane", outputs=0),
        at(SUM) + "3 rows of 4 accumulators on 4 PEs don't make 0 outputs",
    ),
    "no channels of a layer": (
        with_layer(SUM, "lane", channels=0),
        at(SUM) + "channels must be a multiple of 4 that divides the outputs, not 0",
    ),
    "odd channels": (
        with_layer(SUM, "lane", channels=6),
        at(SUM) + "channels must be a multiple of 4 that divides the outputs, not 6",
    ),
    "rows of half positions": (
        with_layer(SUM, "lane", channels=12),
        at(SUM) + "4 accumulators of a row must be whole positions of 3",
    ),
    "channel parameters beyond": (
        with_layer(SUM, "lane", channel_base=CHANNELS - 3),
        at(SUM) + rf"channel parameters reach to {CHANNELS + 1}, beyond the {CHANNELS} words of their images",
    ),
    "short bias": (
        with_image("bias", lambda image: image[:-1]),
        rf"layer 6 at \d+: channel parameters reach to {CHANNELS}, beyond the {CHANNELS - 1} words of their images",
    ),
    "source beyond the bank": (
        with_layer(INNER, "source", row_pitch=4090),
        at(INNER) + r"activation \d+ is beyond the 4096 words of a bank",
    ),
    "masks beyond the bank": (
        with_layer(INNER, "source", mask_row_pitch=200),
        at(INNER) + r"mask \d+ is beyond the 256 words of a bank",
    ),
    "masks that nobody wrote": (
        with_layer(INNER, "source", mask_base=200),
        at(INNER) + "it reads mask words that nothing before it writes",
    ),
    "activations that nobody wrote": (
        with_layer(INNER, "source", base=2000),
        at(INNER) + "it reads activations that nothing before it writes",
    ),
    "head of one class": (
        with_layer(EARLY, "lane", classes=1),
        at(EARLY) + "a head must have 2 to 64 classes, not 1",
    ),
    "head of more classes than channels": (
        with_layer(EARLY, "lane", classes=5),
        at(EARLY) + "a head must have 2 to 64 classes, not 5",
    ),
    "head with residual": (
        with_layer(EARLY, "residual", enable=1),
        at(EARLY) + "a head must be one position without residual",
    ),
    "head of a map": (
        with_layer(INNER, "lane", raw=1, classes=3),
        at(INNER) + "a head must be one position without residual",
    ),
    "residual in the bank of the input": (
        with_layer(SUM, "residual", bank=LAYERS[SUM].layer["source"]["bank"]),
        at(SUM) + "input and residual must lie in different banks",
    ),
    "residual that nobody wrote": (
        with_layer(SUM, "residual", base=2000),
        at(SUM) + "it reads activations that nothing before it writes",
    ),
    "residual beyond the bank": (
        with_layer(SUM, "residual", pitch=4000),
        at(SUM) + r"activation \d+ is beyond the 4096 words of a bank",
    ),
    "target of other channels": (
        with_layer(SUM, "target", channels=8),
        at(SUM) + "it must write 4 channels, not 8",
    ),
    "target beyond the bank": (
        with_layer(SUM, "target", base=4060),
        at(SUM) + "activation 4107 is beyond the 4096 words of a bank",
    ),
    "target masks beyond the bank": (
        with_layer(SUM, "target", mask_base=250),
        at(SUM) + "mask 261 is beyond the 256 words of a bank",
    ),
    "target over the input": (
        with_layer(INNER, "target", **{name: LAYERS[INNER].layer["source"][name] for name in ("bank", "base")}),
        at(INNER) + "it must not write over what it reads",
    ),
    "target over the residual": (
        with_layer(SUM, "target", **{name: LAYERS[SUM].layer["residual"][name] for name in ("bank", "base")}),
        at(SUM) + "it must not write over what it reads",
    ),
    "row of lists beyond": (
        with_row(STEM, 0, list=4000),
        at(STEM) + rf"list \d+ is beyond the {LISTS} words of the lists image",
    ),
    "column of lists beyond": (
        with_column(STEM, 3, list=4000),
        at(STEM) + rf"list \d+ is beyond the {LISTS} words of the lists image",
    ),
    "list beyond": (
        with_image("lists", put((1, 0), (LISTS - 1) | 2 << TINY.start_bits)),
        at(STEM) + rf"list \[0\] points beyond the {LISTS} words of the lists image",
    ),
    "column in the next row": (
        with_column(STEM, 3, accumulator=4),
        at(STEM) + r"a product for accumulator \d+ leaves the 4 of its row",
    ),
    "offset in the next row": (
        with_image("lists", put((0, LISTS - 1), 1 | 1023 << 8)),
        r"layer \d at \d+: a product for accumulator \d+ leaves the \d of its row",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_programs_that_would_do_harm_are_refused(name):
    images, message = REFUSALS[name]
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_images(images, TINY)


def test_an_instruction_inside_another_is_refused():
    # A STOP between the words of the first layer, reached by a branch.
    inside = LAYERS[SUM].address + 2
    images = with_words(inside, encode(Operation, op=Opcode.STOP, index=0, target=0))
    images["program"][BRANCH.address] = encode(Operation, op=Opcode.BRANCH, index=0, target=inside)[0]
    with pytest.raises(ValueError, match=rf"^STOP at {inside}: it must not begin inside the instruction before it$"):
        check_images(images, TINY)


def test_a_dummy_channel_that_is_not_zero_needs_a_list():
    """5 channels on 4 PEs make 3 dummies; were they nonzero, the next layer would look up lists that aren't there."""
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 1))
    maker.conv(INPUT, 36, (1, 1))
    maker.linear("layer0", 5)
    maker.head("layer1", 3)
    network = maker.network("net")
    # The first word behind the pointers, read as a pointer, leads far out: an entry of weight -1 and offset 8.
    weight = np.zeros((36, 1, 1, 1), dtype=np.int8)
    weight[32:] = -1
    network = replace(network, layers=(replace(network.layers[0], weight=weight), *network.layers[1:]))
    images = compile_network(network, TINY).images
    dummy = 36 + 5
    for name, value in (("bias", 1 << 20), ("multiplier", (1 << 31) - 1)):
        images[name] = images[name].copy()
        images[name][dummy] = value
    length = images["lists"].shape[1]
    with pytest.raises(ValueError, match=rf"^layer 2 at \d+: list \[42\] points beyond the {length} words"):
        check_images(images, TINY)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["program", "program", "program", "lists", "bias", "multiplier", "shift"]),
            st.integers(0, 1 << 20),
            st.integers(0, 31),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_flipped_bits_are_harmless_or_refused_in_one_sentence(flips):
    images = {name: image.copy() for name, image in PROGRAM.images.items()}
    for name, place, bit in flips:
        flat = images[name].reshape(-1)
        flat[place % flat.size] ^= np.uint32(1 << bit)
    try:
        check_images(images, TINY)
    except ValueError as error:
        message = str(error)
    else:
        # Whatever it computes: the machine finds nothing to object to, twice.
        machine = Machine(images, TINY, compiled=False)
        for fill in (-7, 100):
            machine.run(np.full(decode_header(images)["image_bytes"], fill, dtype=np.int8))
        message = "harmless"
    assert message
    assert "\n" not in message


def test_words_of_instructions_are_as_the_checks_assume():
    assert BRANCH.address + 1 + words_of(Branch) == LAYERS[INNER].address
