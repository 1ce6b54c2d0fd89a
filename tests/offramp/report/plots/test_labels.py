"""Names beside points: over nothing, nearest to their own point or with a line, and lines apart."""

import itertools

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path as Line
from matplotlib.text import Text

from offramp.report.plots.chart import Chart, blank
from offramp.report.plots.labels import label_points
from tests.offramp.report.plots.test_chart import CHARTS, collisions


def faults(figure: Figure, axes: Axes) -> list[str]:
    """Lines from names to points that cross each other or run through another name."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    lines = {
        text.get_text(): Line(
            text.arrow_patch.get_transform().transform_path(text.arrow_patch.get_path()).vertices[[0, -1]]
        )
        for text in axes.texts
        if text.arrow_patch is not None
    }
    boxes = {text.get_text(): Text.get_window_extent(text, renderer) for text in axes.texts}
    return [
        *(f"{a} crosses {b}" for a, b in itertools.combinations(lines, 2) if lines[a].intersects_path(lines[b], False)),
        *(f"{a} through {b}" for a in lines for b in boxes if a != b and lines[a].intersects_bbox(boxes[b])),
    ]


def test_labels_of_points_avoid_each_other_and_leave_one_out_where_there_is_no_room():
    figure, (axes,) = blank(1.0)
    points = [(0.5, 0.5)] * 16
    axes.plot(*zip(*points, strict=True), "o")
    label_points(figure, axes, points, [f"the name of point {number}" for number in range(16)])
    assert collisions(figure) == []
    assert 0 < len(axes.texts) < 16


def test_a_name_stands_nearest_to_its_own_point_or_a_line_leads_there():
    points = [(0.0, 0.5), (1.0, 1.0), (1.02, 0.8), (1.45, 0.82), (2.4, 0.8), (3.0, 0.0)]
    figure, (axes,) = blank(1.6)
    axes.plot(*zip(*points, strict=True), "o", linestyle="none")
    names = ["first", "early.first.conv", "early.add", "middle", "stem.conv", "last"]
    label_points(figure, axes, points, names)
    figure.draw_without_rendering()
    renderer, places = FigureCanvasAgg(figure).get_renderer(), axes.transData.transform(points)
    assert [text.get_text() for text in axes.texts] == names
    for number, text in enumerate(axes.texts):
        if text.arrow_patch is None:
            box = Text.get_window_extent(text, renderer)
            away = [np.hypot(*np.maximum(0, np.maximum(box.min - place, place - box.max))) for place in places]
            assert min(away[:number] + away[number + 1 :]) > 1.5 * away[number]


@pytest.mark.parametrize("left_out", [(), ("a name without room " * 6,)])
def test_lines_cross_neither_each_other_nor_names(left_out):
    """Not even where a name has no room at all."""
    figure, (axes,) = blank(2.3)
    random = np.random.default_rng(5)
    points = np.concatenate([random.random((12, 2)), 0.5 + 0.05 * random.random((7, 2))])
    axes.plot(*points.T, "o", linestyle="none")
    names = [*left_out, *(f"network {number}" for number in range(len(left_out), len(points)))]
    label_points(figure, axes, list(map(tuple, points)), names)
    assert [text.get_text() for text in axes.texts] == names[len(left_out) :]
    assert sum(text.arrow_patch is not None for text in axes.texts) > 2
    assert faults(figure, axes) == []
    assert collisions(figure) == []


@pytest.mark.parametrize("chart", [chart for chart in CHARTS if chart.name.startswith(("roofline", "pareto"))])
def test_lines_of_figures_are_apart(chart: Chart):
    figure = chart.figure()
    assert faults(figure, figure.axes[0]) == []
