"""What attacks of a growing reach do: accuracy and cycles against epsilon."""

from typing import Any

from matplotlib.figure import Figure

from offramp.report.plots.chart import COLOURS, Chart, PlotTable, blank
from offramp.report.plots.intervals import interval

__all__ = ["security_curve"]


def security_curve(points: list[dict[str, Any]], attack: str) -> Chart:
    """Accuracy and mean cycles against the largest change of a pixel.

    Parameters
    ----------
    points : list of dict
        ``eps``, ``images``, ``accuracy`` and mean ``cycles``, of one attack.
    attack : str
        What it is called.
    """
    rows = []
    for point in points:
        low, high = interval(point["accuracy"], point["images"])
        shares = (100 * share for share in (point["accuracy"], low, high))
        rows.append((point["eps"], point["images"], *shares, point["cycles"]))
    return Chart(
        name="security",
        title=f"Accuracy and cycles against the reach of an attack ({attack})",
        data=PlotTable(("eps", "images", "accuracy, %", "low, %", "high, %", "mean cycles"), tuple(rows)),
        draw=_curve,
        note="eps: largest change of a pixel in 0..1. Shaded: 95 % intervals of a share of so many images (Wilson).",
    )


def _curve(data: PlotTable) -> Figure:
    figure, panels = blank(2.7, 2)
    panels[0].fill_between(data["eps"], data["low, %"], data["high, %"], color=COLOURS[0], alpha=0.2, linewidth=0)
    for axes, name, colour in zip(panels, ("accuracy, %", "mean cycles"), COLOURS, strict=False):
        axes.plot(data["eps"], data[name], "o-", color=colour)
        axes.set_ylabel(name)
        axes.sharex(panels[0])
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[0].locator_params(axis="x", nbins=5)
    panels[0].set_ylim(-2, 102)
    panels[1].set_ylim(0, 1.1 * max(data["mean cycles"]))
    panels[1].yaxis.set_major_formatter("{x:,.0f}")
    panels[1].set_xlabel("eps, largest change of a pixel")
    return figure
