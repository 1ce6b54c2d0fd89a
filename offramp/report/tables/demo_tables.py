"""The demo's figures, in the terminal and in docs/results.md."""

from typing import Any

from rich.console import Group
from rich.panel import Panel

from offramp.report.tables.result_tables import (
    CORE_ALONE,
    board_note,
    board_rows,
    build_rows,
    equality,
    key_values,
    markdown_lines,
    measurement_rows,
    measurements,
)
from offramp.report.tables.units import percent

__all__ = ["facts", "markdown", "summary", "throughput_note"]


def facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The demo's other figures, by name."""
    metrics, verify, built, robust = (result[name] for name in ("metrics", "verify", "build", "robustness"))
    inputs = result["inputs"]
    clean, images = inputs["clean"], f"{inputs['clean']['images']:,} test images"
    gain = inputs["unpruned"]["cycles"]["mean"] / clean["cycles"]["mean"]
    exits = "threshold" in metrics
    branch, with_exits, leaving = "", "", []
    if exits:
        branch = f" (branch {percent(metrics['float_branch'])})"
        with_exits = f" without exits, {percent(metrics['int8_exits'])} with"
        share = percent(result["golden"]["exit_share"][0])
        leaving = [("exit threshold", f"{metrics['threshold']:,.0f} ({share} of the test set leave)")]
    rows = [
        (f"accuracy, float, {images}", percent(metrics["float_final"]) + branch),
        (f"accuracy, pruned int8, {images}", percent(metrics["int8_final"]) + with_exits),
        ("weights left", f"{result['network']['nonzero_weights']:,} of {result['network']['weights']:,}"),
        *leaving,
        ("pruning and exits bring" if exits else "pruning brings", f"{gain:.2f} x fewer cycles on average"),
        (
            f"accuracy attacked, eps {robust['eps']:.3g}, {robust['images']:,} test images",
            f"{percent(robust['clean'])} clean, {percent(robust['easy'])} under PGD-20, "
            f"{percent(robust['adaptive'])} right under every attack",
        ),
        (
            "RTL = golden = simulator",
            f"values {equality(verify['values_equal'])}, cycles {equality(verify['cycles_equal'])} "
            f"({verify['images']} images, {verify['layers']} layers)",
        ),
        *([] if built is None else _built_rows(built, clean)),
        ("time of everything", f"{result['seconds']['total']:.0f} s"),
    ]
    return rows


def _built_rows(built: dict[str, Any], clean: dict[str, Any]) -> list[tuple[str, str]]:
    alone = ("core alone at the highest clock", f"{clean[CORE_ALONE]:,.0f} images/s")
    return [*build_rows(built), *board_rows(clean), alone]


def markdown(result: dict[str, Any]) -> str:
    """The demo's table as docs/results.md shows it."""
    head, inputs = measurement_rows(result["inputs"])
    others = [["figure", "value"], *(list(row) for row in facts(result))]
    where = f"`{result['data']}`, config `{result['config']['name']}`, seed {result['seed']}"
    return "\n".join(
        [
            f"A run of `make demo` ({where}):",
            "",
            *markdown_lines([head, *inputs], ["---", *["--:"] * (len(head) - 1)]),
            "",
            throughput_note(result),
            "",
            *markdown_lines(others, ["---", "---"]),
            "",
        ]
    )


def throughput_note(result: dict[str, Any]) -> str:
    """What the throughput in a demo's table is, or why there is none."""
    if result["build"] is None:
        return (
            "The bitstream was left out (--no-bitstream): nothing was synthesized, placed or routed, so that cells, "
            "clock and images/s of a board aren't known."
        )
    return (
        f"{board_note(result['inputs']['clean']['board'])} Core alone: images/s of the core alone at the highest "
        f"routed clock, {result['build']['fmax_mhz']:.1f} MHz."
    )


def summary(result: dict[str, Any]) -> Panel:
    """The demo's table."""
    title = f"Offramp on {result['data']}, config {result['config']['name']}, seed {result['seed']}"
    parts = Group(key_values(facts(result)), "", measurements(result["inputs"]), "", throughput_note(result))
    return Panel(parts, title=title, expand=False)
