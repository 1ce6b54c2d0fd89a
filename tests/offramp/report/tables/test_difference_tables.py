import pytest

from offramp.difference import Change, changes
from offramp.report.tables.columns import Columns
from offramp.report.tables.difference_tables import difference_tables

FIRST = {
    "accuracy": 0.98,
    "exit_share": [0.25, 0.75],
    "cycles": {"mean": 1000.25, "worst": 2000},
    "layers": [
        {"name": "stem", "cycles": 100.0, "share_of_limit": 0.5, "loss": {"drain": 4.0}},
        {"name": "head", "cycles": 50.0, "share_of_limit": 0.25, "loss": {"drain": 0.0}},
    ],
    "memories": {"lists": {"used": 100, "available": 512}},
    "network": {"layers": [{"name": "stem", "output": [8, 8, 4]}]},
}
SECOND = {
    "accuracy": 0.99,
    "exit_share": [0.5, 0.5],
    "cycles": {"mean": 500.5, "worst": 2000},
    "layers": [
        {"name": "stem", "cycles": 150.0, "share_of_limit": 0.5, "loss": {"drain": 6.0}},
        {"name": "tail", "cycles": 7.0, "share_of_limit": 0.125, "loss": {"drain": 0.0}},
    ],
    "memories": {"lists": {"used": 200, "available": 512}},
    "network": {"layers": [{"name": "stem", "output": [8, 8, 8]}]},
}


def tables(first, second):
    """Each table's head and rows, by the heading above it."""
    found, title = {}, ""
    for part in difference_tables("a", "b", changes(first, second)):
        if isinstance(part, Columns):
            found[title] = [part.head, *part.rows]
        else:
            title = part
    return found


def test_figures_of_the_whole_are_in_words_and_shares_in_percent():
    assert tables(FIRST, SECOND)[""] == [
        ["what", "a", "b", "change"],
        ["accuracy, %", "98.00", "99.00", "+1.00 points"],
        ["leave at exit 0, %", "25.00", "50.00", "+25.00 points"],
        ["leave at the last exit, %", "75.00", "50.00", "-25.00 points"],
        ["cycles, mean", "1,000.2", "500.5", "-50.0 %"],
    ]


@pytest.mark.parametrize("key", ["images of", "images_of"])
def test_figures_of_different_images_are_told(key):
    said = "Accuracy and cycles are of different images: with --data they are of the same."
    every = [{key: images} | FIRST for images in ("digits, test", "256 random images, seed 0")]
    assert difference_tables("a", "b", changes(*every))[-1] == said
    assert said not in difference_tables("a", "b", changes(every[0], {key: "digits, test"} | SECOND))


def test_layers_are_rows_and_what_is_the_same_is_marked():
    assert tables(FIRST, SECOND)["By layer, means over the images that reach it, a → b:"] == [
        ["layer", "cycles", "change of cycles", "of limit, %", "cycles lost: drain"],
        ["stem", "100.0 → 150.0", "+50.0 %", "=", "4 → 6"],
        ["head", "50 → -", "-", "25.00 → -", "0 → -"],
        ["tail", "- → 7", "-", "- → 12.50", "- → 0"],
    ]


def test_a_figure_that_is_nothing_in_rows_that_only_one_has_is_no_column():
    first = {"layers": [{"name": "stem", "cycles": 1.5, "select": 0.0}]}
    second = {"layers": [{"name": "tail", "cycles": 2.5, "select": 0.0}]}
    ((head, *_),) = tables(first, second).values()
    assert head == ["layer", "cycles", "change of cycles"]


def test_memories_and_sizes_are_tables_of_their_own():
    found = tables(FIRST, SECOND)
    assert found["Memories, in the core and PE that needs most, a → b:"] == [
        ["memory", "used words"],
        ["lists", "100 → 200"],
    ]
    assert found["Layers of the network, a → b:"] == [["layer", "output"], ["stem", "8x8x4 → 8x8x8"]]


def test_lists_of_results_have_a_table_each():
    first, second = (
        {"rows": [{"workload": "kws", "layers": [{"name": "c1", "cycles": n}], "cycles": n}]} for n in (1, 2)
    )
    assert sorted(tables(first, second)) == ["Rows kws layers, a → b:", "Rows, a → b:"]


@pytest.mark.parametrize(("first", "second"), [(True, False), ("a", "b"), (None, 3), (0, 4), (7, 10**400)])
def test_a_change_that_has_no_percent_has_a_dash(first, second):
    (table,) = difference_tables("a", "b", [Change(table="", row="", what="size", first=first, second=second)])
    assert table.rows[0][-1] == "-"


def test_nothing_different_has_no_table():
    assert difference_tables("a", "b", []) == []
