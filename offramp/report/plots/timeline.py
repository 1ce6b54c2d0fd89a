"""What cores and lanes do while one image is computed."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offramp.report.plots.chart import COLOURS, GREY, WIDTH, Chart, PlotTable, blank, brief, legend_below

__all__ = ["timeline"]

#: Inches that a layer's name takes across the figure, and those that are no part of the panel.
_NAME, _BESIDE = 0.12, 0.6
#: Letters of a layer's name that the panel always has room for above it, and inches that each further one takes.
_SHORT, _LETTER = 18, 0.08
#: Points that a bar is high.
_BAR = 9


def timeline(times: list[dict[str, Any]], clock_mhz: float | None = None) -> Chart:
    """Which layer every core works on, and when its lanes are done with each row of outputs.

    Parameters
    ----------
    times : list of dict
        ``layer``, ``core``, ``begin``, ``end`` and ``rows`` of each, as of :class:`sim.core_times.CoreTimes`.
    clock_mhz : float, optional
        With it, how long the run takes stands below.
    """
    rows: list[tuple[Any, ...]] = []
    for each in times:
        rows.append((each["layer"], each["core"], "works", each["begin"], each["end"]))
        starts = [each["begin"], *each["rows"][:-1]]
        rows += [(each["layer"], each["core"], "row", *pair) for pair in zip(starts, each["rows"], strict=True)]
    return Chart(
        name="timeline",
        title="Cores and lanes during one image",
        data=PlotTable(("layer", "core", "what", "from, cycle", "to, cycle"), tuple(rows)),
        draw=lambda data: _timeline(data, clock_mhz),
        note="Bars: a core works on a layer, in two colours in turn; blank: it waits for slower cores and for the next "
        "layer. Ticks below: its lanes have taken the last value of a row of outputs.",
    )


def _timeline(data: PlotTable, clock_mhz: float | None) -> Figure:
    parts = data.split("what")
    works, done = parts["works"], parts["row"]
    cycles = max(works["to, cycle"])
    cores, layers = sorted(set(works["core"])), list(works.split("layer"))
    longest = max(len(brief(layer)) for layer in layers)
    figure, (axes,) = blank(1.7 + 0.34 * len(cores) + _LETTER * max(0, longest - _SHORT))
    for number, colour in enumerate((COLOURS[0], COLOURS[4])):
        bars = [
            ((begin, end), (cores.index(core),) * 2)
            for layer, core, _, begin, end in works.rows
            if layers.index(layer) % 2 == number
        ]
        label = "a core works on a layer" if number == 0 else "and on the next"
        axes.plot(*_apart(bars), linewidth=_BAR, solid_capstyle="butt", color=colour, label=label)
    ticks = [
        ((cycle, cycle), (height - 0.08, height + 0.08))
        for height, cycle in zip((cores.index(core) + 0.34 for core in done["core"]), done["to, cycle"], strict=True)
    ]
    axes.plot(*_apart(ticks), linewidth=0.5, color=COLOURS[5], label="a row of outputs is done")
    axes.set_yticks(
        [height + shift for height in range(len(cores)) for shift in (0, 0.34)],
        [text for core in cores for text in (f"core {core}", "lanes")],
        fontsize=6.5,
    )
    axes.set_ylim(len(cores) - 0.4, -0.4)
    axes.set_xlim(0, cycles)
    axes.grid(axis="y", visible=False)
    took = "" if clock_mhz is None else f"; {cycles:,} are {cycles / clock_mhz:,.1f} µs at {clock_mhz:g} MHz"
    axes.set_xlabel(f"cycles of the run{took}")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    _name_layers(axes, works, cycles)
    legend_below(figure, axes, 2, handlelength=1, columnspacing=1)
    return figure


def _apart(lines: Sequence[tuple[tuple[float, float], tuple[float, float]]]) -> tuple[list[float], list[float]]:
    """Lines, each from where to where across and up, as one with gaps: the file stays small."""
    return [x for pair, _ in lines for x in (*pair, math.nan)], [y for _, pair in lines for y in (*pair, math.nan)]


def _name_layers(axes: Axes, works: PlotTable, cycles: int) -> None:
    """Above, the names of the layers: the longest ones first, as far as there is room."""
    spans = {name: (min(part["from, cycle"]), max(part["to, cycle"])) for name, part in works.split("layer").items()}
    apart, named = _NAME / (WIDTH - _BESIDE) * cycles, dict[str, float]()
    for name, (begin, end) in sorted(spans.items(), key=lambda span: span[1][0] - span[1][1]):
        middle = (begin + end) / 2
        if all(abs(middle - other) >= apart for other in named.values()):
            named[name] = middle
    for begin, _ in spans.values():
        axes.axvline(begin, color=GREY, linewidth=0.3)
    above = axes.secondary_xaxis("top")
    above.set_xticks(list(named.values()), map(brief, named), rotation=90, fontsize=6.5)
