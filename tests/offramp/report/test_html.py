import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from offramp.report import figures, tables
from offramp.report import html as report
from tests.offramp.conftest import QUICK
from tests.offramp.results import result_of

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
def result(small):
    return result_of(small, QUICK)


def parsed(text):
    page = Balanced()
    page.feed(text)
    assert not page.open
    return page


def test_report_is_whole_and_needs_nothing_beside_it(result, tmp_path):
    path = tmp_path / "folder" / "report.html"
    report.write(path, result)
    page = parsed(path.read_text())
    assert sum(tag == "svg" for tag, _ in page.tags) == 3
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "img", "iframe"}
        assert not any(
            str(value).startswith(("http:", "https:", "//"))
            for name, value in attributes.items()
            if name in {"src", "href"}
        )
    assert "@import" not in path.read_text()


def test_report_holds_the_figures(result):
    text = " ".join(parsed(report.render(result)).text)
    for name, found in result["inputs"].items():
        assert found["description"] in text
        assert f"{found['cycles']['worst']:,}" in text
        assert tables.NAMES[name] in text
    assert f"The network: {result['recipe']['about']}." in text
    assert "a<b & c" in text  # escaped in the file, itself on the page
    assert result["versions"]["amaranth"] in text
    assert "80.0 MHz" in text
    assert "DIFFERENT" not in text


def test_report_shows_a_mismatch_and_missed_timing(result):
    different = result | {
        "verify": result["verify"] | {"cycles_equal": False},
        "build": result["build"] | {"timing_met": False},
        "git": None,
    }
    text = " ".join(parsed(report.render(different)).text)
    assert "DIFFERENT" in text
    assert "cycles DIFFER" in text
    assert "TIMING NOT MET" in text
    assert "revision" not in text


def test_plots_are_the_same_every_time(result):
    layers = result["inputs"]["clean"]["layers"]
    assert figures.layer_cycles(layers) == figures.layer_cycles(layers)
    assert figures.cycle_distribution(result["inputs"]).startswith("<svg")
    curve = figures.exit_curve(result["curve"], result["metrics"]["threshold"])
    assert "exit threshold" in curve
    assert re.search(r"leave early", curve)


def test_the_table_holds_every_input_once(result):
    text = io.StringIO()
    Console(file=text, width=150).print(tables.summary(result))
    shown = text.getvalue()
    for name in result["inputs"]:
        lines = [line for line in shown.splitlines() if line.strip("│ ").startswith(f"{tables.NAMES[name]} ")]
        assert len(lines) == 1
        assert f"{result['inputs'][name]['cycles']['p99']:,}" in lines[0]
    assert "values equal, cycles equal (2 images, 20 layers)" in shown
    assert "9,000 of 24,288 (37 %)" in shown


def test_readme_table_is_markdown(result):
    lines = [line for line in tables.markdown(result).splitlines() if line.startswith("|")]
    columns = {line.count("|") for line in lines}
    head, rows = tables.measurement_rows(result["inputs"])
    assert columns == {len(head) + 1, 3}
    assert {len(row) for row in rows} == {len(head)}
    for name in result["inputs"]:
        assert sum(line.startswith(f"| {tables.NAMES[name]} |") for line in lines) == 1


def test_layer_table_shows_where_cycles_go(result):
    text = io.StringIO()
    rows = result["inputs"]["clean"]["layers"]
    Console(file=text, width=150).print(tables.layers(rows))
    for row in rows:
        assert f"{row['cycles']:,.1f}" in text.getvalue()
