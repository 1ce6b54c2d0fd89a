"""A figure and the table that it is drawn from: what is in the CSV file is what is seen."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hw.output import write_file

__all__ = [
    "COLOURS",
    "GREY",
    "STYLE",
    "WIDTH",
    "Chart",
    "PlotTable",
    "add_microseconds",
    "blank",
    "brief",
    "file_name",
    "legend_below",
]

#: Inches: a column of a paper.
WIDTH = 3.35
#: Of what is compared with, and of limits.
GREY = "#6b7280"
STYLE = Path(__file__).with_name("offramp.mplstyle")
#: Of the style: they are looked up when a line is made, not when it is drawn, where the style is no longer in force.
COLOURS = tuple(mpl.rc_params_from_file(STYLE, use_default_template=False)["axes.prop_cycle"].by_key()["color"])
#: Coordinates in SVG: finer than a hundredth of a point nobody sees.
_FINE = re.compile(r"(\d\.\d\d)\d{4}")
#: A vertical line in a path of SVG, for which there is a shorter form: timelines have thousands.
_VERTICAL = re.compile(r"M ([\d.]+) ([\d.]+) \nL \1 ([\d.]+) \n")
#: Digits of a number, in figures and files.
_DIGITS = 10


@dataclass(frozen=True)
class PlotTable:
    """The data of a figure.

    Parameters
    ----------
    head : tuple of str
        Names of the columns, with units.
    rows : tuple of tuples
        Text and numbers, of ten digits at most.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(tuple(map(_tidy, row)) for row in self.rows))

    def __getitem__(self, name: str) -> list[Any]:
        """A column."""
        column = self.head.index(name)
        return [row[column] for row in self.rows]

    def split(self, name: str) -> dict[Any, "PlotTable"]:
        """The rows by what stands in a column, in the order in which it comes."""
        values = self[name]
        return {
            value: PlotTable(self.head, tuple(row for row, own in zip(self.rows, values, strict=True) if own == value))
            for value in dict.fromkeys(values)
        }


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure of a report.

    Parameters
    ----------
    name : str
        Of its files, without ending.
    title : str
        What it shows, for a heading.
    data : PlotTable
        All that is drawn.
    draw : function
        Makes the figure of the data.
    note : str
        How to read it.
    """

    name: str
    title: str
    data: PlotTable = field(repr=False)
    draw: Callable[[PlotTable], Figure] = field(repr=False)
    note: str = ""

    def figure(self) -> Figure:
        """Drawn anew, in the style of all figures."""
        with mpl.rc_context(fname=STYLE):
            return self.draw(self.data)

    def svg(self) -> str:
        """As text for HTML, where no XML prologue is allowed; a file may begin so, too."""
        text = self._saved("svg", {"Date": None}).decode()
        return _VERTICAL.sub(r"M\1 \2V\3", _FINE.sub(r"\1", text[text.index("<svg") :]))

    def pdf(self) -> bytes:
        """As a file; fonts are embedded."""
        return self._saved("pdf", {"CreationDate": None})

    def csv(self) -> str:
        """The data, with a line that names the columns."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.data.head, *self.data.rows])
        return text.getvalue()

    def write(self, folder: Path) -> None:
        """Write ``name.svg``, ``name.pdf`` and ``name.csv``."""
        for ending, content in (("svg", self.svg().encode()), ("pdf", self.pdf()), ("csv", self.csv().encode())):
            write_file(folder / f"{self.name}.{ending}", content)

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        return self.svg()

    def _saved(self, form: str, metadata: dict[str, None]) -> bytes:
        content = io.BytesIO()
        figure = self.figure()
        with mpl.rc_context(fname=STYLE):
            figure.savefig(content, format=form, metadata=metadata)
        return content.getvalue()


def file_name(text: str) -> str:
    """A text that may be a file's name everywhere: letters, digits, ``_``, ``.`` and ``-``."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII)


def _tidy(value: Any) -> Any:
    """A number without the digits that are only rounding of floats; anything else as it is."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def brief(name: str, letters: int = 28) -> str:
    """A name as it stands at an axis, where panels need room too: of a long one its beginning and its end.

    The figure's data have all of it.
    """
    return name if len(name) <= letters else f"{name[: letters // 2]}…{name[1 - letters // 2 :]}"


def blank(height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of a column's width, ``height`` inches high, and its panels, one below the other."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(panels, 1, squeeze=False)[:, 0])


def legend_below(figure: Figure, axes: Axes, columns: int, **options: Any) -> None:
    """What colours and lines mean, below the panels, over nothing."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, **options)


def add_microseconds(axes: Axes, clock_mhz: float | None) -> None:
    """Beside cycles, below, their time at a clock, above; nothing without a clock."""
    if clock_mhz is None:
        return

    def time_of(cycles: Any) -> Any:
        return cycles / clock_mhz

    def cycles_of(time: Any) -> Any:
        return time * clock_mhz

    other = axes.secondary_xaxis("top", functions=(time_of, cycles_of))
    other.set_xlabel(f"µs at {clock_mhz:g} MHz")
    other.xaxis.set_major_formatter("{x:,.0f}")
