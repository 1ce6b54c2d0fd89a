"""The figures of docs/results.md, from committed results."""

from collections.abc import Iterable

from offramp.files.result_file import BASELINES
from offramp.report.pages.methods_page import methods_sections
from offramp.report.pages.result_page import page_of, read_result
from offramp.report.pages.section import Section
from offramp.report.plots.chart import Chart
from offramp.report.tables.methods import collect

__all__ = ["documented_charts"]

#: By result: which of its figures.
_RECORDED = {
    "bench-85f": ("workloads", "layers-resnet8-w10"),
    "bench-85f-loader": ("density",),
    "run-resnet8-sparse": ("cycles", "layers", "roofline", "exits", "margins", "timeline"),
    "attack-digits": ("security",),
}


def documented_charts() -> list[Chart]:
    """All of them; ``tools/figures`` writes them to docs/plots."""
    shown: list[tuple[Iterable[Section], tuple[str, ...] | None]]
    shown = [(page_of(read_result(BASELINES / f"{name}.json")).sections, names) for name, names in _RECORDED.items()]
    shown.append((methods_sections(collect()), None))
    return [
        chart
        for sections, names in shown
        for section in sections
        for chart in section.charts
        if names is None or chart.name in names
    ]
