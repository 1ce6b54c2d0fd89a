import json
from functools import cache

import numpy as np
import pytest

from hw.compiler.compile import compile_network
from hw.config import preset
from hw.network.selection import Select
from hw.program.bits import words_of
from hw.program.decode import decode_images, disassemble, listing
from hw.program.instructions import DecisionFields, WindowFields
from hw.program.isa import Header, LayerDescription, Opcode, Selection
from hw.program.isa_select import SelectKind
from hw.program.program import Program
from tests.hw.networks import runnable
from tests.hw.partitions import only

TINY = preset("tiny")


@cache
def program(config: str = "tiny") -> Program:
    """A network of all kinds of layers; in the two cores of ``small``, some layers are the first one's alone."""
    with pytest.MonkeyPatch.context() as patch:
        only(patch, column_major=False)
        return compile_network(runnable(), preset(config).replace(accumulator_bits=32))


def changed(**words: int) -> dict[str, np.ndarray]:
    """The images with program words changed: ``at20=5`` puts 5 at address 20."""
    image = program().images["program"].copy()
    for name, value in words.items():
        image[int(name.removeprefix("at"))] = value
    return program().images | {"program": image}


def test_instructions_are_those_of_the_network():
    instructions = program().decoded.instructions
    names = [(i.op.name, i.index) for i in instructions]
    layers = [("LAYER", number) for number in range(7)]
    assert names == [*layers[:2], ("BRANCH", 0), *layers[2:], ("STOP", 1)]
    branch = instructions[2]
    assert branch.decision == DecisionFields(threshold=1000, low=0, high=(1 << 32) - 1)
    assert [len(i.cores) for i in instructions] == [1, 1, 0, *[1] * 5, 0]
    stem = instructions[0].cores[0]
    assert stem.lane.raw == 0
    assert stem.source.rows == len(stem.rows) == 7
    assert stem.source.columns == len(stem.columns) == 4
    # Three output rows; the kernel reaches below the map, and over its left and right edge.
    assert [row.final for row in stem.rows] == [0, 0, 1, 0, 1, 0, 1]
    assert (stem.source.blank_rows, stem.source.dump_length) == (1, 2)
    assert [column.dumps for column in stem.columns] == [0, 1, 1, 2]


def test_a_selection_lies_in_the_last_words_of_a_description():
    network = runnable({"stem": {"select": Select(kind="elements", count=7)}})
    selecting = compile_network(network, TINY.replace(accumulator_bits=32))
    (instruction,) = (i for i in selecting.decoded.instructions if i.op is Opcode.SELECT)
    (selection,) = instruction.selections
    end = instruction.target + words_of(LayerDescription)
    assert selection.pack() == selecting.images["layers"][0, end - words_of(Selection) : end].tolist()
    assert (selection.kind, selection.count) == (SelectKind.ELEMENTS.value, 7)


def test_every_core_has_a_description_of_its_own():
    layers = program("small").decoded.layers
    assert all(len(layer.cores) == 2 for layer in layers)
    stem, early = layers[0], layers[1]
    assert [sum(row.final for row in core.rows) for core in stem.cores] == [1, 2]
    assert [core.target.first for core in stem.cores] == [0, 4]
    assert [core.enable for core in early.cores] == [1, 0]
    assert (early.cores[1].rows, early.cores[1].columns) == ((), ())


def test_windows_of_the_image_are_those_of_the_rows_read():
    # Kernels of 3 rows at stride 2 above 6 rows of 4 words: outputs 0, and 1 and 2.
    assert program("small").decoded.windows == (
        WindowFields(bank=0, base=0, low=0, count=12),
        WindowFields(bank=0, base=0, low=8, count=16),
    )


def test_the_header_says_what_an_image_is():
    header = program().decoded.header
    assert (header.entry, header.image_words, header.image_bytes) == (words_of(Header), 12, 48)
    assert (header.image_channels, header.image_zero_point) == (2, -128)


def test_every_instruction_is_printed():
    text = disassemble(program().decoded)
    lines = text.splitlines()
    assert lines[0].startswith("   0  HEADER  entry=5 image_window=0 ")
    heads = [line.split()[:3] for line in lines[1:] if not line.startswith("     ")]
    assert heads == [[str(i.address), i.op.name, str(i.index)] for i in program().decoded.instructions]
    assert text.count("  source ") == text.count("  lane ") == text.count("  target ") == text.count("  window ") == 7
    assert text.count("  residual ") == text.count("core 0  image ") == 1
    branch = next(i for i in program().decoded.instructions if i.op is Opcode.BRANCH)
    assert f"{branch.address:4d}  BRANCH  0  margin 0..4294967295, leave at 1000\n" in text
    assert f"{program().decoded.instructions[-1].address:4d}  STOP    1  margin 0..4294967295\n" in text


def plain(fields: dict) -> list:
    """Names and values, of those with parts each part by itself."""
    parts = {name: value if isinstance(value, dict) else {"": value} for name, value in fields.items()}
    return [(f"{name}.{part}".rstrip("."), each) for name, value in parts.items() for part, each in value.items()]


@pytest.mark.parametrize("config", ["tiny", "small"])
def test_the_listing_holds_what_is_printed(config):
    """Every instruction, and every number behind a name."""
    decoded, layers = program(config).decoded, [command.name for command in program(config).commands]
    text, found = disassemble(decoded, layers), listing(decoded, layers)
    assert json.loads(json.dumps(found)) == found
    assert [each["address"] for each in found["instructions"]] == [each.address for each in decoded.instructions]
    for name, value in found["header"].items():
        assert f" {name}={value}" in text
    for instruction in found["instructions"]:
        named = f"  {instruction['layer']}\n" if "layer" in instruction else ""
        assert f"{instruction['address']:4d}  {instruction['op']:<6s}  {instruction['index']}{named}" in text
        for core in instruction["cores"]:
            for part, fields in core.items():
                assert f"{part:<8s}  " + " ".join(f"{name}={value}" for name, value in plain(fields)) in text
    named = [each["layer"] for each in found["instructions"] if each["op"] == "LAYER"]
    assert named == layers
    assert not set("{}'") & set(text)  # which would be Python's, not a listing's


def test_cores_that_rest_are_printed_with_their_windows_only():
    text = disassemble(program("small").decoded)
    layers = program("small").decoded.layers
    working = [sum(layer.cores[core].enable for layer in layers) for core in range(2)]
    for core in range(2):
        assert text.count(f"core {core}  source ") == working[core]
        assert text.count(f"core {core}  window ") == 7
        assert text.count(f"core {core}  image ") == 1
    assert working[1] < 7


def test_an_address_that_holds_no_instruction_is_refused():
    with pytest.raises(ValueError, match=r"^program image holds no instruction at 5, but 0$"):
        decode_images(changed(at5=0), program().config)
    with pytest.raises(ValueError, match=r"^program image holds no instruction at 5, but 15$"):
        decode_images(changed(at5=15), program().config)


@pytest.mark.parametrize(
    ("words", "inside"),
    [(0, "Header at 0"), (3, "Header at 0"), (words_of(Header), "Operation at 5"), (8, "Decision at 8")],
)
def test_an_image_that_ends_inside_something_is_refused(words, inside):
    short = program().images | {"program": program().images["program"][:words]}
    with pytest.raises(ValueError, match=rf"^program image ends at {words}, inside the {inside}$"):
        decode_images(short, program().config)


@pytest.mark.parametrize(
    ("field", "inside"), [(None, "LayerDescription"), ("row_table", "Row"), ("column_table", "Column")]
)
def test_layers_that_end_inside_something_are_refused(field, inside):
    words = 2 if field is None else getattr(program().decoded.instructions[0].cores[0].source, field)
    short = program().images | {"layers": program().images["layers"][:, :words]}
    message = rf"^core 0's layers image ends at {words}, inside the {inside} at {words}$"
    with pytest.raises(ValueError, match=message):
        decode_images(short, program().config)


def test_layers_without_the_image_window_are_refused():
    first, second = program("small").images["layers"]
    with pytest.raises(ValueError, match=r"^core 1's layers image ends at 1, inside the Window at 0$"):
        decode_images(program("small").images | {"layers": [first, second[:1]]}, program("small").config)


def test_an_entry_beyond_the_image_is_refused():
    length = len(program().images["program"])
    header = int(program().images["program"][0])
    with pytest.raises(ValueError, match=rf"^program image ends at {length}, inside the Operation at 4095$"):
        decode_images(changed(at0=header | 0xFFF), program().config)


def test_a_program_without_an_end_is_refused():
    length, stop = len(program().images["program"]), program().decoded.instructions[-1]
    with pytest.raises(ValueError, match=rf"^program image ends at {length}, inside the Operation at {length}$"):
        decode_images(changed(**{f"at{stop.address}": Opcode.BRANCH.value}), program().config)


def test_descriptions_lie_behind_each_other():
    first, second = program().decoded.instructions[:2]
    assert words_of(LayerDescription) == second.target - first.target
