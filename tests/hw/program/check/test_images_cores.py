"""Programs of several cores that the hardware must never be given, and one it may be."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.compiler.compile import compile_network
from hw.config import AcceleratorConfig
from hw.network.network import INPUT
from hw.program.check.images import check_images
from hw.program.instructions import WindowFields
from models.integer import golden
from tests.hw.changes import Changes, Images
from tests.hw.machine import Machine
from tests.hw.networks import runnable
from tests.random_networks import NetworkMaker, random_codes

CONFIG = AcceleratorConfig(cores=8, lanes=2, pes=4, list_words=4096, accumulator_bits=32)


@cache
def good() -> Changes:
    maker = NetworkMaker(np.random.default_rng(7), (9, 6, 3))
    here = maker.conv(INPUT, 20, (3, 3), pads=(1, 1, 1, 1))
    maker.head(here, 4, 1000)
    here = maker.block(here, density=0.3)
    here = maker.conv(here, 24, (1, 1))
    maker.head(maker.pool(here), 4)
    return Changes(compile_network(maker.network("net"), CONFIG))


def at(number: int, core: int | None = 0) -> str:
    """How a message about a layer begins."""
    return good().at(number, core)


ALL = tuple(range(CONFIG.cores))


def enabled(number: int) -> list[int]:
    return [k for k, core in enumerate(good().layers[number].cores) if core.enable]


#: The stem, whose words go to all cores, and the head on core 0.
STEM, HEAD = 0, 1
#: The convolution behind: cores 2 and on read, of the stem, what their own band needs.
INNER = 2


def test_the_program_uses_what_the_tests_are_about():
    assert len(enabled(STEM)) >= 4
    assert len(enabled(INNER)) >= 4
    assert good().layers[STEM].cores[0].target.everywhere == 1
    assert enabled(HEAD) == [0]
    reach = {layer.cores[0].target.everywhere for number, layer in enumerate(good().layers) if len(enabled(number)) > 1}
    assert reach == {0, 1}
    check_images(good().images, CONFIG)


def head_of_core_1() -> Images:
    description = good().layers[HEAD].cores[0].pack()
    return good().memory(1, good().layers[HEAD].target, description, good().enable(HEAD, 0, (0,)))


def stem_of_core_3() -> WindowFields:
    """The rows of the stem that core 3 keeps."""
    return good().layers[STEM].cores[3].window


REFUSALS: dict[str, Callable[[], tuple[Images, str]]] = {
    "head of two cores": lambda: (
        good().enable(HEAD, 1, (0, 1)),
        at(HEAD, None) + r"a head must be core 0's alone, not that of cores \[0, 1\]",
    ),
    "head of another core": lambda: (
        head_of_core_1(),
        at(HEAD, None) + r"a head must be core 0's alone, not that of cores \[1\]",
    ),
    "no core": lambda: (good().enable(STEM, 0, ALL), at(STEM, None) + "at least one core must take part"),
    "everywhere for some": lambda: (
        good().layer(STEM, "target", (3,), everywhere=0),
        at(STEM, None) + r"everywhere must be the same in all cores, and 1 with fewer than 4, not \[0, 1\]",
    ),
    "depthwise for some": lambda: (
        good().layer(INNER, "source", (3,), depthwise=1),
        at(INNER, None) + "depthwise must be the same in all cores that take part",
    ),
    "words out of reach": lambda: (
        good().layer(STEM, "target", ALL, everywhere=0),
        at(STEM, None) + r"core \d keeps word \d+, which core \d can't send it",
    ),
    "a word of two cores": lambda: (
        good().layer(STEM, "target", (3,), first=good().layers[STEM].cores[2].target.first),
        at(STEM, 3) + r"word \[\d+\] must be made by one core only",
    ),
    "fast lanes, words for all cores": lambda: (
        good().layer(STEM, "lane", (3,), slow=0),
        at(STEM, 3) + "lanes must be slow with words for all cores",
    ),
    "fast lanes, logits": lambda: (
        good().layer(HEAD, "lane", slow=0),
        at(HEAD) + "lanes must be slow with logits of two lanes",
    ),
    "window of the image too small": lambda: (
        good().image_window(3, count=1),
        at(STEM, 3) + "it reads words that nothing before it writes",
    ),
    "window of a map too small": lambda: (
        good().layer(STEM, "window", (3,), count=stem_of_core_3().count - 1),
        at(INNER, 3) + "it reads words that nothing before it writes",
    ),
    "window beyond the bank": lambda: (
        good().layer(STEM, "window", (3,), base=CONFIG.activation_words - 1),
        at(STEM, None) + r"core 3's window reaches to \d+, beyond the 2048 words of a bank",
    ),
    "window of a core without work beyond the bank": lambda: (
        good().layer(HEAD, "window", (7,), base=CONFIG.activation_words - 1, count=2),
        at(HEAD, None) + "core 7's window reaches to 2049, beyond the 2048 words of a bank",
    ),
    "window beyond the map": lambda: (
        good().layer(STEM, "window", (3,), low=65535),
        at(STEM, None) + r"core 3's window reaches to word \d+, beyond 65536",
    ),
    "a core that doesn't do its part": lambda: (
        good().enable(STEM, 0, (3,)),
        r"layer \d at \d+, core \d: it reads words that nothing before it writes",
    ),
    "source beyond the bank": lambda: (
        good().layer(INNER, "source", (3,), row_pitch=2000),
        at(INNER, 3) + r"word \d+ is beyond the 2048 words of a bank",
    ),
    "a map over its input": lambda: (
        good().layer(INNER, "window", (3,), bank=stem_of_core_3().bank, base=stem_of_core_3().base),
        at(INNER, None) + r"word \[\d+\] must not be written over what core 3 reads",
    ),
    "tables beyond the image": lambda: (
        good().layer(INNER, "source", (3,), row_table=good().images["layers"].shape[1]),
        r"core 3's layers image ends at \d+, inside the Row at \d+",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_programs_that_would_do_harm_are_refused(name):
    images, message = REFUSALS[name]()
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_images(images, CONFIG)


def test_a_sum_may_take_the_place_of_its_operand():
    """As long as every core makes the words whose operands it reads, at the same places."""
    config = AcceleratorConfig(pes=4, accumulator_bits=32)
    program = compile_network(runnable(), config)
    total, mean, hidden = (
        next(n for n, command in enumerate(program.commands) if command.tensor == name)
        for name in ("sum", "mean", "hidden")
    )
    # The mean goes where nothing was, out of the way.
    changes = Changes(program)
    moved = changes.layer(mean, "window", base=100)
    program = replace(program, images=changes.layer(hidden, "source", images=moved, base=100))
    changes = Changes(program)
    stem = changes.layers[0].cores[0].window
    images = changes.layer(total, "window", **stem.values())
    images = changes.layer(mean, "source", images=images, bank=stem.bank, base=stem.base)
    assert changes.layers[total].cores[0].window != stem
    check_images(images, config)
    for codes in random_codes(program.network, 4, 0):
        found, wanted = (Machine(made, config).run(codes) for made in (images, program.images))
        assert (found.label, found.margin) == (wanted.label, wanted.margin)
        np.testing.assert_array_equal(found.layers[-1].values, wanted.layers[-1].values)
    assert golden.run(program.network, codes[None]).classes[0] == found.label


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["layers", "layers", "layers", "lists", "bias", "program"]),
            st.integers(0, 1 << 20),
            st.integers(0, 31),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_flipped_bits_are_harmless_or_refused_in_one_sentence(flips):
    images = {name: image.copy() for name, image in good().images.items()}
    for name, place, bit in flips:
        flat = images[name].reshape(-1)
        flat[place % flat.size] ^= np.uint32(1 << bit)
    try:
        decoded = check_images(images, CONFIG)
    except ValueError as error:
        message = str(error)
    else:
        machine = Machine(images, CONFIG, compiled=False)
        machine.run(np.full(decoded.header.image_bytes, -7, dtype=np.int8))
        message = "harmless"
    assert message
    assert "\n" not in message
