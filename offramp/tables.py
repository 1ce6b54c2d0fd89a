"""Results as tables for a terminal."""

from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table

__all__ = ["NAMES", "build_rows", "facts", "key_values", "layers", "measurements", "summary", "usage"]

#: Kinds of input, in the order of tables, as people read them.
NAMES = {
    "unpruned": "unpruned, no exit",
    "clean": "clean",
    "fgsm": "FGSM",
    "pgd": "PGD-20",
    "adaptive": "PGD-40, exit-aware",
    "slowdown": "slowdown",
}


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def usage(use: dict[str, int]) -> str:
    """Used cells of a kind, of how many, and the share."""
    return f"{use['used']:,} of {use['available']:,} ({100 * use['used'] / use['available']:.0f} %)"


def measurements(inputs: dict[str, dict[str, Any]]) -> Table:
    """Accuracy, exits, cycles and throughput by kind of input."""
    table = Table(box=None, pad_edge=False)
    table.add_column("input")
    for name in ("images", "accuracy", "early exits", "mean cycles", "p50", "p99", "worst", "images/s"):
        table.add_column(name, justify="right")
    for name in sorted(inputs, key=list(NAMES).index):
        found = inputs[name]
        cycles = found["cycles"]
        early = sum(found["exit_share"][:-1])
        speed = f"{found['images_per_second']:,.0f}" if "images_per_second" in found else "-"
        table.add_row(
            NAMES[name],
            f"{found['images']:,}",
            _percent(found["accuracy"]),
            _percent(early) if len(found["exit_share"]) > 1 else "-",
            f"{cycles['mean']:,.0f}",
            f"{cycles['p50']:,}",
            f"{cycles['p99']:,}",
            f"{cycles['worst']:,}",
            speed,
        )
    return table


def facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The demo's other figures, by name."""
    metrics, verify, built, robust = (result[name] for name in ("metrics", "verify", "build", "robustness"))
    inputs = result["inputs"]
    gain = inputs["unpruned"]["cycles"]["mean"] / inputs["clean"]["cycles"]["mean"]
    rows = [
        ("accuracy, float", f"{_percent(metrics['float_final'])} (branch {_percent(metrics['float_branch'])})"),
        (
            "accuracy, pruned int8",
            f"{_percent(metrics['int8_final'])} without exits, {_percent(metrics['int8_exits'])} with",
        ),
        ("weights left", f"{result['network']['nonzero_weights']:,} of {result['network']['weights']:,}"),
        (
            "exit threshold",
            f"{metrics['threshold']:,.0f} ({_percent(result['golden']['exit_share'][0])} of the test set leave)",
        ),
        ("pruning and exits bring", f"{gain:.2f} x fewer cycles on average"),
        (
            f"accuracy attacked, eps {robust['eps']:.3g}",
            f"{_percent(robust['easy'])} by PGD-20, {_percent(robust['adaptive'])} by the best of all attacks",
        ),
        (
            "RTL = golden = simulator",
            f"values {'equal' if verify['values_equal'] else 'DIFFER'}, "
            f"cycles {'equal' if verify['cycles_equal'] else 'DIFFER'} "
            f"({verify['images']} images, {verify['layers']} layers)",
        ),
        *build_rows(built),
        ("time of everything", f"{result['seconds']['total']:.0f} s"),
    ]
    return rows


def build_rows(built: dict[str, Any]) -> list[tuple[str, str]]:
    """A bitstream's figures (:meth:`fpga.build.BuildReport.to_dict`) by name."""
    device = f"{built['board']}: ECP5 {built['device']}, {built['package']}, speed grade {built['speed']}"
    return [
        ("bitstream for", device),
        ("highest clock", f"{built['fmax_mhz']:.1f} MHz, placed and routed (seed {built['seed']})"),
        ("clock of its PLL", f"{built['clock_mhz']:g} MHz{'' if built['timing_met'] else ': TIMING NOT MET'}"),
        ("logic cells", usage(built["logic"])),
        ("flip-flops", usage(built["flip_flops"])),
        ("block RAMs", usage(built["block_rams"])),
        ("multipliers", usage(built["multipliers"])),
        ("time of the build", f"{built['seconds']:.0f} s{', found in the cache' if built['cached'] else ''}"),
    ]


def layers(rows: list[dict[str, Any]]) -> Table:
    """Where the cycles of every layer go; means over the images that reach it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    causes = list(rows[0]["loss"])
    for name in ("images", "cycles", "products", "limit", "of limit", *(f"lost: {cause}" for cause in causes)):
        table.add_column(name, justify="right")
    for row in rows:
        share = "-" if row["share_of_limit"] is None else f"{100 * row['share_of_limit']:.0f} %"
        figures = [f"{row[name]:,.1f}" for name in ("cycles", "products", "limit")]
        lost = [f"{row['loss'][cause]:,.1f}" for cause in causes]
        table.add_row(row["name"], f"{row['images']:,}", *figures, share, *lost)
    return table


def key_values(rows: list[tuple[str, str]]) -> Table:
    """Two columns without a head."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value)
    return table


def summary(result: dict[str, Any]) -> Panel:
    """The demo's table."""
    title = f"Offramp on {result['data']}, config {result['config']['name']}, seed {result['seed']}"
    note = f"images/s at the routed design's {result['clock_mhz']:.1f} MHz"
    parts = Group(key_values(facts(result)), "", measurements(result["inputs"]), "", note)
    return Panel(parts, title=title, expand=False)
