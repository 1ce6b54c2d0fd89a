import json
import re
from dataclasses import fields, replace

import pytest

from hw.program.command import Command
from hw.program.tiles import Tile

GOOD = Command(
    name="sum", kind="conv2d+add", layer="branch", tensor="sum", rows=((0, 2), (2, 5)), channels=(8, 35), macs=900,
    groups=2,
)  # fmt: skip


def test_parts_are_bands_times_groups_of_words():
    """Channels 8 to 34 take words 1 to 4: the last one is begun, not filled."""
    assert GOOD.bands == 2
    assert GOOD.tiles() == [
        Tile(0, (0, 2), (1, 3)),
        Tile(1, (0, 2), (3, 5)),
        Tile(2, (2, 5), (1, 3)),
        Tile(3, (2, 5), (3, 5)),
    ]
    assert replace(GOOD, rows=((1, 4),), groups=1).tiles() == [Tile(0, (1, 4), (1, 5))]


def test_a_file_keeps_every_field_under_its_name():
    saved = replace(GOOD, column_major=True).to_dict()
    assert saved.keys() == {field.name for field in fields(Command)}
    assert Command.from_dict(json.loads(json.dumps(saved))) == replace(GOOD, column_major=True)
    with pytest.raises(TypeError, match="upright"):
        Command.from_dict(saved | {"upright": True})
    with pytest.raises(TypeError, match="name"):
        Command.from_dict({name: value for name, value in saved.items() if name != "name"})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", 3, "name must be a string, not 3"),
        ("kind", None, "kind must be a string, not None"),
        ("layer", 1.5, "layer must be a string, not 1.5"),
        ("tensor", b"sum", "tensor must be a string, not b'sum'"),
        ("rows", (), "sum: rows must be two integers of each band, not ()"),
        ("rows", ((0, 2), (2,)), "sum: rows must be two integers of each band, not ((0, 2), (2,))"),
        ("rows", ((0, 2), (2, 3.0)), "sum: rows must be two integers of each band, not ((0, 2), (2, 3.0))"),
        ("channels", (0, 8, 16), "sum: channels must be two integers, not (0, 8, 16)"),
        ("macs", -1, "sum: macs must be an integer of at least 0, not -1"),
        ("macs", True, "sum: macs must be an integer of at least 0, not True"),
        ("groups", 0, "sum: groups must be a positive integer, not 0"),
        ("partial", 1, "sum: partial must be true or false, not 1"),
        ("column_major", "no", "sum: column_major must be true or false, not 'no'"),
    ],
)
def test_what_no_program_can_say_is_refused(field, value, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace(GOOD, **{field: value})
