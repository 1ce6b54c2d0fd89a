import io
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from rich.console import Console

from offramp.report import html as report
from offramp.report.pages.demo_page import demo_page
from offramp.report.pages.section import Page, Section
from offramp.report.plots.chart import Chart, PlotTable, blank
from offramp.report.tables import demo_tables, result_tables

VOID = {"meta", "br"}


class Balanced(HTMLParser):
    """Collects text, and refuses tags that don't match."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def rendered(finished):
    """The report; its figures are drawn once."""
    return report.render(demo_page(finished))


def parsed(text):
    page = Balanced()
    page.feed(text)
    assert not page.open
    return page


def test_report_is_whole_and_needs_nothing_beside_it(finished, rendered, tmp_path, monkeypatch):
    page = parsed(rendered)
    charts = [chart for section in demo_page(finished).sections for chart in section.charts]
    assert [chart.name for chart in charts] == ["cycles", "exits-by-input", "layers", "thresholds", "cells"]
    assert sum(tag == "svg" for tag, _ in page.tags) == len(charts)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "img", "iframe"}
        assert not any(
            str(value).startswith(("http:", "https:", "//"))
            for name, value in attributes.items()
            if name in {"src", "href"}
        )
    assert "@import" not in rendered
    monkeypatch.setattr(report, "render", lambda _: rendered)
    path = tmp_path / "folder" / "report.html"
    report.write(path, demo_page(finished))
    assert path.read_text() == rendered


def test_report_holds_the_figures(finished, rendered):
    text = " ".join(parsed(rendered).text)
    for name, found in finished["inputs"].items():
        assert found["description"] in text
        assert f"{found['cycles']['worst']:,}" in text
        assert result_tables.NAMES[name] in text
    assert f"The network: {finished['recipe']['about']}." in text
    assert "a<b & c" in text  # escaped in the file, itself on the page
    assert finished["versions"]["amaranth"] in text
    assert "80.0 MHz" in text
    assert "DIFFERENT" not in text


def test_report_shows_a_mismatch_and_missed_timing(finished, monkeypatch):
    monkeypatch.setattr(Chart, "svg", lambda _: "<svg></svg>")
    different = finished | {
        "verify": finished["verify"] | {"cycles_equal": False},
        "build": finished["build"] | {"timing_met": False},
        "git": None,
    }
    text = " ".join(parsed(report.render(demo_page(different))).text)
    assert "DIFFERENT" in text
    assert "cycles DIFFER" in text
    assert "TIMING NOT MET" in text
    assert "revision" not in text


def test_each_figure_has_an_alternative_text(finished, rendered):
    drawings = [attributes for tag, attributes in parsed(rendered).tags if tag == "svg"]
    charts = [chart for section in demo_page(finished).sections for chart in section.charts]
    assert [drawing["aria-label"] for drawing in drawings] == [chart.title for chart in charts]
    assert {drawing["role"] for drawing in drawings} == {"img"}


def test_below_each_figure_its_data_can_be_downloaded(finished, rendered):
    page = parsed(rendered)
    links = [attributes for tag, attributes in page.tags if tag == "a"]
    charts = [chart for section in demo_page(finished).sections for chart in section.charts]
    assert [link["download"] for link in links] == [f"{chart.name}.csv" for chart in charts]
    for link, chart in zip(links, charts, strict=True):
        kind, _, content = link["href"].partition(",")
        assert kind == "data:text/csv;charset=utf-8"
        assert unquote(content) == chart.csv()


def test_every_figure_is_counted_while_they_are_drawn(finished):
    page, told = demo_page(finished), []
    report.render(page, lambda *step: told.append(step))
    names = [chart.name for section in page.sections for chart in section.charts]
    assert told == [(number, len(names), f"draw {name}") for number, name in enumerate(names)]


def test_what_is_shown_is_escaped_and_of_a_known_kind():
    chart = Chart(name='">b', title="a<b", data=PlotTable(("x",), ((1,),)), draw=lambda data: blank(1.0)[0], note="c<d")
    section = Section(title="e<f", charts=(chart,), tables=("g<h", ""), note="i<j", folded={"k<l": "m<n"})
    page = parsed(report.render(Page(title="o<p", subtitle="q<r", sections=(section,))))
    text = " ".join(page.text)
    assert all(f"{first}<" in text for first in "acegikmoq")
    assert [attributes["download"] for tag, attributes in page.tags if tag == "a"] == ['">b.csv']
    with pytest.raises(TypeError, match="a report shows tables and text, not int"):
        report.render(Page(title="", subtitle="", sections=(Section(title="", tables=(1,)),)))


def test_the_table_holds_every_input_once(finished):
    text = io.StringIO()
    Console(file=text, width=150).print(demo_tables.summary(finished))
    shown = text.getvalue()
    for name in finished["inputs"]:
        lines = [line for line in shown.splitlines() if line.strip("│ ").startswith(f"{result_tables.NAMES[name]} ")]
        assert len(lines) == 1
        assert f"{finished['inputs'][name]['cycles']['p99']:,}" in lines[0]
    assert "values equal, cycles equal (2 images, 20 layers)" in shown
    assert "9,000 of 24,288 (37 %)" in shown


def test_readme_table_is_markdown(finished):
    lines = [line for line in demo_tables.markdown(finished).splitlines() if line.startswith("|")]
    columns = {line.count("|") for line in lines}
    head, rows = result_tables.measurement_rows(finished["inputs"])
    assert columns == {len(head) + 1, 3}
    assert {len(row) for row in rows} == {len(head)}
    for name in finished["inputs"]:
        assert sum(line.startswith(f"| {result_tables.NAMES[name]} |") for line in lines) == 1


def test_layer_table_shows_where_cycles_go(finished):
    text = io.StringIO()
    rows = finished["inputs"]["clean"]["layers"]
    Console(file=text, width=150).print(result_tables.layers(rows))
    for row in rows:
        assert f"{row['cycles']:,.1f}" in text.getvalue()
