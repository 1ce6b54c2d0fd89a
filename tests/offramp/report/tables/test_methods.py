import json
from dataclasses import replace
from html import unescape

import pytest
from rich.console import Console

from offramp.report import html
from offramp.report.pages.methods_page import methods_sections
from offramp.report.pages.section import Page
from offramp.report.tables import methods

RESULT = {
    "method": "gap",
    "network": "half-width ResNet-8",
    "dataset": "fashion-mnist",
    "checks": [
        {"claim": "transfer is harder", "holds": True, "figures": {"gap": 0.61, "magnitude": 0.5}},
        {"claim": "white-box stays low", "holds": False, "figures": {"pgd": 0.32}},
    ],
    "figures": {},
    "accelerator": {
        "gap": {"cycles": 1234.4, "products": 56789.0, "products_share": 0.25, "share_of_limit": 0.718},
    },
    "command": "python -m offramp.replications gap --seed 0",
    "seed": 0,
    "date": "2026-11-20",
}


@pytest.fixture
def found(tmp_path):
    (tmp_path / "gap.json").write_text(json.dumps(RESULT))
    return methods.collect(tmp_path)


def page(found) -> str:
    """The report's tables and notes as HTML, without its figures."""
    sections = tuple(replace(section, charts=()) for section in methods_sections(found))
    return unescape(html.render(Page(title="methods", subtitle="", sections=sections)))


def test_tables_say_what_holds_and_what_fails(found):
    text = page(found)
    for claim in (
        ("transfer is harder", "holds", "gap 0.61, magnitude 0.5"),
        ("white-box stays low", "fails", "pgd 0.32"),
    ):
        cells = ("gap", "half-width ResNet-8, fashion-mnist", *claim)
        assert f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" in text
    assert RESULT["command"] in text
    console = Console(width=200, record=True)
    console.print(methods.claims(found["methods"]))
    shown = console.export_text()
    assert "white-box stays low" in shown
    assert "fails" in shown
    for entry in found["networks"]:
        assert f"<td>{entry['name']}</td>" in text


def test_a_figure_of_each_kind_for_each_data_set(found):
    names = [chart.name for section in methods_sections(found) for chart in section.charts]
    sets = ("fashion-mnist", "cifar10", "digits")
    assert names == [*(f"{kind}-{data}" for kind in ("pareto", "attacked") for data in sets), "claims-fashion-mnist"]


def test_tables_of_exits_and_balance(tmp_path):
    """From the results of two replications; a table without its replication is empty."""
    rows = {"dense": {"exit_share": 0.5, "accuracy": 0.90, "accuracy_without_exit": 0.915}}
    dab = RESULT | {"method": "dab", "figures": {"orthogonality": rows}}
    pruned = {
        name: {"accuracy": 0.86, "accuracy_int8": 0.85 + 0.01 * number, "weights": 15000}
        for number, name in enumerate(("unbalanced", "balanced"))
    }
    measured = dict.fromkeys(pruned, RESULT["accelerator"]["gap"])
    even = RESULT | {"method": "balance", "figures": pruned, "accelerator": measured}
    for name, result in (("gap", RESULT), ("dab", dab), ("balance", even)):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    found = methods.collect(tmp_path)
    text = page(found).replace("<td class=n>", "<td>").replace("</td><td>", " | ")
    assert "gap | fashion-mnist | gap | 56,789 | 25.00 | 1,234 | 71.80" in text
    assert "dense | 50.00 | 90.00 | 91.50 | -1.50" in text
    assert "balanced | 86.00 | 86.00 | 15,000 | 1,234 | 56,789 | 71.80" in text
    assert "balance, fashion-mnist" in text
    for table in (methods.accelerator, methods.orthogonality, methods.balance):
        assert len(Console(width=200).render_lines(table(found["methods"]))) > 1
        assert len(Console(width=200).render_lines(table({}))) == 1


def test_nothing_yet(tmp_path):
    found = methods.collect(tmp_path)
    assert found["methods"] == {}
    assert "dab, not tried" in page(found)


def test_incomplete_results_are_refused(tmp_path):
    (tmp_path / "gap.json").write_text(json.dumps({"method": "gap"}))
    with pytest.raises(ValueError, match=r"gap.json: must hold 'network'"):
        methods.collect(tmp_path)
    (tmp_path / "gap.json").write_text(json.dumps({k: v for k, v in RESULT.items() if k != "figures"}))
    with pytest.raises(ValueError, match=r"gap.json: must hold 'figures'"):
        methods.collect(tmp_path)
    (tmp_path / "gap.json").write_text("[]")
    with pytest.raises(ValueError, match=r"gap.json: must be a table, not list"):
        methods.collect(tmp_path)
    (tmp_path / "gap.json").write_text("{")
    with pytest.raises(ValueError, match=r"gap.json: must be JSON"):
        methods.collect(tmp_path)


def test_committed_results_are_complete():
    methods.collect()
