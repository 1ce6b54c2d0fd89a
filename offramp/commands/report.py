"""The command that makes a report of a result."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hw.output import STANDARD_OUTPUT, write_file
from offramp.commands.common import OUT, finish, next_step, show
from offramp.files import paths
from offramp.files.kinds import check_result
from offramp.terminal import options
from offramp.terminal.console import Terminal, results

__all__ = ["report"]

#: In place of a file: the committed results of the methods, and the zoo.
_METHODS = "methods"


def _result(context: typer.Context, option: typer.CallbackParam, what: str) -> str:
    """The file of the result is read; refuse an empty name, which would be the current folder."""
    if not what:
        raise ValueError(f"a report must be of a result (.json) or of {_METHODS}, not of ''")
    if what != _METHODS:
        paths.reads(context, option, Path(what))
    return what


def report(
    *,
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE.json",
            help="Result of any command (--json FILE). Or the word methods: the committed results of the seven "
            "published methods, and the networks of the zoo.",
            callback=_result,
        ),
    ],
    out: Annotated[Path, options.out_file("HTML file to write.")] = OUT / "report.html",
    plots: Annotated[
        Path | None,
        options.output_folder(
            "Folder for every figure as SVG and PDF, and its data as CSV.",
            *("*.svg", "*.pdf", "*.csv"),
            show_default="none",
        ),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = None,
) -> None:
    """Make a report of a result: tables and figures in one HTML file, and for papers as SVG, PDF and CSV."""
    if what != _METHODS:
        check_result(Path(what))
    with Terminal().stage("report") as step:
        from offramp.files.result_file import provenance
        from offramp.report import html
        from offramp.report.pages.result_page import page_of, read_result
        from offramp.report.tables import methods

        found: dict[str, Any] = methods.collect() if what == _METHODS else {}
        result = {**provenance("report", seed), **found} if found else read_result(Path(what))
        try:
            page = page_of(result)
            text = html.render(page, step)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{what} must hold what {result['command']} writes, unchanged: {error}") from error
        charts = [chart for section in page.sections for chart in section.charts]
        if plots is not None:
            for number, chart in enumerate(charts):
                step(number, len(charts), f"write {chart.name}")
                chart.write(plots)
        write_file(out, text.encode())
    shown = [part for section in page.sections for table in section.tables for part in (table, "")]
    results().print(*shown)
    show([("report", str(out)), ("figures", ", ".join(chart.name for chart in charts) or "none")])
    finish("report", seed, json, {"file": out, "figures": [chart.name for chart in charts], **found})
    if out != STANDARD_OUTPUT:
        next_step(f"open {out}")
