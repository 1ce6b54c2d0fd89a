"""Every kind of figure, drawn from small results: nothing is outside or over another, its CSV is all of it."""

import csv
import io
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from models.zoo import entries
from offramp.difference import Change
from offramp.report.plots import (
    changes,
    claims,
    history,
    layer_cycles,
    roofline,
    security,
    spread,
    timeline,
    tradeoffs,
    usage,
)
from offramp.report.plots.chart import COLOURS, STYLE, WIDTH, Chart, PlotTable, blank, file_name
from offramp.report.plots.intervals import interval
from offramp.report.tables import methods

ROOT = Path(__file__).parents[4]
BENCH = json.loads((ROOT / "baselines" / "bench-85f.json").read_text())
DENSITIES = json.loads((ROOT / "baselines" / "bench-85f-loader.json").read_text())["curve"]
BUILD = json.loads((ROOT / "baselines" / "build-single.json").read_text())["build"]
NETWORKS = [asdict(entry) for entry in entries()]
METHODS = methods.collect()["methods"]
RANDOM = np.random.default_rng(0)
LABELS, CLASSES = (RANDOM.integers(0, 3, 80).tolist() for _ in range(2))
PER_IMAGE = {
    "label": LABELS,
    "class": CLASSES,
    "exit": RANDOM.integers(0, 3, 80).tolist(),
    "margin": RANDOM.integers(0, 4000, 80).tolist(),
}
INPUTS = {
    name: {"images": 4, "distribution": {"cycles": [3000 + number, 3500, 5000 + number], "images": [1, 2, 1]}}
    for number, name in enumerate(("unpruned, no exit", "clean", "FGSM", "PGD-20", "PGD-40, exit-aware", "slowdown"))
}
POINTS = [{"eps": n / 50, "images": 100, "accuracy": 0.95 / (n + 1), "cycles": 4000 + 300 * n} for n in range(6)]
EPOCHS = {
    "train": [{"loss": 1 / (n + 1), "accuracy": 1 - 1 / (n + 2)} for n in range(9)],
    "quantize": [{"loss": 0.01 * n} for n in range(4)],
}
CHANGES = [
    Change(table=table, row=row, what=what, first=first, second=second)
    for table, row, what, first, second in (
        ("", "", "cycles mean", 100.0, 150.0),
        ("memories", "lists", "used", 2000, 1000),
        ("", "", "config", "single", "tiny"),
        ("layers", "stem.conv", "loss dispatch", 0, 3),
        ("", "", "timing met", True, False),
    )
]
LAYERS = [layer | {"jobs": layer["products"] / (2 + 3 * n)} for n, layer in enumerate(BENCH["rows"][2]["layers"])]
TIMES = [
    {
        "layer": f"block{layer}.first.conv",
        "core": core,
        "begin": 1000 * layer + 10,
        "end": 1000 * layer + 800 - 90 * core,
        "rows": [1000 * layer + 100 * n for n in range(1, 7)],
    }
    for layer in range(6)
    for core in range(2)
]
CURVE = {"thresholds": [0, 400, 800], "accuracy": [0.9, 0.97, 0.98], "exit_share": [1.0, 0.8, 0.1]}
CHARTS = [
    spread.cycle_distribution(INPUTS, 50.0),
    spread.exit_shares({"clean": [0.8, 0.2], "unpruned, no exit": [1.0], "slowdown": [0.05, 0.95]}),
    spread.exits_taken(PER_IMAGE, 3),
    spread.margin_histogram(PER_IMAGE, [391, 1200, None]),
    layer_cycles.layer_cycles(BENCH["rows"][2]["layers"], 50.0),
    layer_cycles.workload_cycles(BENCH["rows"]),
    tradeoffs.exit_curve(CURVE, 391),
    tradeoffs.density_curve(DENSITIES),
    tradeoffs.accuracy_against_cycles(NETWORKS, "fashion-mnist", 50.0),
    claims.attacked_networks(NETWORKS, "fashion-mnist"),
    claims.claims_held(METHODS, "digits"),
    security.security_curve(POINTS, "PGD-20"),
    roofline.roofline(LAYERS, 8, 64),
    timeline.timeline(TIMES, 50.0),
    history.training_history(EPOCHS),
    usage.cell_usage(BUILD),
    usage.memory_usage({"lists": {"used": 900, "available": 1024}, "program": {"used": 2, "available": 64}}),
    changes.largest_changes(CHANGES),
]


def written(figure: Figure) -> list[tuple[str, object]]:
    """Every text that is seen, and where; ticks beyond an axis's ends are none."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    beyond = set()
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                beyond |= {tick.label1, tick.label2}
    texts = [text for text in figure.findobj(Text) if text not in beyond and text.get_visible()]
    return [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts if text.get_text().strip()]


def collisions(figure: Figure) -> list[str]:
    """Texts that stand outside of a figure or over each other, half a point allowed."""
    found, room = written(figure), figure.bbox.padded(0.5)
    bad = [
        f"{text!r} is outside"
        for text, box in found
        if not (room.x0 <= box.x0 and room.y0 <= box.y0 and box.x1 <= room.x1 and box.y1 <= room.y1)
    ]
    for number, (text, box) in enumerate(found):
        bad += [f"{text!r} is over {other!r}" for other, there in found[:number] if box.padded(-0.5).overlaps(there)]
    return bad


def crowded(figure: Figure) -> list[str]:
    """Numbers below an axis with less than three points between them, which read as one."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        low, high = sorted(axes.get_xlim())
        ticks = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes = [Text.get_window_extent(text, renderer) for text in ticks if text.get_visible() and text.get_text()]
        gaps = [second.x0 - first.x1 for first, second in itertools.pairwise(boxes)]
        found += [f"{axes.get_xlabel()!r}: {gap}" for gap in gaps if gap < 3 * figure.dpi / 72]
    return found


def read(text: str) -> PlotTable:
    """A table of what a CSV file says."""

    def value(cell: str):
        for kind in (int, float):
            try:
                return kind(cell)
            except ValueError:
                continue
        return cell or None

    head, *rows = csv.reader(io.StringIO(text))
    return PlotTable(tuple(head), tuple(tuple(map(value, row)) for row in rows))


def drawn(chart: Chart, data: PlotTable) -> list[object]:
    """Everything in a figure of these data: lines, bars, areas and words, each with where it is and its colour."""
    with mpl.rc_context(fname=STYLE):
        figure, found = chart.draw(data), []
        for artist in figure.findobj():
            if isinstance(artist, Line2D):
                found.append((np.nan_to_num(artist.get_xydata(), nan=-1).tolist(), artist.get_color()))
            elif isinstance(artist, Patch):
                place = artist.get_patch_transform().transform_path(artist.get_path()).vertices
                found.append((place.tolist(), artist.get_facecolor()))
            elif isinstance(artist, Collection):
                found.append([path.vertices.tolist() for path in artist.get_paths()])
            elif isinstance(artist, Text):
                found.append((artist.get_text(), artist.get_position()))
    return found


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_labels_are_inside_and_over_nothing(chart):
    figure = chart.figure()
    assert collisions(figure) == []
    assert crowded(figure) == []
    assert figure.get_figwidth() == WIDTH
    assert all(6.5 <= text.get_fontsize() <= 8 for text in figure.findobj(Text) if text.get_text().strip())


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_the_csv_is_all_that_is_drawn(chart):
    """A figure that is drawn from the file is the same."""
    assert drawn(chart, read(chart.csv())) == drawn(chart, chart.data)
    assert chart.data.rows


LONG = "network." + 180 * "n"
LONG_NAMES = [
    layer_cycles.layer_cycles([layer | {"name": LONG + layer["name"]} for layer in LAYERS], 50.0),
    timeline.timeline([each | {"layer": LONG + each["layer"]} for each in TIMES], 50.0),
    timeline.timeline([each | {"layer": LONG + each["layer"]} for each in TIMES if each["core"] == 0], 50.0),
    changes.largest_changes(
        [Change(table="layers", row=LONG + end, what="cycles", first=2, second=3) for end in ("a", "b")]
    ),
]


@pytest.mark.parametrize("chart", LONG_NAMES, ids=lambda chart: chart.name)
def test_names_of_any_length_leave_room_for_the_panel(chart):
    figure = chart.figure()
    assert collisions(figure) == []
    assert crowded(figure) == []
    places = [axes.get_position() for axes in figure.axes]
    assert all(place.width > 0.2 and place.height > 0.13 for place in places)
    assert LONG in chart.csv()
    texts = {text for text, _ in written(figure) if "…" in text}
    assert len(texts) > 1  # names that differ at their ends stay apart
    assert all(text.startswith("network.nn") for text in texts)


def test_figures_of_one_image_count_in_whole_numbers():
    one = {"label": [3], "class": [3], "exit": [0], "margin": [1002]}
    for chart in (spread.exits_taken(one, 2), spread.margin_histogram(one, [540, None])):
        figure = chart.figure()
        assert collisions(figure) == []
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = axis.get_view_interval()
                numbers = [t.label1.get_text() for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
                assert len(set(numbers)) == len(numbers)
                assert not any("." in number for number in numbers)
    assert spread.margin_histogram(one, [540, None]).data.rows[0] == ("exit 0, from 540", 1002, 1003, 1, 0)


def test_a_changed_figure_is_drawn_otherwise():
    """What the test above compares isn't blind."""
    chart = CHARTS[0]
    other = PlotTable(chart.data.head, tuple((*row[:2], row[2] - 1) for row in chart.data.rows))
    assert drawn(chart, other) != drawn(chart, chart.data)


def test_collisions_are_found():
    figure, (axes,) = blank(1.0)
    axes.annotate("first", (0.5, 0.5))
    assert collisions(figure) == []
    axes.annotate("second", (0.5, 0.5))
    axes.annotate("far away", (3, 0.5), annotation_clip=False).set_in_layout(False)
    assert any("'second' is over 'first'" in found for found in collisions(figure))
    assert any("'far away' is outside" in found for found in collisions(figure))


def test_numbers_below_an_axis_stay_apart():
    wide = {"label": [0, 1] * 20, "class": [0] * 40, "exit": [0, 1] * 20, "margin": list(range(0, 20_900, 523))[:40]}
    assert crowded(spread.margin_histogram(wide, [540, None]).figure()) == []
    eps = [{**point, "eps": 0.025 * number} for number, point in enumerate([*POINTS, *POINTS, *POINTS][:9])]
    assert crowded(security.security_curve(eps, "PGD-20").figure()) == []


def test_files_are_the_same_every_time(tmp_path):
    chart = usage.memory_usage({"lists": {"used": 900, "available": 1024}})
    chart.write(tmp_path)
    assert (tmp_path / "memories.svg").read_text() == chart._repr_svg_()
    assert (tmp_path / "memories.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "memories.csv").read_text() == 'memories,used words,words,"used, %"\nlists,900,1024,87.890625\n'


def test_colours_are_those_of_okabe_and_ito():
    assert {colour.lstrip("#").upper() for colour in COLOURS} == {
        *("0072B2", "E69F00", "009E73", "CC79A7", "56B4E9", "D55E00", "F0E442", "000000")
    }


def test_figures_of_figures():
    """What some of them compute."""
    assert spread.exits_taken({"label": [1, 1, 2], "class": [1, 2, 2], "exit": [0, 0, 1]}, 2).data.rows == (
        ("exit 0", 1, 1),
        ("last exit", 1, 0),
    )
    assert spread.exit_shares({"clean": [0.75, 0.25], "unpruned": [1.0]}).data.rows == (
        ("clean", 75.0, 25.0),
        ("unpruned", 0.0, 100.0),
    )
    margins = spread.margin_histogram(PER_IMAGE, [391, 1200, None]).data
    assert sum(margins["right"]) + sum(margins["wrong"]) == 80
    front = tradeoffs.accuracy_against_cycles(NETWORKS, "cifar10").data
    on_it = [row[0] for row in front.rows if row[-1]]
    assert on_it == ["resnet8-lean", "jpnet", "resnet8-sparse-dense", "dasnet-dense"]
    figure = tradeoffs.accuracy_against_cycles(NETWORKS, "cifar10").figure()
    assert {text.get_text() for text in figure.axes[0].texts} == set(front["network"])
    roofs = roofline.roofline(LAYERS, 8, 64).data
    assert roofs["at most"][:3] == [16, 40, 64]  # 2 and 5 products of each of 8 activations; 64 multipliers
    without = [{**LAYERS[0], "products": 0, "jobs": 0}, {**LAYERS[0], "products": -5}, *LAYERS]
    assert roofline.roofline(without, 8, 64).data == roofs
    works = [row for row in timeline.timeline(TIMES).data.rows if row[2] == "works"]
    assert works[1] == ("block0.first.conv", 1, "works", 10, 710)
    changed = changes.largest_changes(CHANGES)
    assert changed.data["what"] == ["cycles, mean", "lists used words"]
    assert changed.data["change, %"] == [50.0, -50.0]
    assert changes.largest_changes(CHANGES[2:]) is None
    low, high = interval(0.5, 100)
    assert (round(low, 4), round(high, 4)) == (0.4038, 0.5962)  # Wilson (1927)
    assert interval(0.0, 100)[0] == 0.0 < interval(0.0, 100)[1]
    assert interval(1.0, 100)[1] == 1.0


def test_numbers_in_files_have_no_digits_of_rounding():
    table = PlotTable(("a", "b", "c"), ((0.1 + 0.2, 100 * 0.8789, "x"), (7, None, 1e-17)))
    assert table.rows == ((0.3, 87.89, "x"), (7, None, 1e-17))


def test_names_of_files_are_names_everywhere():
    assert file_name("layers-zoo:digits@base,lanes=1") == "layers-zoo-digits-base-lanes-1"
    assert file_name("layers-net.py:net") == "layers-net.py-net"


def test_figures_say_of_which_config_and_clock_they_are():
    chart = tradeoffs.accuracy_against_cycles(NETWORKS, "digits", 60.0)
    assert chart.title == "Accuracy against cycles on small-85f, digits"
    labels = {axes.get_xlabel() for axes in chart.figure().axes}
    assert "cycles of an inference on small-85f, mean" in labels
    last = max(each["end"] for each in TIMES)
    (axes,) = timeline.timeline(TIMES, 50.0).figure().axes
    assert axes.get_xlabel() == f"cycles of the run; {last:,} are {last / 50:,.1f} µs at 50 MHz"
    (axes,) = timeline.timeline(TIMES).figure().axes
    assert axes.get_xlabel() == "cycles of the run"
    assert {"a core works on a layer", "a row of outputs is done"} <= set(axes.get_legend_handles_labels()[1])
