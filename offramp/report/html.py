"""A report as one HTML file that needs nothing beside it: figures with their data, tables, notes."""

import html
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rich.console import Group, RenderableType
from rich.table import Table

from hw.output import write_file
from offramp.report.pages.section import Card, Page, Section
from offramp.report.plots.chart import Chart
from offramp.report.tables.columns import Columns

if TYPE_CHECKING:
    from models.datasets.sources import Progress

__all__ = ["render", "write"]

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.55 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; color: #22262b;
       background: #f6f7f9; margin: 0; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
.sub { color: #5b626b; margin: 0 0 1.6rem; }
section { background: #fff; border: 1px solid #e3e6ea; border-radius: 8px; padding: 1.2rem 1.4rem; margin: 0 0 1.2rem;
          overflow-x: auto; }
p.note { color: #5b626b; font-size: .92em; margin: .6rem 0 0; }
.charts { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
figure { margin: 0 0 1rem; width: 26rem; max-width: 100%; }
figcaption { color: #5b626b; font-size: .88em; } figcaption a { color: #0072b2; }
svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .94em; margin: 0 0 .8rem; }
th, td { text-align: left; padding: .28rem 1.2rem .28rem 0; border-bottom: 1px solid #edeff2; vertical-align: top; }
th { color: #5b626b; font-weight: 600; } td.n, th.n { text-align: right; padding: .28rem 0 .28rem .8rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 0 0 1.2rem; }
.card { background: #fff; border: 1px solid #e3e6ea; border-radius: 8px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.card span { color: #5b626b; font-size: .88em; }
.bad { color: #b42318; } details summary { cursor: pointer; color: #3a3f47; }
pre { overflow: auto; font-size: .82em; background: #f6f7f9; padding: .8rem; border-radius: 6px; margin: .6rem 0 0; }
"""


def _table(head: list[str], rows: list[list[str]], figures: list[bool]) -> str:
    """A table whose columns of figures are aligned to the right."""

    def cells(tag: str, values: list[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if right else ''}>{html.escape(value)}</{tag}>"
            for value, right in zip(values, figures, strict=True)
        )

    lines = ([cells("th", head)] if head else []) + [cells("td", row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _shown(part: RenderableType) -> str:
    """What a terminal shows as tables and text, as HTML.

    Raises
    ------
    TypeError
        When it is of another kind.
    """
    if isinstance(part, Group):
        return "".join(map(_shown, part.renderables))
    if isinstance(part, Columns):
        return _table(part.head, part.rows, part.figures)
    if isinstance(part, Table):
        rows = [[str(cell) for cell in row] for row in zip(*(column.cells for column in part.columns), strict=True)]
        return _table([], rows, [False] * len(part.columns))
    if isinstance(part, str):
        return f"<p>{html.escape(part)}</p>" if part else ""
    raise TypeError(f"a report shows tables and text, not {type(part).__name__}")


def _figure(chart: Chart) -> str:
    """A figure, whose title stands for it where it can't be seen, and below it its data to be downloaded."""
    data = f"data:text/csv;charset=utf-8,{quote(chart.csv())}"
    link = f'<a download="{html.escape(chart.name)}.csv" href="{data}">data (CSV)</a>'
    note = f"{html.escape(chart.note)} " if chart.note else ""
    alternative = f'<svg role="img" aria-label="{html.escape(chart.title)}"'
    drawing = chart.svg().replace("<svg", alternative, 1)
    return f"<figure>{drawing}<figcaption>{html.escape(chart.title)}. {note}{link}</figcaption></figure>"


def _section(section: Section, figures: Iterator[str]) -> str:
    charts = "".join(islice(figures, len(section.charts)))
    folded = "".join(
        f"<details><summary>{html.escape(name)}</summary><pre>{html.escape(text)}</pre></details>"
        for name, text in section.folded.items()
    )
    parts = [
        f"<h2>{html.escape(section.title)}</h2>",
        f"<div class=charts>{charts}</div>" if charts else "",
        *map(_shown, section.tables),
        folded,
        f"<p class=note>{html.escape(section.note)}</p>" if section.note else "",
    ]
    return f"<section>{''.join(parts)}</section>"


def _cards(cards: tuple[Card, ...]) -> str:
    inner = "".join(
        f"<div class=card><b{' class=bad' if card.bad else ''}>{html.escape(card.value)}</b>"
        f"<span>{html.escape(card.text)}</span></div>"
        for card in cards
    )
    return f"<div class=cards>{inner}</div>" if cards else ""


def _figures(page: Page, progress: "Progress | None") -> Iterator[str]:
    """All figures of a report, in their order, each drawn when it is asked for."""
    charts = [chart for section in page.sections for chart in section.charts]
    for number, chart in enumerate(charts):
        if progress is not None:
            progress(number, len(charts), f"draw {chart.name}")
        yield _figure(chart)


def render(page: Page, progress: "Progress | None" = None) -> str:
    """A report as HTML text."""
    figures = _figures(page, progress)
    sections = "".join(_section(section, figures) for section in page.sections)
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{html.escape(page.title)}</title><style>{_CSS}</style></head><body><main>"
        f"<h1>{html.escape(page.title)}</h1><p class=sub>{html.escape(page.subtitle)}</p>"
        f"{_cards(page.cards)}{sections}</main></body></html>\n"
    )


def write(path: Path, page: Page) -> None:
    """Write the report, whole or not at all."""
    write_file(path, render(page).encode())
