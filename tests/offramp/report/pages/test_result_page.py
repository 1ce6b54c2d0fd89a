import json

import pytest

from offramp.files.result_file import SCHEMA, provenance
from offramp.report.pages.result_page import _SECTIONS, page_of, read_result
from tests.offramp.command_line import registered


@pytest.fixture
def file(tmp_path):
    """A function that writes a table as JSON and returns the file."""

    def write(found):
        path = tmp_path / "result.json"
        path.write_text(json.dumps(found))
        return path

    return write


def test_every_command_has_a_report():
    assert _SECTIONS.keys() == registered().keys()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a": 1}, r"result\.json must be the result of a command \(--json FILE\), not a table without one"),
        ({"command": "gap"}, r"result\.json must be the result of a command \(--json FILE\), not of 'gap'"),
        ({"command": ["gap"]}, r"result\.json must be the result of a command \(--json FILE\), not of \['gap'\]"),
        ({"command": [1]}, r"result\.json must be the result of a command \(--json FILE\), not of \[1\]"),
        (
            {"command": "clean", "schema": SCHEMA + 1},
            rf"result\.json must have schema {SCHEMA}, not {SCHEMA + 1} of another version of Offramp",
        ),
        (
            {"command": "diff", "first": "a"},
            r"must be the result of a command \(--json FILE\): of diff it must hold second, changes, seed, versions$",
        ),
        ([], r"result\.json: must be a table, not list"),
    ],
)
def test_other_tables_are_refused(file, found, message):
    with pytest.raises(ValueError, match=message):
        read_result(file(found))


def test_other_files_are_refused_by_what_they_are(tmp_path):
    for text, message in (("nothing", " must be the result .*, not a text file$"), ("[" * 100_000, ": must be JSON")):
        (tmp_path / "note.txt").write_text(text)
        with pytest.raises(ValueError, match=rf"note\.txt{message}"):
            read_result(tmp_path / "note.txt")
    with pytest.raises(ValueError, match=r"none\.json: cannot be read"):
        read_result(tmp_path / "none.json")
    (tmp_path / "net.onnx").write_bytes(b"\b\1")
    with pytest.raises(ValueError, match=r"net\.onnx must be the result .*, not a model from outside: import it first"):
        read_result(tmp_path / "net.onnx")


def test_a_page_says_where_it_comes_from(file):
    result = {**provenance("diff", 7), "first": "tiny", "second": "single", "changes": []}
    page = page_of(read_result(file(result)))
    assert page.title == "offramp diff"
    assert page.subtitle.startswith("seed 7, offramp ")
    first, last = page.sections
    assert first.tables == ("nothing is different",)
    assert result["versions"]["torch"] in last.folded["show"]
