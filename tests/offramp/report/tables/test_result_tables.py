import io
import re

import pytest
from rich.console import Console

from offramp.files.result_file import read_json
from offramp.report.tables import bench_tables, demo_tables, methods, result_tables, zoo_tables
from offramp.report.tables.columns import Columns
from tests.offramp.results import VERIFY

WIDTHS = [60, 80, 100, 200]


def shown(table, width):
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    assert max(map(len, text.getvalue().splitlines())) <= width
    return text.getvalue()


def figures(cells):
    """What is a number, in the texts of a table."""
    return {word for cell in cells for word in re.findall(r"\S*\d\S*", cell)}


def check(table, rows, width):
    text = shown(table, width)
    assert "…" not in text
    assert figures(cell for row in rows for cell in row) <= set(text.split())


@pytest.mark.parametrize("width", WIDTHS)
def test_the_tables_of_the_bench_show_every_figure(width):
    found = read_json(methods.FOLDER.parent / "bench-85f.json")
    rows, others = found["rows"], found["peers"]
    check(bench_tables.workloads(rows), bench_tables.workload_rows(rows)[1], width)
    check(bench_tables.peers(rows, others), bench_tables.peer_rows(rows, others)[1], width)
    for row in rows:
        check(result_tables.layers(row["layers"]), result_tables.layer_rows(row["layers"])[1], width)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_tables_of_zoo_and_methods_show_every_figure(width):
    found = methods.collect()
    networks = [zoo_tables._network_row(entry) for entry in found["networks"]]
    check(zoo_tables.networks(found["networks"]), [[*row[:1], *row[2:]] for row in networks], width)
    for title, head, rows in zoo_tables._cycle_tables(found["networks"]):
        check(Columns(head, rows), rows, width)
        assert title in zoo_tables.on_configs(found["networks"])
    check(methods.accelerator(found["methods"]), methods._accelerator_rows(found["methods"]), width)
    check(methods.balance(found["methods"]), methods._balance_rows(found["methods"]), width)
    check(methods.claims(found["methods"]), [row[4:] for row in methods._claim_rows(found["methods"])], width)


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_of_names_and_values_show_every_figure(width):
    memories = ", ".join(f"list{number} {number}12,345/67,890" for number in range(9))
    rows = [("memory words", memories), ("long", "1" * 90)]
    text = shown(result_tables.key_values(rows), width)
    assert "…" not in text
    assert figures([memories]) <= set(text.split())
    assert text.count("1") == 90 + memories.count("1")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_demos_table_shows_every_figure(finished, width):
    _, rows = result_tables.measurement_rows(finished["inputs"])
    check(result_tables.measurements(finished["inputs"]), rows, width)
    text = shown(demo_tables.summary(finished), width)
    assert "…" not in text
    cells = [cell for row in rows for cell in row]
    assert figures(cells) <= set(text.replace("│", " ").split())


@pytest.mark.parametrize("width", WIDTHS)
def test_a_waveform_is_named_with_its_layout(width):
    text = shown(result_tables.verification(VERIFY | {"waveform": "out/run.fst"}, ["net"]), width)
    assert {"out/run.fst", "out/run.gtkw"} <= set(text.split())
    assert "gtkw" not in shown(result_tables.verification(VERIFY, ["net"]), width)


def test_decisions_that_none_was_made_of_are_one_row():
    counts = {"forced": 0, "passed": 0, "differs": 0, "out_of_range": 0, "overrun": 0}
    assert result_tables.decision_rows(counts) == [("ended by a deadline, audited, out of range", "0")]
    assert len(result_tables.decision_rows(counts | {"passed": 7})) == len(counts)
    assert result_tables.decision_rows({}) == []


def test_metrics_are_named_by_their_network_and_exit_in_the_order_in_which_it_is_made():
    metrics = {"density": 0.25, "int8_exits": 0.5, "float_branch": 0.75, "threshold": 1590.0, "other_figure": 1.0}
    assert result_tables.metric_rows(metrics) == [
        ("accuracy, float, at the early exit", "75.00 %"),
        ("accuracy, int8, with early exits", "50.00 %"),
        ("threshold of exit 0", "1,590"),
        ("weights that aren't zero", "25.00 %"),
        ("other figure", "100.00 %"),
    ]
