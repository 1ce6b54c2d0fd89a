"""The published methods: which of their claims hold here, and what resists attacks."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from offramp.report.plots.chart import COLOURS, GREY, Chart, PlotTable, blank, legend_below
from offramp.report.plots.intervals import interval

__all__ = ["attacked_networks", "claims_held"]

#: Of the zoo's index: what was measured, and on how many images.
_MEASURED = {
    "accuracy_int8": ("clean, all test images", "images"),
    "accuracy_pgd20": ("PGD-20", "attacked"),
    "accuracy_worst": ("all attacks", "attacked"),
}


def claims_held(methods: dict[str, dict[str, Any]], dataset: str) -> Chart:
    """How many claims of each method hold, of those that were tried on a data set.

    Parameters
    ----------
    methods : dict
        Results of replications (:mod:`offramp.replications`) by method.
    """
    rows = []
    for name, result in methods.items():
        if result["dataset"] == dataset:
            held = sum(check["holds"] for check in result["checks"])
            rows.append((name, held, len(result["checks"]) - held))
    return Chart(
        name=f"claims-{dataset}",
        title=f"Claims of the methods, tried on {dataset}",
        data=PlotTable(("method", "hold here", "fail here"), tuple(rows)),
        draw=_claims,
    )


def _claims(data: PlotTable) -> Figure:
    figure, (axes,) = blank(0.85 + 0.2 * len(data.rows))
    axes.barh(data["method"], data["hold here"], height=0.6, color=COLOURS[0], label="hold here")
    axes.barh(
        data["method"], data["fail here"], left=data["hold here"], height=0.6, color=COLOURS[1], label="fail here"
    )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("claims")
    legend_below(figure, axes, 2)
    return figure


def attacked_networks(networks: list[dict[str, Any]], dataset: str) -> Chart:
    """What is right of a data set's networks clean and attacked, with the intervals of that many images.

    Parameters
    ----------
    networks : list of dict
        The zoo's index (:class:`models.zoo.ZooEntry`).
    dataset : str
    """
    rows = []
    for found in networks:
        if found["dataset"] == dataset:
            for key, (what, images) in _MEASURED.items():
                low, high = interval(found[key], found[images])
                rows.append((found["name"], what, found[images], 100 * found[key], 100 * low, 100 * high))
    return Chart(
        name=f"attacked-{dataset}",
        title=f"What resists attacks, {dataset}",
        data=PlotTable(("network", "images are", "images", "right, %", "low, %", "high, %"), tuple(rows)),
        draw=_attacked,
        note="Lines: 95 % intervals of a share of so many images (Wilson). Attacks change a pixel by at most 8/255.",
    )


def _attacked(data: PlotTable) -> Figure:
    names = list(data.split("network"))
    figure, (axes,) = blank(0.95 + 0.24 * len(names))
    parts = data.split("images are")
    for number, (what, part) in enumerate(parts.items()):
        right, low, high = (np.array(part[column]) for column in ("right, %", "low, %", "high, %"))
        heights = [names.index(name) + 0.22 * (number - (len(parts) - 1) / 2) for name in part["network"]]
        style = {"fmt": "osD"[number % 3], "color": COLOURS[number], "elinewidth": 0.8, "label": what}
        axes.errorbar(right, heights, xerr=[right - low, high - right], **style)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("right, %")
    for height in range(len(names) - 1):
        axes.axhline(height + 0.5, color=GREY, linewidth=0.2)
    axes.grid(axis="y", visible=False)
    legend_below(figure, axes, 3)
    return figure
