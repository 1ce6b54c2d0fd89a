"""What two results differ in."""

from typing import Any

from matplotlib.figure import Figure

from offramp.difference import Change
from offramp.report.plots.chart import COLOURS, Chart, PlotTable, blank, brief

__all__ = ["largest_changes"]

#: Changes in one figure, and letters of a name.
_MOST, _LETTERS = 24, 36


def largest_changes(changes: list[Change]) -> Chart | None:
    """The figures that changed most, in percent of the first; None where no figure changed.

    Parameters
    ----------
    changes : list of Change
        As ``offramp diff`` finds them.
    """
    rows = [
        (f"{change.row} {change.figure}".strip(), change.first, change.second, 100 * (change.second / change.first - 1))
        for change in changes
        if all(_is_number(value) for value in (change.first, change.second)) and change.first
    ]
    rows.sort(key=lambda row: -abs(row[-1]))
    if not rows:
        return None
    return Chart(
        name="changes",
        title="The largest changes",
        data=PlotTable(("what", "first", "second", "change, %"), tuple(rows[:_MOST])),
        draw=_changes,
        note=f"At most {_MOST}; what was 0 in the first has no change in percent, and isn't drawn.",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _changes(data: PlotTable) -> Figure:
    figure, (axes,) = blank(0.5 + 0.16 * len(data.rows))
    heights = range(len(data.rows))
    axes.axvline(0, color="black", linewidth=0.6)
    axes.hlines(heights, 0, data["change, %"], color=COLOURS[0], linewidth=1)
    axes.plot(data["change, %"], heights, "o", color=COLOURS[0])
    axes.set_yticks(heights, [brief(what, _LETTERS) for what in data["what"]])
    axes.set_ylim(len(data.rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("change, % of the first")
    axes.xaxis.set_major_formatter("{x:+,.0f}")
    axes.locator_params(axis="x", nbins=5)
    return figure
