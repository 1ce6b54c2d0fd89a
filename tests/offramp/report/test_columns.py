import io

import pytest
from rich.console import Console

from offramp.report.columns import Columns

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


def test_where_not_even_two_columns_find_room_the_last_is_folded():
    lines = shown(Columns(["name", "figure"], [["a name", "1,234,567"]]), 12).splitlines()
    assert [line.split()[-1] for line in lines] == ["figu", "re", "1,23", "4,56", "7"]


def test_sentences_are_broken_between_words():
    sentence = "a sentence that is rather long " * 5
    text = shown(Columns(["name", "claim", "here"], [["x", sentence, "holds"]]), 50)
    assert text.split().count("sentence") == 5
    assert "holds" in text


def test_a_table_without_rows_is_its_head():
    assert shown(Columns(["a", "b"], []), 80).split() == ["a", "b"]
