import numpy as np
import pytest

from hw.compile import compile_network
from hw.config import preset
from hw.decode import decode_header, decode_images, disassemble
from hw.isa import Header, Layer, Opcode, words_of
from tests.hw.networks import runnable

TINY = preset("tiny")
PROGRAM = compile_network(runnable(), TINY.replace(accumulator_bits=32))


def changed(**words: int) -> dict[str, np.ndarray]:
    """The images with program words changed: ``at20=5`` puts 5 at address 20."""
    program = PROGRAM.images["program"].copy()
    for name, value in words.items():
        program[int(name.removeprefix("at"))] = value
    return PROGRAM.images | {"program": program}


def test_instructions_are_those_of_the_network():
    instructions = PROGRAM.instructions()
    names = [(i.op.name, i.index) for i in instructions]
    layers = [("LAYER", number) for number in range(7)]
    assert names == [*layers[:2], ("BRANCH", 0), *layers[2:], ("STOP", 1), ("STOP", 0)]
    branch = instructions[2]
    assert (branch.threshold, branch.target) == (1000, instructions[-1].address)
    stem = instructions[0]
    assert stem.layer["lane"]["raw"] == 0
    assert stem.layer["source"]["rows"] == len(stem.rows) == 6
    assert stem.layer["source"]["columns"] == len(stem.columns) == 4
    assert sum(row["dumps"] for row in stem.rows) == 3


def test_the_header_says_what_an_image_is():
    header = decode_header(PROGRAM.images)
    assert (header["entry"], header["image_words"], header["image_bytes"]) == (words_of(Header), 12, 48)
    assert header["image"]["channels"] == 2


def test_every_instruction_is_printed():
    text = disassemble(PROGRAM.images)
    lines = text.splitlines()
    assert lines[0].startswith("   0  HEADER  {")
    heads = [line.split()[:3] for line in lines[1:] if not line.startswith("     ")]
    assert heads == [[str(i.address), i.op.name, str(i.index)] for i in PROGRAM.instructions()]
    assert text.count("  source ") == text.count("  lane ") == text.count("  target ") == 7
    assert text.count("  residual ") == 1
    branch = next(i for i in PROGRAM.instructions() if i.op is Opcode.BRANCH)
    assert f"{branch.address:4d}  BRANCH  0  margin >= 1000 -> {branch.target}\n" in text


def test_an_address_that_holds_no_instruction_is_refused():
    with pytest.raises(ValueError, match=r"^program image holds no instruction at 5, but 0$"):
        decode_images(changed(at5=0))
    with pytest.raises(ValueError, match=r"^program image holds no instruction at 5, but 15$"):
        decode_images(changed(at5=15))


@pytest.mark.parametrize(
    ("words", "inside"),
    [(0, "Header at 0"), (3, "Header at 0"), (words_of(Header), "Operation at 5"), (20, "Layer at 6")],
)
def test_an_image_that_ends_inside_something_is_refused(words, inside):
    short = {"program": PROGRAM.images["program"][:words]}
    with pytest.raises(ValueError, match=rf"^program image ends at {words}, inside the {inside}$"):
        decode_images(short)


def test_an_image_that_ends_before_its_tables_is_refused():
    tables = PROGRAM.instructions()[0].layer["source"]["row_table"]
    short = {"program": PROGRAM.images["program"][: tables + 2]}
    message = rf"^program image ends at {tables + 2}, inside the Row at {tables + 2}$"
    with pytest.raises(ValueError, match=message):
        decode_images(short)


def test_entry_and_branch_beyond_the_image_are_refused():
    length = len(PROGRAM.images["program"])
    header = int(PROGRAM.images["program"][0])
    with pytest.raises(ValueError, match=rf"^program image ends at {length}, inside the Operation at 4095$"):
        decode_images(changed(at0=header | 0xFFF))
    branch = PROGRAM.instructions()[2]
    far = {f"at{branch.address}": Opcode.BRANCH.value | 4000 << 12}
    with pytest.raises(ValueError, match=rf"^program image ends at {length}, inside the Operation at 4000$"):
        decode_images(changed(**far))


def test_a_branch_to_itself_is_decoded_once():
    branch = PROGRAM.instructions()[2]
    loop = {f"at{branch.address}": Opcode.BRANCH.value | branch.address << 12}
    found = decode_images(changed(**loop))
    assert [i.address for i in found] == [i.address for i in PROGRAM.instructions()[:-1]]
    assert words_of(Layer) + 1 == found[1].address - found[0].address
