from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.program import instructions, isa
from hw.program.bits import decode, encode, words_of
from hw.program.instructions import CoreLayer, CoreSelection, Fields, Instruction, RowFields
from hw.program.isa import Opcode

#: Those that name a layout; CoreLayer and CoreSelection are of one that another names.
KINDS = {
    name: kind
    for name, kind in vars(instructions).items()
    if isinstance(kind, type) and issubclass(kind, Fields) and "layout" in vars(kind)
}


@st.composite
def words(draw, layout):
    """Any words of a layout, its reserved bits 0."""
    found = [draw(st.integers(0, (1 << 32) - 1)) for _ in range(words_of(layout))]
    used = {name: value for name, value in decode(layout, found).items() if name != "reserved"}
    return encode(layout, **used)


def test_every_layout_of_a_program_is_there():
    assert KINDS.keys() == {
        f"{name}Fields"
        for name in (
            "Header", "Decision", "Window", "Target", "Source", "Row", "Column", "LaneDescription", "FixedPoint",
            "Residual", "LayerDescription", "Selection",
        )
    }  # fmt: skip
    assert all(kind.layout is getattr(isa, name.removesuffix("Fields")) for name, kind in KINDS.items())


@pytest.mark.parametrize("kind", KINDS.values())
def test_names_are_those_of_the_layout(kind):
    there = [name for name in kind.layout.fields if name != "reserved"]
    assert [field.name for field in fields(kind)] == there


@pytest.mark.parametrize("kind", [*KINDS.values(), CoreLayer, CoreSelection])
@given(data=st.data())
def test_words_survive(kind, data):
    packed = data.draw(words(kind.layout))
    found = kind.unpack(packed)
    assert found.pack() == packed
    assert found.values() == {name: value for name, value in decode(kind.layout, packed).items() if name != "reserved"}


def test_a_row_by_hand():
    row = RowFields.unpack([5 | 7 << 12 | 3 << 22 | 1 << 26 | 6 << 27 | 2 << 30])
    assert row == RowFields(list=5, accumulator=7, count=3, final=1, parts=6, skip=2)
    with pytest.raises(ValueError, match=r"^Row.count must be in 0..15, not 16$"):
        replace(row, count=16).pack()
    with pytest.raises(ValueError, match=r"^Row is 1 words long, not 2$"):
        RowFields.unpack([0, 0])


def test_nested_layouts_are_typed():
    layout = isa.LayerDescription
    nested = {name for name, field in layout.fields.items() if field.nested}
    core = CoreLayer.unpack([0] * words_of(layout))
    assert {name for name in core.values() if isinstance(getattr(core, name), Fields)} == nested
    assert layout.bits == sum(field.bits for field in layout.fields.values())
    assert (core.rows, core.columns) == ((), ())


def test_parts_are_the_cores_that_work():
    rests = CoreLayer.unpack([0] * words_of(isa.LayerDescription))
    works = replace(rests, enable=1)
    found = Instruction(address=5, op=Opcode.LAYER, index=0, target=2, cores=(rests, works, rests, works))
    assert found.working == {1: works, 3: works}
    assert Instruction(address=6, op=Opcode.STOP, index=0, target=0).working == {}
