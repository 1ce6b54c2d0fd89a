import io

import pytest
from rich.console import Console

from offramp.report.tables.columns import Columns

HEAD = ["layer", "images", "cycles of all", *(f"lost: {cause}" for cause in ("a", "b", "c", "d", "e")), "what it is"]
ROWS = [
    [
        name,
        "10,000",
        f"{number * 1_234_567.8:,.1f}",
        *(f"{number * 1_234.5:,.1f}" for _ in range(5)),
        "words and more of them",
    ]
    for number, name in enumerate(("stem.conv", "stage3.block1.conv2", "head.linear"), 1)
]


def shown(table, width):
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200, 10_000])
def test_every_figure_is_whole_at_every_width(width):
    text = shown(Columns(HEAD, ROWS), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = text.split()
    for row in ROWS:
        assert row[0] in words
        for figure in row[1:-1]:
            assert words.count(figure) == sum(other.count(figure) for other in ROWS)
    for name in HEAD:
        assert set(name.split()) <= set(words)


def test_where_there_is_room_there_is_one_table():
    lines = shown(Columns(HEAD, ROWS), 200).splitlines()
    assert len(lines) == 1 + len(ROWS)
    assert [line.split()[0] for line in lines[1:]] == [row[0] for row in ROWS]
    assert len({len(line.rstrip()) - len(ROWS[0][-1]) for line in lines[1:]}) == 1


def test_tables_below_name_their_rows_again():
    text = shown(Columns(HEAD, ROWS), 60)
    assert text.count("head.linear") == text.count("layer") == 3
    assert text.splitlines().count("") == 2


def test_where_not_even_two_columns_find_room_rows_are_records():
    table = Columns(["name", "figure", "b"], [["a name", "1,234,567", "2"], ["other", "1", "3"]])
    lines = [line.rstrip() for line in shown(table, 16).splitlines()]
    assert lines == ["a name", "  figure:", "  1,234,567", "  b: 2", "other", "  figure: 1", "  b: 3"]
    assert shown(table, 17).splitlines()[0].split() == ["name", "figure"]


def test_long_words_of_sentences_stay_whole():
    path = "/a/folder/" + "x" * 80
    text = shown(Columns(["file", "where", "kind"], [["a", f"it is {path}", "program"]]), 10_000)
    assert len(text.splitlines()) == 2  # the head, and a row as long as it is
    narrow = shown(Columns(["file", "where", "kind"], [["a", f"it is {path}", "program"]]), 100)
    assert path in narrow.split()


def test_sentences_are_broken_between_words():
    sentence = "a sentence that is rather long " * 5
    text = shown(Columns(["name", "claim", "here"], [["x", sentence, "holds"]]), 50)
    assert text.split().count("sentence") == 5
    assert "holds" in text


def test_a_table_without_rows_is_its_head():
    assert shown(Columns(["a", "b"], []), 80).split() == ["a", "b"]
