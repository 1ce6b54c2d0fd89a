"""How full memories and devices are."""

from typing import Any

from matplotlib.figure import Figure

from offramp.report.plots.chart import COLOURS, GREY, Chart, PlotTable, blank

__all__ = ["cell_usage", "memory_usage"]

#: Cells of an FPGA, as :meth:`fpga.flow.build.BuildReport.to_dict` calls them.
_CELLS = ("logic", "flip_flops", "block_rams", "multipliers")


def memory_usage(memories: dict[str, dict[str, int]]) -> Chart:
    """Words used of words there, of every memory (:func:`offramp.files.inspect.program_dict`)."""
    return _usage("memories", "Memories", "words", memories)


def cell_usage(built: dict[str, Any]) -> Chart:
    """Cells used of cells there, of every kind (:meth:`fpga.flow.build.BuildReport.to_dict`)."""
    return _usage("cells", "Cells of the device", "cells", {name.replace("_", " "): built[name] for name in _CELLS})


def _usage(name: str, title: str, unit: str, uses: dict[str, dict[str, int]]) -> Chart:
    rows = tuple(
        (what, use["used"], use["available"], 100 * use["used"] / use["available"])
        for what, use in uses.items()
        if use["available"]
    )
    return Chart(
        name=name,
        title=title,
        data=PlotTable((name, f"used {unit}", unit, "used, %"), rows),
        draw=_bars,
    )


def _bars(data: PlotTable) -> Figure:
    figure, (axes,) = blank(0.5 + 0.2 * len(data.rows))
    axes.barh(data[data.head[0]], data["used, %"], height=0.6, color=COLOURS[0])
    axes.axvline(100, color=GREY, linewidth=0.8)
    for height, (_, used, available, share) in enumerate(data.rows):
        text = f"{used:,} of {available:,}"
        inside = share > 55
        axes.annotate(
            text,
            (share, height),
            (-3 if inside else 3, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            color="white" if inside else "black",
            fontsize=6.5,
        )
    axes.set_xlim(0, 104)
    axes.set_ylim(len(data.rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("used, %")
    return figure
