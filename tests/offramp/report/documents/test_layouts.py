import pytest

from hw.config import preset
from hw.program import isa, isa_select, protocol
from hw.program.isa import cuts_layout, pointer_layout
from offramp.report.documents.layouts import described, program_page


@pytest.mark.parametrize("module", [isa, isa_select, protocol])
def test_every_member_has_a_meaning(module):
    for layout in described(module):
        members = layout.get("members") or layout["fields"]
        unsaid = [each["name"] for each in members if not each["meaning"] and each["name"] != "reserved"]
        assert (layout["name"], unsaid) == (layout["name"], [])
        assert layout["said"]


def test_the_page_tells_signed_fields():
    page = program_page()
    assert "| 7:0, signed | `weight` |" in page
    assert "| 17:8 | `offset` |" in page


def test_the_page_tells_meanings_of_two_lines_whole():
    assert "hold the result until the deadline |" in program_page()
    assert "In constant time: the result comes when so many cycles have passed" in program_page()


@pytest.mark.parametrize("layout", [pointer_layout, cuts_layout])
def test_the_page_shows_words_that_depend_on_the_config(layout):
    found = layout(preset("base-85f"))
    _, _, section = program_page().partition(f"### {found.__name__}\n")
    section = section.partition("###")[0]
    assert "base-85f" in section
    for name, (offset, bits, *_) in found.fields.items():
        assert f"| {offset + bits - 1}:{offset} | `{name}` |" in section
        assert f"`{name}` |  |" not in section
