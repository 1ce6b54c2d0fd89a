"""A figure and the table that it is drawn from: what is in the CSV file is what is seen."""

import csv
import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path as Line
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

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
    "label_points",
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
#: Where a point's label may stand, in points from it, the first of these that is free is taken.
_OFFSETS = [
    (x * distance, y * distance)
    for distance in (4, 8, 13, 19, 27)
    for x, y in ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1.3), (0, -1.3))
]
#: Digits of a number, in figures and files.
_DIGITS = 10
#: Points from a marker's middle to its edge, and those from which on a line leads from a label to its point.
_MARKER, _NEAR = 2.5, 10


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


def label_points(
    figure: Figure,
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    others: Sequence[tuple[float, float]] = (),
) -> None:
    """Write names beside points, inside the panel and over no other name, line, point or area in ``others``.

    A line leads from a name to its point where it isn't by far the nearest one; where there is room, over nothing. A
    name without room is left out. Comes last: what is drawn later moves the panel.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    room = axes.get_window_extent(renderer)
    middles = axes.transData.transform([*points, *others])
    reach = _MARKER * scale
    taken = [Bbox.from_extents(x - reach, y - reach, x + reach, y + reach) for x, y in middles]
    taken += [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    # Names that avoid lines may leave no room for another: then all stand where there is room first.
    for ways in ((True, False), (False,)):
        lines, made, boxes = list[Line](), list[Annotation](), list(taken)
        for point, name, own in zip(points, names, middles, strict=False):
            apart = np.linalg.norm(middles - own, axis=1) > 2 * reach
            rivals = middles[: len(points)][apart[: len(points)]]
            for strict, (x, y) in itertools.product(ways, _OFFSETS):
                label = _label(axes, point, name, x, y)
                label.update_positions(renderer)
                box = Text.get_window_extent(label, renderer).padded(0.5 * scale)  # without the line to its point
                line = [Line([own, own + np.array([x, y]) * scale])] if _is_far(x, y) else []
                between = [other for other, each in zip(boxes, [*apart, *[True] * len(boxes)], strict=False) if each]
                inside = room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
                free = not any(box.overlaps(other) for other in boxes)
                crossed = any(each.intersects_bbox(box) for each in lines) or any(
                    each.intersects_bbox(other) for each in line for other in between
                )
                clear = line or _distances(box, rivals).min(initial=np.inf) > 1.5 * _distances(box, own)
                if inside and free and (not strict or (clear and not crossed)):
                    boxes.append(box)
                    lines += line
                    made.append(label)
                    break
                label.remove()
        if len(made) == len(points) or not ways[0]:
            return
        for label in made:
            label.remove()


def _distances(box: Bbox, points: np.ndarray) -> Any:
    """From points (..., 2) to a box."""
    return np.linalg.norm(np.maximum(0, np.maximum(box.min - points, points - box.max)), axis=-1)


def _is_far(x: float, y: float) -> bool:
    """Whether a line leads from a label with this offset to its point."""
    return abs(x) + abs(y) > _NEAR


def _label(axes: Axes, point: tuple[float, float], name: str, x: float, y: float) -> Annotation:
    sides = {1: ("left", "bottom"), 0: ("center", "center"), -1: ("right", "top")}
    across, up = sides[(x > 0) - (x < 0)][0], sides[(y > 0) - (y < 0)][1]
    arrow = {"arrowstyle": "-", "linewidth": 0.4, "color": GREY, "shrinkA": 0, "shrinkB": 2}
    line = arrow if _is_far(x, y) else None
    style: Any = {"textcoords": "offset points", "ha": across, "va": up, "fontsize": 6.5, "arrowprops": line}
    label = axes.annotate(name, point, (x, y), **style)
    label.set_in_layout(False)
    return label
