"""The figures of docs/results.md, from committed results."""

from offramp.report.headline import BASELINES
from offramp.report.methods import collect
from offramp.report.methods_page import methods_sections
from offramp.report.plots.chart import Chart
from offramp.report.result_page import page_of, read_result

__all__ = ["documented_charts"]

#: Of all figures of these results, by how their names begin.
_SHOWN = ("workloads", "density", "layers-resnet8-w10", "pareto", "attacked", "claims")


def documented_charts() -> list[Chart]:
    """All of them; ``tools/figures`` writes them to docs/plots."""
    bench = page_of(read_result(BASELINES / "bench-base.json")).sections
    charts = [chart for section in (*bench, *methods_sections(collect())) for chart in section.charts]
    return [chart for chart in charts if chart.name.startswith(_SHOWN)]
