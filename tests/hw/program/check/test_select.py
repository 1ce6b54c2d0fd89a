"""Selections that the hardware must never be given, and programs that select something else than their network."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.network import Select
from hw.program.bits import encode, words_of
from hw.program.check.images import check_images
from hw.program.decode import disassemble
from hw.program.instructions import Instruction
from hw.program.isa import LayerDescription, Opcode, Operation, Selection
from hw.program.program import Program
from tests.hw.changes import Changes, Images
from tests.hw.machine import Machine
from tests.hw.networks import runnable
from tests.random_networks import random_codes

CONFIG = preset("tiny").replace(cores=2, accumulator_bits=32)
NETWORK = runnable(
    {
        "stem": {"select": Select(kind="elements", count=7)},
        "early": {"select": Select(kind="channels", count=2)},
        "branch": {"select": Select(kind="mask", channels=(1, 3))},
    }
)
#: Which of the program's SELECTs.
ELEMENTS, CHANNELS, MASK = range(3)
OFFSET = words_of(LayerDescription) - words_of(Selection)


@cache
def program() -> Program:
    return compile_network(NETWORK, CONFIG)


@cache
def good() -> Changes:
    return Changes(program())


def select(number: int) -> Instruction:
    """The SELECT of that number."""
    return [i for i in good().instructions if i.op is Opcode.SELECT][number]


def at(number: int) -> str:
    """How a message about a SELECT begins."""
    return f"SELECT at {select(number).address}"


def selection(number: int, cores: tuple[int, ...] = (0, 1), **fields: int) -> Images:
    """The images with fields of a selection changed."""
    images = good().images
    for core in cores:
        changed = replace(select(number).selections[core], **fields)
        images = good().memory(core, select(number).target + OFFSET, changed.pack(), images)
    return images


def instead(address: int, index: int) -> Images:
    """The images with the SELECT of the elements, for a layer, at an address."""
    operation = encode(Operation, op=Opcode.SELECT, index=index, target=select(ELEMENTS).target, chunks=0)
    return good().program(address, operation)


def test_a_good_program_passes():
    check_images(good().images, CONFIG)
    codes = random_codes(NETWORK, 2, 0)
    Machine(good().images, CONFIG).run(codes[0])


REFUSALS: dict[str, Callable[[], tuple[Images, str]]] = {
    "no kind": lambda: (selection(ELEMENTS, kind=0), rf"{at(ELEMENTS)}: kind must be in \[1, 2, 3\], not 0"),
    "kinds differ": lambda: (
        selection(ELEMENTS, (1,), kind=3),
        rf"{at(ELEMENTS)}: kind must be the same in all cores, not \[2, 3\]",
    ),
    "counts differ": lambda: (
        selection(CHANNELS, (0,), count=1),
        rf"{at(CHANNELS)}: count must be the same .* \[1, 2\]",
    ),
    "lengths differ": lambda: (selection(ELEMENTS, (0,), length=13), rf"{at(ELEMENTS)}: length must be the same .*"),
    "pitches differ": lambda: (selection(CHANNELS, (1,), pitch=2), rf"{at(CHANNELS)}: pitch must be the same .*"),
    "elements far apart": lambda: (
        selection(ELEMENTS, pitch=2),
        rf"{at(ELEMENTS)}: the words of elements must be scanned one by one, not at pitch 2",
    ),
    "no channels": lambda: (
        selection(CHANNELS, pitch=0),
        rf"{at(CHANNELS)}: a position must have 1 to 64 words to select channels of, not 0",
    ),
    "too many masks": lambda: (selection(CHANNELS, pitch=65), rf"{at(CHANNELS)}: a position must .* not 65"),
    "nobody wins": lambda: (selection(ELEMENTS, count=0), rf"{at(ELEMENTS)}: at least 1 must win, not 0"),
    "no words": lambda: (
        selection(ELEMENTS, length=0, words=0),
        rf"{at(ELEMENTS)}: the longest slice must have a word, not 0",
    ),
    "a longer slice": lambda: (
        selection(ELEMENTS, (1,), words=13),
        rf"{at(ELEMENTS)}, core 1: 13 words must be at most the 12 of the longest slice",
    ),
    "beyond the bank": lambda: (
        selection(ELEMENTS, (1,), base=510),
        rf"{at(ELEMENTS)}, core 1: word 521 is beyond the 512 words of a bank",
    ),
    "what nobody wrote": lambda: (
        selection(ELEMENTS, (1,), bank=1),
        rf"{at(ELEMENTS)}, core 1: it reads words that nothing before it writes",
    ),
    "channels beyond the bank": lambda: (
        selection(CHANNELS, (0,), base=511),
        rf"{at(CHANNELS)}, core 0: word 51\d is beyond the 512 words of a bank",
    ),
    "masks beyond the image": lambda: (
        selection(MASK, (1,), table=4095),
        rf"core 1's layers image ends at {good().images['layers'].shape[1]}, inside the 1 masks at 4095",
    ),
    "wide masks": lambda: (
        good().memory(1, select(MASK).selections[1].table, [0x100]),
        rf"{at(MASK)}, core 1: a mask must have 8 bits, not be \[256\]",
    ),
    "another layer's": lambda: (
        instead(select(ELEMENTS).address, 1),
        rf"{at(ELEMENTS)}: layer 1 must directly follow",
    ),
    "before a selection": lambda: (
        instead(good().layers[0].address, 0),
        rf"{at(ELEMENTS)}: layer 0 must directly follow",
    ),
    "no such use": lambda: (
        good().layer(0, "source", (0, 1), good().images, select=3),
        r"layer 0 at \d+, core 0: select must be in \[0, 1, 2\], not 3",
    ),
    "masks before there are any": lambda: (
        good().layer(0, "source", (0, 1), good().images, select=2),
        r"layer 0 at \d+, core 0: its 1 masks must be at most the 0 that have been selected",
    ),
    "masks behind the last": lambda: (
        good().layer(1, "source", (0,), good().images, first_mask=1),
        r"layer 1 at \d+, core 0: its 2 masks must be at most the 1 that have been selected",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_harmful_selections_are_refused(name):
    images, message = REFUSALS[name]()
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_images(images, CONFIG)


def test_elements_that_nothing_selected_are_refused():
    """The first layer uses them, and its SELECT is one of channels."""
    images = selection(ELEMENTS, kind=3)
    with pytest.raises(ValueError, match=r"^layer 0 at \d+, core 0: no elements have been selected for it$"):
        check_images(images, CONFIG)


def test_a_program_for_a_config_with_selector_does_not_run_without():
    with pytest.raises(ValueError, match=rf"^{at(ELEMENTS)}: this config has no selector$"):
        check_images(good().images, CONFIG.replace(selector=0))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_changed_selections_are_refused_or_harmless(data):
    """The accelerator in plain Python asserts that no slice leaves the memories or reads what nobody wrote."""
    number = data.draw(st.sampled_from((ELEMENTS, CHANNELS, MASK)))
    fields = {}
    for name in data.draw(st.lists(st.sampled_from(sorted(Selection.fields)), min_size=1, max_size=2, unique=True)):
        values = [getattr(selection, name) for selection in select(number).selections]
        most = min(12, Selection.fields[name].high)
        fields[name] = data.draw(st.one_of(st.sampled_from(values), st.integers(0, most)))
    images = selection(number, data.draw(st.sampled_from(((0,), (1,), (0, 1)))), **fields)
    try:
        check_images(images, CONFIG)
    except ValueError:
        return
    Machine(images, CONFIG, compiled=False).run(random_codes(NETWORK, 1, 0)[0])


OTHERS: dict[str, Callable[[], tuple[Images, str]]] = {
    "count": lambda: (selection(ELEMENTS, count=8), r"command 0: core 0 must select by .*'count': 7.*, not .*8.*"),
    "slice": lambda: (selection(ELEMENTS, (1,), words=11), r"command 0: core 1 must select by .*"),
    "shift": lambda: (selection(ELEMENTS, (1,), shift=0), r"command 0: core 1 must select by .*"),
    "mask": lambda: (
        good().memory(1, select(MASK).selections[1].table, [0xB]),
        r"command 2: core 1's masks must be \(10,\), not \(11,\)",
    ),
    "all": lambda: (
        good().layer(0, "source", (1,), good().images, select=0),
        r"command 0: core 1: selection and first mask must be \(1, 0\), not \(0, 0\)",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_programs_that_select_something_else_are_refused(name):
    images, message = OTHERS[name]()
    check_images(images, CONFIG)
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(program(), images=images)


@pytest.mark.parametrize("name", ["stem", "hidden"])
def test_a_network_that_selects_where_the_program_does_not_is_refused(name):
    select = None if name == "stem" else Select(kind="elements", count=1)
    layers = tuple(replace(one, select=select) if one.name == name else one for one in NETWORK.layers)
    number = next(n for n, command in enumerate(program().commands) if command.layer == name)
    message = f"command {number}: a SELECT must stand before {name} if that selects, and only then"
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(program(), network=replace(NETWORK, layers=layers))


def test_the_disassembler_shows_selections():
    text = disassemble(program().decoded)
    assert text.count("  SELECT  ") == 4
    first = next(line for line in text.splitlines() if "core 1  elements" in line)
    assert first.split("elements")[1].split() == [
        f"{name}={value}" for name, value in select(ELEMENTS).selections[1].values().items() if name != "kind"
    ]
    assert "core 0  channels" in text
    masks = [line for line in text.splitlines() if " mask " in line]
    assert [line.endswith("  masks 0a") for line in masks] == [True] * 4
    assert np.all([len(line) < 400 for line in text.splitlines()])
