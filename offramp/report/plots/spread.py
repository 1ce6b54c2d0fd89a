"""How images differ: cycles, exits and margins of single ones."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from offramp.report.plots.chart import COLOURS, GREY, Chart, PlotTable, add_microseconds, blank, legend_below

__all__ = ["cycle_distribution", "exit_shares", "exits_taken", "margin_histogram"]

#: Of a histogram.
_BINS = 24
_RIGHT, _WRONG = COLOURS[0], COLOURS[5]


def cycle_distribution(inputs: dict[str, dict[str, Any]], clock_mhz: float | None = None) -> Chart:
    """Share of images that need at most so many cycles, by kind of input.

    Parameters
    ----------
    inputs : dict
        By what the kind is called: ``images``, ``distribution`` (:meth:`offramp.measure.measure.Measurement.to_dict`).
    clock_mhz : float, optional
        With it, times stand beside cycles.
    """
    rows: list[tuple[Any, ...]] = []
    for name, found in inputs.items():
        done = 100 * np.cumsum(found["distribution"]["images"]) / found["images"]
        rows += [(name, *point) for point in zip(found["distribution"]["cycles"], done.tolist(), strict=True)]
    return Chart(
        name="cycles",
        title="Cycles of an inference",
        data=PlotTable(("input", "cycles", "images done, %"), tuple(rows)),
        draw=lambda data: _distribution(data, clock_mhz),
    )


def _distribution(data: PlotTable, clock_mhz: float | None) -> Figure:
    parts = data.split("input")
    figure, (axes,) = blank(2.1 + 0.16 * (len(parts) // 2))
    for name, part in parts.items():
        cycles, done = part["cycles"], part["images done, %"]
        other: Any = {"color": GREY, "linestyle": "--"} if name.startswith("unpruned") else {}
        axes.step([cycles[0], *cycles], [0, *done], where="post", label=name, **other)
    axes.set_xlabel("cycles of an inference")
    axes.set_ylabel("images done, %")
    axes.set_ylim(0, 102)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=6)
    add_microseconds(axes, clock_mhz)
    if len(parts) > 1:
        legend_below(figure, axes, 2)
    return figure


def exit_shares(inputs: dict[str, list[float]]) -> Chart:
    """Share of images that leave at each exit, by kind of input."""
    most = max(map(len, inputs.values()))
    rows = []
    for name, shares in inputs.items():
        *early, last = (100 * share for share in shares)
        rows.append((name, *early, *[0.0] * (most - len(shares)), last))
    names = tuple(f"exit {number}, %" for number in range(most - 1))
    return Chart(
        name="exits-by-input",
        title="Where images leave",
        data=PlotTable(("input", *names, "last exit, %"), tuple(rows)),
        draw=_shares,
    )


def _shares(data: PlotTable) -> Figure:
    figure, (axes,) = blank(0.85 + 0.2 * len(data.rows))
    left = np.zeros(len(data.rows))
    for number, name in enumerate(data.head[1:]):
        colour = GREY if number == len(data.head) - 2 else COLOURS[number]
        axes.barh(data["input"], data[name], left=left, height=0.6, color=colour, label=name.removesuffix(", %"))
        left += data[name]
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("images, %")
    legend_below(figure, axes, 4)
    return figure


def exits_taken(per_image: dict[str, list[int]], exits: int) -> Chart:
    """How many images leave at each exit, and whether they are right there.

    Parameters
    ----------
    per_image : dict
        ``label``, ``class``, ``exit`` of every image.
    exits : int
        Of the network.
    """
    taken, right = (np.array(column) for column in (per_image["exit"], _right(per_image)))
    names = [*(f"exit {number}" for number in range(exits - 1)), "last exit"]
    counts = [
        (name, int((right & (taken == n)).sum()), int((~right & (taken == n)).sum())) for n, name in enumerate(names)
    ]
    return Chart(
        name="exits",
        title="Where images leave",
        data=PlotTable(("exit", "right", "wrong"), tuple(counts)),
        draw=_taken,
    )


def _taken(data: PlotTable) -> Figure:
    figure, (axes,) = blank(0.85 + 0.24 * len(data.rows))
    axes.barh(data["exit"], data["right"], height=0.6, color=_RIGHT, label="right")
    axes.barh(data["exit"], data["wrong"], left=data["right"], height=0.6, color=_WRONG, label="wrong")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("images")
    axes.locator_params(axis="x", integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    legend_below(figure, axes, 2)
    return figure


def _right(per_image: dict[str, list[int]]) -> list[bool]:
    return [own == found for own, found in zip(per_image["label"], per_image["class"], strict=True)]


def margin_histogram(per_image: dict[str, list[int]], thresholds: list[int | None]) -> Chart:
    """Margins of the exits that images take, of right and wrong classes.

    Parameters
    ----------
    per_image : dict
        ``label``, ``class``, ``exit``, ``margin`` of every image.
    thresholds : list of int or None
        Margin from which images leave at each exit; None where all leave.
    """
    margins, taken = np.array(per_image["margin"]), np.array(per_image["exit"])
    right = np.array(_right(per_image))
    low, high = int(margins.min()), int(margins.max())
    few = high - low < _BINS  # margins are whole numbers: then each has a bar of its own
    edges = np.arange(low, high + 2) if few else np.histogram_bin_edges(margins, _BINS)
    rows: list[tuple[Any, ...]] = []
    for number, threshold in enumerate(thresholds):
        name = f"exit {number}, from {threshold:,}" if threshold is not None else "last exit"
        both = [np.histogram(margins[(taken == number) & (right == which)], edges)[0] for which in (True, False)]
        rows += [
            (name, *row)
            for row in zip(edges[:-1].tolist(), edges[1:].tolist(), *map(np.ndarray.tolist, both), strict=True)
        ]
    return Chart(
        name="margins",
        title="Margins where images leave",
        data=PlotTable(("exit", "margin from", "to", "right", "wrong"), tuple(rows)),
        draw=_margins,
        note="The margin is the difference of the two largest logits; a run leaves where it reaches the threshold.",
    )


def _margins(data: PlotTable) -> Figure:
    parts = data.split("exit")
    figure, panels = blank(0.7 + 0.95 * len(parts), len(parts))
    for axes, (name, part) in zip(panels, parts.items(), strict=True):
        widths = [end - begin for begin, end in zip(part["margin from"], part["to"], strict=True)]
        bars: Any = {"x": part["margin from"], "width": widths, "align": "edge"}
        axes.bar(height=part["right"], color=_RIGHT, label="right", **bars)
        axes.bar(height=part["wrong"], bottom=part["right"], color=_WRONG, label="wrong", **bars)
        axes.set_title(name)
        axes.set_ylabel("images")
        axes.set_ylim(0, max(1, axes.get_ylim()[1]))
        axes.sharex(panels[0])
        axes.locator_params(axis="y", nbins=4, integer=True)
        axes.tick_params(labelbottom=axes is panels[-1])
        axes.xaxis.set_major_formatter("{x:,.0f}")
    panels[0].locator_params(axis="x", nbins=6, integer=True)
    panels[-1].set_xlabel("margin")
    legend_below(figure, panels[-1], 2)
    return figure
