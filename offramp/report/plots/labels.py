"""Names beside the points of a panel: where each one stands, and the lines that lead from names to their points."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path as Line
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from offramp.report.plots.chart import GREY

__all__ = ["label_points"]

#: Directions between others.
_SLANTED = ((0.5, 1.2), (0.5, -1.2), (-0.5, 1.2), (-0.5, -1.2))
#: Where a name may stand, in points from its point; of equally good places the first is taken.
_OFFSETS = [
    (x * distance, y * distance)
    for distance in (4, 8, 13, 19, 27, 36)
    for x, y in ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1.3), (0, -1.3), *_SLANTED)
]
#: Points from a marker's middle to its edge, and those from which on a line leads from a name to its point.
_MARKER, _NEAR = 2.5, 10
#: Points, of the letters of names.
_LETTERS = 6.5
#: How often names are placed, each time in an order that begins with those that had no good place.
_ROUNDS = 40
#: What a fault of two names costs, beside 1 of one name; and what names over each other cost, which is more than all
#: that may be.
_WEIGHT, _OVER = 3, 1_000_000
#: How often each name is placed in a way.
_SWEEPS = 4
#: Alignment of a name that stands in a direction from its point, across and up, and which share of it is before.
_SIDES = {1: ("left", "bottom", 0.0), 0: ("center", "center", 0.5), -1: ("right", "top", 1.0)}


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a name may stand.

    Parameters
    ----------
    point : int
        Number of the point that it names.
    offset : tuple of float
        From the point, in points.
    box : Bbox
        What it covers, in pixels.
    line : Line or None
        From the name to its point.
    faults : int
        Of the place by itself: 1 where its line runs over another point or an area, or where the name, without a line,
        may seem to be that of another point.
    """

    point: int
    offset: tuple[float, float]
    box: Bbox
    line: Line | None
    faults: int


class _Panel:
    """Points, and areas that no name stands on; everything in pixels.

    Parameters
    ----------
    room : Bbox
        Where names may stand.
    scale : float
        Pixels of a point of length.
    middles : float array (N, 2)
        Of the points, which come first, and of areas.
    sizes : sequence of tuples
        Width and height of every point's name.
    """

    def __init__(self, room: Bbox, scale: float, middles: np.ndarray, sizes: Sequence[tuple[float, float]]) -> None:
        self._room, self._scale, self._middles, self._sizes = room, scale, middles, sizes
        reach = _MARKER * scale
        self._markers = [Bbox.from_extents(x - reach, y - reach, x + reach, y + reach) for x, y in middles]
        self._apart = np.linalg.norm(middles[:, None] - middles[None, : len(sizes)], axis=2) > 2 * reach

    def places(self, point: int, taken: Sequence[Bbox]) -> list[_Place]:
        """All in the panel at which a point's name is over no point, area or other text."""
        return list(self._free(point, [*self._markers, *taken]))

    def _free(self, point: int, taken: Sequence[Bbox]) -> Iterator[_Place]:
        own, apart = self._middles[point], self._apart[:, point]
        rivals = self._middles[: len(self._sizes)][apart[: len(self._sizes)]]
        others = [marker for marker, away in zip(self._markers, apart, strict=True) if away]
        for offset in _OFFSETS:
            anchor = own + np.array(offset) * self._scale
            corner = anchor - np.array(_shares(*offset)) * self._sizes[point]
            box = Bbox([corner, corner + self._sizes[point]]).padded(0.5 * self._scale)
            if not _is_inside(box, self._room) or any(box.overlaps(other) for other in taken):
                continue
            line = Line([own, anchor]) if _is_far(*offset) else None
            if line is not None:
                faults = int(any(line.intersects_bbox(other) for other in others))
            else:
                faults = int(_distances(box, rivals).min(initial=np.inf) <= 1.5 * _distances(box, own))
            yield _Place(point, offset, box, line, faults)


def label_points(
    figure: Figure,
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    others: Sequence[tuple[float, float]] = (),
) -> None:
    """Write names beside points, inside the panel and over no other name, point or area in ``others``.

    A line leads from a name to its point where it isn't by far the nearest one. Lines cross neither each other nor
    names where there is another place. A name without room is left out. Comes last: what is drawn later moves the
    panel.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    taken = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    middles = axes.transData.transform([*points, *others])
    sizes = [_size(axes, name, renderer) for name in names]
    panel = _Panel(axes.get_window_extent(renderer), figure.dpi / 72, middles, sizes)
    for place in _placed([panel.places(number, taken) for number in range(len(names))]):
        _label(axes, points[place.point], names[place.point], place.offset)


def _placed(choices: Sequence[list[_Place]]) -> list[_Place]:
    """Of several ways to place names the one that leaves out the fewest, and of those the one with the fewest faults.

    Each way places one name after the other, where it costs least with those before it; then each moves to where it
    costs least with all others. The next way begins with the names that had faults, or no room.
    """
    places = [place for each in choices for place in each]
    if not places:
        return []
    together, alone = _conflicts(places), np.array([place.faults for place in places])
    numbers = {point: [n for n, place in enumerate(places) if place.point == point] for point in range(len(choices))}
    order, best, least = [point for point in numbers if numbers[point]], list[int](), (len(choices) + 1, 0)
    for _ in range(_ROUNDS):
        made, faults = dict[int, int](), dict[int, int]()
        for point in order * _SWEEPS:
            others = [place for other, place in made.items() if other != point]
            costs = alone[numbers[point]] + together[np.ix_(numbers[point], others)].sum(axis=1)
            if costs.min() < _OVER:
                made[point], faults[point] = numbers[point][costs.argmin()], int(costs.min())
        cost = len(choices) - len(made), sum(faults.values())
        if cost < least:
            best, least = [made[point] for point in sorted(made)], cost
        bad = [point for point in order if faults.get(point, 1)]
        if not bad:
            break
        good = [point for point in order if point not in bad]
        order = [*bad, *good[1:], *good[:1]]
    return [places[number] for number in best]


def _conflicts(places: Sequence[_Place]) -> np.ndarray:
    """What any two places cost together: _OVER where names are over each other, else what lines run through."""
    low, high = (np.array([getattr(place.box, end) for place in places]) for end in ("min", "max"))
    none = np.full((2, 2), np.nan)
    lines = np.array([none if place.line is None else place.line.vertices for place in places])[:, None]
    over = ((low[:, None] < high) & (low < high[:, None])).all(axis=2)
    diagonals = [
        np.stack([low, high], axis=1),
        np.stack([[low[:, 0], high[:, 1]], [high[:, 0], low[:, 1]]]).T.swapaxes(1, 2),
    ]
    through = _crosses(lines, diagonals[0]) | _crosses(lines, diagonals[1])
    through |= ((low < lines[..., 0, :]) & (lines[..., 0, :] < high)).all(axis=2)
    return np.where(over, _OVER, _WEIGHT * (through.astype(int) + through.T + _crosses(lines, lines[:, 0])))


def _crosses(lines: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether lines (N, 1, 2, 2) cross others (M, 2, 2), each from an end to an end; what is no line is nan."""

    def apart(line: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Whether the ends are on different sides of a line."""
        along = line[..., 1, :] - line[..., 0, :]
        sides = [
            along[..., 0] * away[..., 1] - along[..., 1] * away[..., 0]
            for away in (ends[..., n, :] - line[..., 0, :] for n in (0, 1))
        ]
        return sides[0] * sides[1] < 0

    return apart(lines, others) & apart(others, lines)


def _is_inside(box: Bbox, room: Bbox) -> bool:
    return bool(room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1)


def _distances(box: Bbox, points: np.ndarray) -> Any:
    """From points (..., 2) to a box."""
    return np.linalg.norm(np.maximum(0, np.maximum(box.min - points, points - box.max)), axis=-1)


def _is_far(x: float, y: float) -> bool:
    """Whether a line leads from a name with this offset to its point."""
    return abs(x) + abs(y) > _NEAR


def _shares(x: float, y: float) -> tuple[float, float]:
    """Where in a name's box that has this offset its line begins, across and up, as shares of its size."""
    return _SIDES[int(np.sign(x))][2], _SIDES[int(np.sign(y))][2]


def _size(axes: Axes, name: str, renderer: Any) -> tuple[float, float]:
    """Width and height of a name."""
    text = axes.text(0.5, 0.5, name, fontsize=_LETTERS, transform=axes.transAxes)
    box = text.get_window_extent(renderer)
    text.remove()
    return box.width, box.height


def _label(axes: Axes, point: tuple[float, float], name: str, offset: tuple[float, float]) -> Annotation:
    across, up = _SIDES[int(np.sign(offset[0]))][0], _SIDES[int(np.sign(offset[1]))][1]
    arrow = {"arrowstyle": "-", "linewidth": 0.4, "color": GREY, "shrinkA": 0, "shrinkB": 2, "relpos": _shares(*offset)}
    line = arrow if _is_far(*offset) else None
    style: Any = {"textcoords": "offset points", "ha": across, "va": up, "fontsize": _LETTERS, "arrowprops": line}
    label = axes.annotate(name, point, offset, **style)
    label.set_in_layout(False)
    return label
