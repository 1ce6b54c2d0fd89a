"""What a report is made of: sections with figures and tables, whatever they are shown on."""

from dataclasses import dataclass, field

from rich.console import RenderableType

from offramp.report.plots.chart import Chart

__all__ = ["Card", "Page", "Section"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report.

    Parameters
    ----------
    title : str
    charts : tuple of Chart
    tables : tuple
        :class:`offramp.report.tables.columns.Columns`, rich tables, text, and groups of these, as for a terminal.
    note : str
        How to read it.
    folded : dict of str to str
        Text that is shown when its name is clicked on.
    """

    title: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[RenderableType, ...] = ()
    note: str = ""
    folded: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Card:
    """A figure that stands out: its value, and what it is."""

    value: str
    text: str
    bad: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    cards: tuple[Card, ...] = ()
