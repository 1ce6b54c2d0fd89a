"""How near every layer is to what bounds it: multipliers, or dispatchers."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from offramp.report.plots.chart import COLOURS, GREY, Chart, PlotTable, blank, legend_below
from offramp.report.plots.labels import label_points

__all__ = ["roofline"]


def roofline(layers: list[dict[str, Any]], cores: int, multipliers: int) -> Chart:
    """Products a cycle of every layer against products of an activation, below the roof of the machine.

    Every core hands out at most one activation a cycle, and every multiplier makes at most one product a cycle.

    Parameters
    ----------
    layers : list of dict
        ``name``, ``products``, ``jobs`` and ``cycles`` of each
        (:func:`offramp.measure.measure.layer_statistics`).
    """
    rows = []
    for layer in layers:
        if min(layer["products"], layer["jobs"], layer["cycles"]) > 0:
            each = layer["products"] / layer["jobs"]
            bound = min(multipliers, cores * each)
            rows.append((layer["name"], each, layer["products"] / layer["cycles"], bound, cores, multipliers))
    head = ("layer", "products an activation", "products a cycle", "at most", "activations a cycle", "multipliers")
    return Chart(
        name="roofline",
        title="Roofline by layer",
        data=PlotTable(head, tuple(rows)),
        draw=_roofline,
        note="An activation that is not zero is handed out once for each list of weights that it meets; the fewer "
        "weights are not zero, the fewer products it makes. Left of the ridge the dispatchers are the "
        "bottleneck, right of it the multipliers.",
    )


def _roofline(data: PlotTable) -> Figure:
    figure, (axes,) = blank(2.5)
    (cores, *_), (multipliers, *_) = data["activations a cycle"], data["multipliers"]
    points = list(zip(data["products an activation"], data["products a cycle"], strict=True))
    ridge = multipliers / cores
    low, high = min(ridge, *data["products an activation"]) / 2, max(ridge, *data["products an activation"]) * 2
    roof = [(low, cores * low), (ridge, multipliers), (high, multipliers)]
    axes.plot(
        *zip(*roof, strict=True),
        color=GREY,
        label=f"{multipliers} multipliers; {cores} activation{'s' * (cores > 1)} a cycle",
    )
    axes.plot(*zip(*points, strict=True), "o", color=COLOURS[0], label="layers")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(min(data["products a cycle"]) / 2, 2 * multipliers)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_xlabel("products an activation")
    axes.set_ylabel("products a cycle")
    legend_below(figure, axes, 2)
    along = [
        point for part in (np.geomspace(roof[0], roof[1], 80), np.geomspace(roof[1], roof[2], 80)) for point in part
    ]
    label_points(figure, axes, points, data["layer"], along)
    return figure
