import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.program.bits import decode, words_of
from hw.program.image_layout import fits, instruction_words, layer_image, program_image, stack
from hw.program.isa import Chunk, Column, Decision, Header, LayerDescription, Opcode, Operation, Row, Window

CONFIG = AcceleratorConfig(layer_words=256, program_words=64, loader=2)
WINDOW = {"bank": 1, "base": 3, "low": 0, "count": 9}
ROW = {"list": 5, "accumulator": 7, "count": 2, "final": 1, "parts": 0, "skip": 0}
COLUMN = {"list": 1, "accumulator": 2, "dumps": 3, "parts": 3, "skip": 1}


def layer(name: str, columns: int) -> dict[str, object]:
    """A description of two rows and some columns, all other fields 0."""
    nothing = decode(LayerDescription, [0] * words_of(LayerDescription))
    return nothing | {"name": name, "enable": 1, "rows": [ROW, ROW], "columns": [COLUMN] * columns}


def test_descriptions_stand_in_order_and_equal_tables_once():
    image = layer_image("net", WINDOW, [layer("a", 3), layer("b", 3), layer("c", 4)], CONFIG)
    assert decode(Window, image[: words_of(Window)]) == WINDOW
    found = []
    for number in range(3):
        start = words_of(Window) + number * words_of(LayerDescription)
        found.append(decode(LayerDescription, image[start : start + words_of(LayerDescription)])["source"])
    first = words_of(Window) + 3 * words_of(LayerDescription)
    rows, three, four = first, first + 2 * words_of(Row), first + 2 * words_of(Row) + 3 * words_of(Column)
    assert [(source["row_table"], source["column_table"]) for source in found] == [(rows, three)] * 2 + [(rows, four)]
    assert len(image) == four + 4 * words_of(Column)
    assert decode(Row, image[rows : rows + words_of(Row)]) == ROW
    assert decode(Column, image[three : three + words_of(Column)]) == COLUMN


def test_a_value_that_no_field_holds_names_the_layer():
    message = r"^wide: Row\.count must be in 0\.\.15, not 16: the layer is too large for the instruction format$"
    with pytest.raises(ValueError, match=message):
        layer_image("net", WINDOW, [layer("wide", 1) | {"rows": [ROW | {"count": 16}]}], CONFIG)


def test_the_program_is_header_instructions_and_chunks():
    header = decode(Header, [0] * words_of(Header)) | {"image_words": 4, "timeout": 1000}
    decision = {"threshold": 5, "low": 1, "high": 9}
    operations = [
        {"op": Opcode.LAYER, "name": "a", "index": 0, "description": 0, "chunks": 1},
        {"op": Opcode.LAYER, "name": "b", "index": 1, "description": 1},
        {"op": Opcode.STOP, "name": "b", "index": 0, "decision": decision},
    ]
    chunks = [(np.zeros(6, dtype=np.uint32), 0), (np.zeros(10, dtype=np.uint32), 1)]
    image = program_image("net", header, operations, chunks, CONFIG)
    entry, table = words_of(Header), instruction_words(2, 1)
    assert decode(Header, image[:entry]) == header | {"entry": entry, "chunk_table": table, "chunks": 2}
    fields = [decode(Operation, [image[entry + n]]) for n in range(3)]
    assert [(f["op"], f["index"], f["target"], f["chunks"]) for f in fields] == [
        (Opcode.LAYER.value, 0, words_of(Window), 1),
        (Opcode.LAYER.value, 1, words_of(Window) + words_of(LayerDescription), 0),
        (Opcode.STOP.value, 0, 0, 0),
    ]
    assert decode(Decision, image[entry + 3 : table]) == decision
    size = words_of(Chunk)
    found = [decode(Chunk, image[table + n * size : table + (n + 1) * size]) for n in range(2)]
    # Beats of two words.
    assert [(f["address"], f["beats"], f["after"]) for f in found] == [(0, 3, 0), (3, 5, 1)]


def test_what_does_not_fit_says_by_how_much():
    fits("layer", 256, 256)
    with pytest.raises(ValueError, match=r"^layer memory holds 256 words; this network needs 258, 2 too many$"):
        fits("layer", 258, 256)


def test_shorter_memories_are_filled_up():
    np.testing.assert_array_equal(stack([[1, 2, 3], [4]]), [[1, 2, 3], [4, 0, 0]])
