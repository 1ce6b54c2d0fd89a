"""Programs that the hardware must never be given, each made from a good one by one change."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.network import INPUT
from hw.program.bits import encode, words_of
from hw.program.check.images import check_images
from hw.program.isa import Decision, Opcode, Operation
from hw.program.list_memory import pack_pointers
from tests.hw.changes import Changes, Images, put
from tests.hw.compiler.memory.test_streaming import streaming
from tests.hw.machine import Machine
from tests.hw.networks import runnable
from tests.hw.partitions import only
from tests.random_networks import NetworkMaker

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
EMPTY = "it must have rows, columns and words of a position"


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


def test_lists_are_looked_at_however_many_at_once(monkeypatch):
    monkeypatch.setattr("hw.program.check.core_layer._AT_ONCE", 1)
    check_images(good().images, TINY)
    images = good().row(STEM, 0, accumulator=TINY.accumulators - 1)
    with pytest.raises(ValueError, match=r"^layer 0 at \d+, core 0: \d+ accumulators are filled but never taken out$"):
        check_images(images, TINY)


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
    "no rows": lambda: (
        good().layer(STEM, "source", rows=0),
        at(STEM) + EMPTY,
    ),
    "no columns": lambda: (
        good().layer(STEM, "source", columns=0),
        at(STEM) + EMPTY,
    ),
    "no words": lambda: (
        good().layer(STEM, "source", words=0),
        at(STEM) + EMPTY,
    ),
    "no threshold": lambda: (
        good().layer(STEM, "source", threshold=0),
        at(STEM) + "the threshold must be at least 1, not 0",
    ),
    "the largest of weighted products": lambda: (
        good().layer(STEM, "source", max_pool=1),
        at(STEM) + "weights of a max pool must be 1",
    ),
    "only rows below the map": lambda: (
        good().layer(STEM, "source", blank_rows=7),
        at(STEM) + "blank rows must be fewer than all 7, not 7",
    ),
    "more rows below the map than rows": lambda: (
        good().layer(STEM, "source", blank_rows=15),
        at(STEM) + "blank rows must be fewer than all 7, not 15",
    ),
    "a row below the map that is read": lambda: (
        good().layer(STEM, "source", blank_rows=0),
        at(STEM) + "it reads words that nothing before it writes",
    ),
    "no accumulators": lambda: (
        good().layer(STEM, "source", dump_length=0),
        at(STEM) + "0 accumulators a position on 4 PEs must make the 8 channels",
    ),
    "other accumulators": lambda: (
        good().layer(STEM, "source", dump_length=3),
        at(STEM) + "3 accumulators a position on 4 PEs must make the 8 channels",
    ),
    "too many accumulators": lambda: (
        good().description(STEM, source={"dump_length": 512}, lane={"channels": 2048}),
        at(STEM) + "512 accumulators a position on 4 PEs must make the 2048 channels",
    ),
    "row without lists": lambda: (
        good().row(STEM, 1, count=0),
        at(STEM) + "row 1 must have at least one list for its activations, not 0",
    ),
    "row of a list too many": lambda: (
        good().row(STEM, 5, count=3),
        at(STEM) + r"\d+ accumulators are filled but never taken out",
    ),
    # Two layers have the same table: the first of them is refused.
    "row for an output above": lambda: (
        good().row(SUM, 2, accumulator=0),
        at(SUM - 1) + r"\d+ accumulators are filled but never taken out",
    ),
    "row that begins at the second position": lambda: (
        good().row(SUM, 2, accumulator=18),
        at(SUM - 1) + r"\d+ accumulators are filled but never taken out",
    ),
    "column beside the outputs": lambda: (
        good().column(STEM, 3, accumulator=8),
        at(STEM) + r"\d+ accumulators are filled but never taken out",
    ),
    "position taken out before it is fed": lambda: (
        good().column(STEM, 3, dumps=1, images=good().column(STEM, 0, dumps=1)),
        at(STEM) + r"\d+ accumulators are filled but never taken out",
    ),
    "offset beside the outputs": lambda: (
        good().image("lists", put((0, lists() - 1), 1 | 200 << 8)),
        r"layer \d at \d+, core 0: \d+ accumulators are filled but never taken out",
    ),
    "row never taken out": lambda: (
        good().row(SUM, 2, final=0),
        at(SUM - 1) + "8 positions of 8 channels don't make 96 outputs",
    ),
    "column never taken out": lambda: (
        good().column(STEM, 2, dumps=0),
        at(STEM) + "9 positions of 8 channels don't make 96 outputs",
    ),
    "position taken out twice": lambda: (
        good().column(STEM, 2, dumps=2),
        at(STEM) + "15 positions of 8 channels don't make 96 outputs",
    ),
    "no outputs": lambda: (
        good().layer(SUM, "lane", outputs=0),
        at(SUM) + "12 positions of 8 channels don't make 0 outputs",
    ),
    "no channels of a layer": lambda: (
        good().description(SUM, source={"dump_length": 0}, lane={"channels": 0, "outputs": 0}),
        at(SUM) + "12 positions of 0 channels don't make 0 outputs",
    ),
    "odd channels": lambda: (
        good().description(SUM, source={"dump_length": 3}, lane={"channels": 12, "outputs": 12 * 12}),
        at(SUM) + "channels must be a multiple of 8 that divides the outputs, not 12",
    ),
    "channels of other positions": lambda: (
        good().layer(SUM, "lane", channels=16),
        at(SUM) + "2 accumulators a position on 4 PEs must make the 16 channels",
    ),
    "channel parameters beyond": lambda: (
        good().layer(SUM, "lane", channel_base=channels() // 8),
        at(SUM) + rf"channel parameters reach to {channels() + 8}, beyond the {channels()} words of their images",
    ),
    "short bias": lambda: (
        good().image("bias", lambda image: image[:, :-1]),
        rf"bias, multiplier and shift images must be equally long, not \[{channels() - 1}(, {channels()}){{2}}\] .*",
    ),
    "short channel parameters": lambda: (
        good().images | {name: good().images[name][:, :-1] for name in ("bias", "multiplier", "shift")},
        rf"layer 6 at \d+, core 0: channel parameters reach to {channels()}, beyond the {channels() - 1} words of .*",
    ),
    "fast lanes with a residual": lambda: (
        good().layer(SUM, "lane", slow=0),
        at(SUM) + "lanes must be slow with a residual operand",
    ),
    "head of one class": lambda: (
        good().layer(EARLY, "lane", classes=1),
        at(EARLY) + "a head must have 2 to 8 classes, not 1",
    ),
    "head of more classes than channels": lambda: (
        good().layer(EARLY, "lane", classes=9),
        at(EARLY) + "a head must have 2 to 8 classes, not 9",
    ),
    "head with residual": lambda: (
        good().layer(EARLY, "residual", enable=1),
        at(EARLY) + "lanes must be slow with a residual operand",
    ),
    "head of a map": lambda: (
        good().layer(INNER, "lane", raw=1, classes=3),
        at(INNER) + "a head must be one position without residual",
    ),
    "residual in the bank of the input": lambda: (
        good().layer(SUM, "residual", bank=good().layers[SUM].cores[0].source.bank),
        at(SUM) + "input and residual must lie in different banks",
    ),
    "target of other words": lambda: (
        good().layer(SUM, "target", words=2),
        at(SUM) + "it must make 1 words a position, not 2",
    ),
    "overlapping positions": lambda: (
        good().layer(SUM, "target", row_pitch=0, column_pitch=0),
        at(SUM) + "12 words must not overlap, only 1 differ",
    ),
    "words beyond a map": lambda: (
        good().layer(SUM, "target", first=65530),
        at(SUM) + "word 65541 is beyond the 65536 of a map",
    ),
    "positions in no row": lambda: (
        good().layer(SUM, "target", columns=0),
        at(SUM) + "it must make 12 positions in whole rows, not in rows of 0",
    ),
    "positions in parts of rows": lambda: (
        good().layer(SUM, "target", columns=5),
        at(SUM) + "it must make 12 positions in whole rows, not in rows of 5",
    ),
    "row of lists beyond": lambda: (
        good().row(STEM, 0, list=4000),
        at(STEM) + rf"list \[\d+\] is not among the {lists()} words of lists then",
    ),
    "column of lists beyond": lambda: (
        good().column(STEM, 3, list=4000),
        at(STEM) + rf"list \[\d+\] is not among the {lists()} words of lists then",
    ),
    "list beyond": lambda: (
        good().image("lists", put((1, 0), pack_pointers(lists() - 1, 2, TINY))),
        at(STEM) + rf"list \[0\] points beyond the {lists()} words of lists then",
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


def test_lists_beyond_what_a_row_can_begin_with_are_refused():
    """Where there are so many: the dispatcher would go on with the first ones."""
    config = TINY.replace(list_words=8192, layer_words=2048)
    with pytest.MonkeyPatch.context() as patch:
        only(patch, merged=False, column_major=False)
        changes = Changes(compile_network(runnable(), config))
    y = next(y for y, row in enumerate(changes.layers[STEM].cores[0].rows) if row.count == 2)
    images = changes.row(STEM, y, list=4095)
    images["lists"] = np.pad(images["lists"], ((0, 0), (0, 8192 - images["lists"].shape[1])))
    step = changes.layers[STEM].cores[0].source.list_step
    message = rf"^layer 0 at \d+, core 0: list {4095 + step} is beyond the 4096 that a row can begin with$"
    with pytest.raises(ValueError, match=message):
        check_images(images, config)
    # In a row with a list for each of its activations, nothing is beyond; and none of these lists feeds anything.
    y = next(y for y, row in enumerate(changes.layers[STEM].cores[0].rows) if row.count == 1)
    check_images(changes.row(STEM, y, list=4095) | {"lists": images["lists"]}, config)


def test_a_dummy_channel_that_is_not_zero_needs_a_list():
    """5 channels make 3 dummies; were they nonzero, the next layer would look up lists that aren't there."""
    maker = NetworkMaker(np.random.default_rng(0), (1, 1, 1))
    maker.conv(INPUT, 36, (1, 1))
    maker.linear("layer0", 5)
    maker.head("layer1", 3)
    network = maker.network("net")
    # The first words behind the pointers, read as pointers, lead far out: entries of weight -1 and offset 8.
    weight = np.zeros((36, 1, 1, 1), dtype=np.int8)
    weight[32:] = -1
    network = replace(network, layers=(replace(network.layers[0], weight=weight), *network.layers[1:]))
    images = dict(compile_network(network, TINY).images)
    dummy = 40 + 5
    for name, value in (("bias", 1 << 20), ("multiplier", (1 << 31) - 1)):
        images[name] = images[name].copy()
        images[name][0, dummy] = value
    length = images["lists"].shape[1]
    with pytest.raises(ValueError, match=rf"^layer 2 at \d+, core 0: list \[\d+\] points beyond the {length} words"):
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


@pytest.mark.parametrize("pe", range(4))
def test_of_a_group_only_channels_that_may_be_nonzero_count(pe):
    """The pool's last group has 2 channels: the other PEs are never given anything for its list."""
    maker = NetworkMaker(np.random.default_rng(1), (2, 2, 3))
    maker.head(maker.pool(maker.conv(INPUT, 10, (1, 1), density=1.0)), 3)
    changes = Changes(compile_network(maker.network("net"), TINY))
    source = changes.layers[1].cores[0].source
    assert source.depthwise
    beyond = pack_pointers(TINY.list_words - 1, 1, TINY)
    images = changes.image("lists", put((pe, source.first_list + 2), beyond))
    if pe >= 2:
        check_images(images, TINY)
        return
    with pytest.raises(ValueError, match=rf"list \[{source.first_list + 2}\] points beyond"):
        check_images(images, TINY)
