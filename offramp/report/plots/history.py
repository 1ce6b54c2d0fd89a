"""How training went, epoch by epoch."""

from typing import Any

from matplotlib.figure import Figure

from offramp.report.plots.chart import COLOURS, Chart, PlotTable, blank, legend_below

__all__ = ["training_history"]


def training_history(epochs: dict[str, list[dict[str, float]]]) -> Chart:
    """The metrics of every epoch, stage after stage.

    Parameters
    ----------
    epochs : dict
        By stage, the metrics of every epoch (:class:`models.recipes.pipeline.Log`).
    """
    rows: list[tuple[Any, ...]] = []
    number = 0
    for stage, metrics in epochs.items():
        for number, found in enumerate(metrics, number + 1):  # noqa: B020
            rows += [(stage, metric, number, value) for metric, value in found.items()]
    return Chart(
        name="training",
        title="Training, epoch by epoch",
        data=PlotTable(("stage", "metric", "epoch", "value"), tuple(rows)),
        draw=_history,
    )


def _history(data: PlotTable) -> Figure:
    parts, stages = data.split("metric"), list(data.split("stage"))
    figure, panels = blank(0.75 + 1.1 * len(parts), len(parts))
    for axes, (metric, part) in zip(panels, parts.items(), strict=True):
        for stage, line in part.split("stage").items():
            colour = COLOURS[stages.index(stage) % len(COLOURS)]
            axes.plot(line["epoch"], line["value"], ".-", color=colour, label=stage)
        axes.set_ylabel(metric.replace("_", " "))
        axes.sharex(panels[0])
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[-1].set_xlabel("epoch")
    panels[-1].locator_params(axis="x", integer=True)
    longest = max(panels, key=lambda axes: len(axes.get_lines()))
    legend_below(figure, longest, 3)
    return figure
