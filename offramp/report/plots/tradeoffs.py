"""What is gained against what it costs: accuracy, exits, cycles, density."""

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from offramp.report.plots.chart import COLOURS, GREY, Chart, PlotTable, add_microseconds, blank, legend_below
from offramp.report.plots.labels import label_points

__all__ = ["accuracy_against_cycles", "density_curve", "exit_curve"]


def exit_curve(curve: dict[str, list[float]], threshold: float) -> Chart:
    """Accuracy and exit share on validation data against the exit threshold."""
    columns = curve["thresholds"], curve["accuracy"], curve["exit_share"]
    rows = tuple((margin, 100 * accuracy, 100 * share) for margin, accuracy, share in zip(*columns, strict=True))
    return Chart(
        name="thresholds",
        title="Accuracy against the exit threshold",
        data=PlotTable(("exit threshold", "accuracy, %", "leave early, %"), rows),
        draw=lambda data: _thresholds(data, threshold),
        note="Validation data, integer network. The threshold is a margin: the difference of the branch's two largest "
        "logits.",
    )


def _thresholds(data: PlotTable, threshold: float) -> Figure:
    figure, panels = blank(2.6, 2)
    for number, (axes, name) in enumerate(zip(panels, data.head[1:], strict=True)):
        axes.plot(data["exit threshold"], data[name], color=COLOURS[number])
        axes.axvline(threshold, color=GREY, linestyle=":", label=f"chosen: {threshold:,.0f}")
        axes.set_ylabel(name)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.sharex(panels[0])
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[1].set_ylim(0, 103)
    panels[1].set_xlabel("exit threshold")
    legend_below(figure, panels[1], 1)
    return figure


def density_curve(points: list[dict[str, float]]) -> Chart:
    """Cycles over the density of weights, a line for each density of activations, the limits dashed."""
    head = ("weights, %", "activations, %", "cycles", "limit, cycles")
    rows = tuple(
        (100 * point["weights"], 100 * point["activations"], point["cycles"], point["limit"]) for point in points
    )
    return Chart(
        name="density",
        title="Cycles against the density of weights and activations",
        data=PlotTable(head, rows),
        draw=_density,
        note="Dashed: the limit, nonzero products divided by the multipliers.",
    )


def _density(data: PlotTable) -> Figure:
    figure, (axes,) = blank(2.5)
    for number, (active, line) in enumerate(data.split("activations, %").items()):
        label = f"{active:.0f} % of activations"
        axes.plot(line["weights, %"], line["cycles"], color=COLOURS[number], marker="osD^v"[number % 5], label=label)
        axes.plot(line["weights, %"], line["limit, cycles"], color=COLOURS[number], linestyle="--", linewidth=0.8)
    axes.plot([], [], color=GREY, linestyle="--", linewidth=0.8, label="limit")
    axes.set_xscale("log")
    axes.set_yscale("log")
    densities = sorted(set(data["weights, %"]))
    axes.set_xticks(densities, [f"{density:g}" for density in densities])
    axes.minorticks_off()
    axes.set_xlabel("weights that are not zero, %")
    axes.set_ylabel("cycles of an inference")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    legend_below(figure, axes, 2)
    return figure


def accuracy_against_cycles(networks: list[dict[str, Any]], dataset: str, clock_mhz: float | None = None) -> Chart:
    """Accuracy of the zoo's networks of a data set against their cycles, of those that fit the config that was routed.

    Parameters
    ----------
    networks : list of dict
        The zoo's index (:class:`models.zoo.ZooEntry`).
    dataset : str
    clock_mhz : float, optional
        Of the routed config: with it, times stand beside cycles.
    """
    chosen = [found for found in networks if found["dataset"] == dataset and found["routed"] is not None]
    configs = [found["routed"] for found in chosen]
    best, rows = 0.0, []
    for found in sorted(chosen, key=lambda found: (found["routed_cycles"], -found["accuracy_int8"])):
        accuracy = 100 * found["accuracy_int8"]
        rows.append((found["name"], found["routed"], found["routed_cycles"], accuracy, int(accuracy > best)))
        best = max(best, accuracy)
    return Chart(
        name=f"pareto-{dataset}",
        title=f"Accuracy against cycles{_on(configs)}, {dataset}",
        data=PlotTable(("network", "config", "cycles", "accuracy int8, %", "on the front"), tuple(rows)),
        draw=lambda data: _pareto(data, clock_mhz),
        note="Filled: no other network is as fast and more accurate. Cycles are means; accuracy is of the whole test "
        "set.",
    )


def _on(configs: list[str]) -> str:
    """On which configs something ran."""
    return f" on {', '.join(dict.fromkeys(configs))}" if configs else ""


def _pareto(data: PlotTable, clock_mhz: float | None) -> Figure:
    figure, (axes,) = blank(2.3)
    points = list(zip(data["cycles"], data["accuracy int8, %"], strict=True))
    front = [point for point, on in zip(points, data["on the front"], strict=True) if on]
    end = max(data["cycles"])
    corners = [(x, y) for (_, y), (x, _) in zip(front, [*front[1:], (end, 0)], strict=True)]
    line = [point for pair in zip(front, corners, strict=True) for point in pair]
    axes.plot(*zip(*line, strict=True), color=GREY, linewidth=0.8, linestyle="--")
    for (cycles, accuracy), on in zip(points, data["on the front"], strict=True):
        axes.plot(cycles, accuracy, "o", color=COLOURS[0], markerfacecolor=COLOURS[0] if on else "white")
    axes.set_xlim(0, 1.12 * end)
    axes.margins(y=0.15)
    axes.set_xlabel(f"cycles of an inference{_on(data['config'])}, mean")
    axes.set_ylabel("accuracy int8, %")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    add_microseconds(axes, clock_mhz)
    along = [point for begin, end in pairwise(line) for point in np.linspace(begin, end, 60).tolist()]
    label_points(figure, axes, points, data["network"], along)
    return figure
