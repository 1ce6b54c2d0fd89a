"""Where the cycles of layers and workloads go."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offramp.report.plots.chart import COLOURS, Chart, PlotTable, add_microseconds, blank, brief, legend_below

__all__ = ["layer_cycles", "workload_cycles"]

_LIMIT = "nonzero products / multipliers"
_LOST = "lost: "


def layer_cycles(layers: list[dict[str, Any]], clock_mhz: float | None = None, name: str = "layers") -> Chart:
    """Mean cycles of every layer, split into products at the limit and losses by cause.

    Parameters
    ----------
    layers : list of dict
        As of :func:`offramp.measure.measure.layer_statistics`.
    clock_mhz : float, optional
        With it, times stand beside cycles.
    name : str
        Of the figure's files.
    """
    times = () if clock_mhz is None else ("µs",)
    head = ("layer", "images", "cycles", *times, "of limit, %", _LIMIT, *(_LOST + cause for cause in layers[0]["loss"]))
    rows = tuple(
        (
            layer["name"],
            layer["images"],
            layer["cycles"],
            *(() if clock_mhz is None else (layer["cycles"] / clock_mhz,)),
            None if layer["share_of_limit"] is None else 100 * layer["share_of_limit"],
            layer["limit"],
            *layer["loss"].values(),
        )
        for layer in layers
    )
    return Chart(
        name=name,
        title="Where the cycles of a layer go",
        data=PlotTable(head, rows),
        draw=lambda data: _split(data, "cycles of a layer, mean", clock_mhz),
        note="Means over the images that reach the layer; beside the bar what share of its cycles the limit is.",
    )


def workload_cycles(rows: list[dict[str, Any]]) -> Chart:
    """The same of whole workloads (:func:`offramp.measure.bench.measure_workload`)."""
    names = ("workload", "images", "cycles")
    head = (*names, "of limit, %", _LIMIT, *(_LOST + cause for cause in rows[0]["loss"]))
    found = tuple(
        (
            row["workload"],
            row["images"],
            row["cycles"],
            100 * row["share_of_limit"],
            row["limit"],
            *row["loss"].values(),
        )
        for row in rows
    )
    return Chart(
        name="workloads",
        title="Where the cycles of a workload go",
        data=PlotTable(head, found),
        draw=lambda data: _split(data, "cycles of an inference, mean", None),
        note="Beside the bar what share of the cycles the limit is.",
    )


def _split(data: PlotTable, label: str, clock_mhz: float | None) -> Figure:
    """A bar for every row, split into the limit and the losses."""
    figure, (axes,) = blank(1.3 + 0.15 * len(data.rows))
    parts = [name for name in data.head if name.startswith((_LIMIT, _LOST))]  # a cause has the same colour everywhere
    left = [0.0] * len(data.rows)
    for number, name in enumerate(parts):
        if not any(data[name]):
            continue
        colour = COLOURS[number % len(COLOURS)]
        axes.barh(range(len(left)), data[name], left=left, height=0.7, color=colour, label=name)
        left = [start + more for start, more in zip(left, data[name], strict=True)]
    axes.set_yticks(range(len(left)), map(brief, data[data.head[0]]))
    axes.set_ylim(len(left) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    _write_shares(axes, data)
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    add_microseconds(axes, clock_mhz)
    legend_below(figure, axes, 2)
    return figure


def _write_shares(axes: Axes, data: PlotTable) -> None:
    """Beside each bar what share of it the limit is."""
    axes.set_xlim(0, 1.16 * max(data["cycles"]))
    for height, (cycles, share) in enumerate(zip(data["cycles"], data["of limit, %"], strict=True)):
        if share is not None:
            axes.annotate(
                f"{share:.0f} %", (cycles, height), (3, 0), textcoords="offset points", va="center", fontsize=6.5
            )
