"""Results as tables for a terminal."""

from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table

from fpga.uart import BAUD
from offramp.report.columns import Columns

__all__ = [
    "NAMES",
    "bench_markdown",
    "board_note",
    "board_rows",
    "build_rows",
    "facts",
    "key_values",
    "layer_rows",
    "layers",
    "markdown",
    "measurement_rows",
    "measurements",
    "peer_rows",
    "peers",
    "summary",
    "throughput_note",
    "usage",
    "workload_rows",
    "workloads",
]

#: Kinds of input, in the order of tables, as people read them.
NAMES = {
    "unpruned": "unpruned, no exit",
    "clean": "clean",
    "fgsm": "FGSM",
    "pgd": "PGD-20",
    "adaptive": "PGD-40, exit-aware",
    "slowdown": "slowdown",
}


#: Widest that the value of a row is shown.
_SENTENCE = 120
#: Of the core alone, at the highest clock that routing allows.
_ALONE = "core_images_per_second_at_fmax"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def usage(use: dict[str, int]) -> str:
    """Used cells of a kind, of how many, and the share."""
    return f"{use['used']:,} of {use['available']:,} ({100 * use['used'] / use['available']:.0f} %)"


def measurement_rows(inputs: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Accuracy, exits, cycles and throughput by kind of input: head and rows, as text.

    ``images/s`` are those of a board (:class:`fpga.throughput.Throughput`) with what limits them, ``core alone`` those
    that the core would reach at the highest routed clock; either stands there if it is known of any input.
    """
    board, alone = (any(found.get(key) for found in inputs.values()) for key in ("board", _ALONE))
    head = ["input", "images", "accuracy", "early exits", "mean cycles", "p50", "p99", "worst found", "bound"]
    head += ["images/s"] * board + ["core alone"] * alone
    rows = []
    for name in sorted(inputs, key=list(NAMES).index):
        found = inputs[name]
        cycles, early = found["cycles"], sum(found["exit_share"][:-1])
        rows.append(
            [
                NAMES[name],
                f"{found['images']:,}",
                _percent(found["accuracy"]),
                _percent(early) if len(found["exit_share"]) > 1 else "-",
                f"{cycles['mean']:,.0f}",
                *(f"{cycles[which]:,}" for which in ("p50", "p99", "worst", "bound")),
                *([_on_board(found["board"])] if board else []),
                *([f"{found[_ALONE]:,.0f}" if found[_ALONE] else "-"] if alone else []),
            ]
        )
    return head, rows


def _on_board(found: dict[str, Any] | None) -> str:
    """Images a second of a board, and what limits them."""
    return f"{found['images_per_second']:,.0f} ({found['bottleneck']})" if found else "-"


def board_note(found: dict[str, Any]) -> str:
    """Of what board images a second are (:meth:`fpga.throughput.Throughput.to_dict`), as a sentence."""
    return (
        f"images/s: back to back, on a board with a clock of {found['clock_mhz']:g} MHz and a serial link of "
        f"{found['baud']:,} baud; in brackets which of the two is the limit."
    )


def measurements(inputs: dict[str, dict[str, Any]]) -> Columns:
    """:func:`measurement_rows` as a table."""
    return Columns(*measurement_rows(inputs))


def facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The demo's other figures, by name."""
    metrics, verify, built, robust = (result[name] for name in ("metrics", "verify", "build", "robustness"))
    inputs = result["inputs"]
    clean, images = inputs["clean"], f"{inputs['clean']['images']:,} test images"
    gain = inputs["unpruned"]["cycles"]["mean"] / clean["cycles"]["mean"]
    exits = "threshold" in metrics
    branch, with_exits, leaving = "", "", []
    if exits:
        branch = f" (branch {_percent(metrics['float_branch'])})"
        with_exits = f" without exits, {_percent(metrics['int8_exits'])} with"
        share = _percent(result["golden"]["exit_share"][0])
        leaving = [("exit threshold", f"{metrics['threshold']:,.0f} ({share} of the test set leave)")]
    rows = [
        (f"accuracy, float, {images}", _percent(metrics["float_final"]) + branch),
        (f"accuracy, pruned int8, {images}", _percent(metrics["int8_final"]) + with_exits),
        ("weights left", f"{result['network']['nonzero_weights']:,} of {result['network']['weights']:,}"),
        *leaving,
        ("pruning and exits bring" if exits else "pruning brings", f"{gain:.2f} x fewer cycles on average"),
        (
            f"accuracy attacked, eps {robust['eps']:.3g}, {robust['images']:,} test images",
            f"{_percent(robust['clean'])} clean, {_percent(robust['easy'])} under PGD-20, "
            f"{_percent(robust['adaptive'])} right under every attack",
        ),
        (
            "RTL = golden = simulator",
            f"values {'equal' if verify['values_equal'] else 'DIFFER'}, "
            f"cycles {'equal' if verify['cycles_equal'] else 'DIFFER'} "
            f"({verify['images']} images, {verify['layers']} layers)",
        ),
        *build_rows(built),
        *board_rows(clean),
        ("core alone at the highest clock", f"{clean[_ALONE]:,.0f} images/s"),
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
        ("serial link", f"{BAUD:,} baud"),
        ("logic cells", usage(built["logic"])),
        ("flip-flops", usage(built["flip_flops"])),
        ("block RAMs", usage(built["block_rams"])),
        ("multipliers", usage(built["multipliers"])),
        ("time of the build", f"{built['seconds']:.0f} s{', found in the cache' if built['cached'] else ''}"),
    ]


def board_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What a board delivers of a measurement, by name."""
    board, cycles = found["board"], found["cycles"]
    mean, worst, bound = (cycles[which] / board["clock_mhz"] for which in ("mean", "worst", "bound"))
    limits = [f"{board[f'{part}_images_per_second']:,.0f} by the {part}" for part in ("core", "link")]
    return [
        (
            "images/s on the board",
            f"{board['images_per_second']:,.0f} back to back, limited by the {board['bottleneck']} "
            f"({', '.join(limits)}); {board['one_by_one_images_per_second']:,.0f} one by one",
        ),
        (
            f"latency at {board['clock_mhz']:g} MHz",
            f"{mean:,.0f} µs mean, {worst:,.0f} µs worst found, {bound:,.0f} µs at most, without the link",
        ),
    ]


def layer_rows(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Where the cycles of every layer go, means over the images that reach it: head and rows, as text.

    Where layers select from their input, the cycles of that stand in a column of their own: they aren't the layer's.
    """
    causes = list(rows[0]["loss"])
    selects = ["select"] if any(row.get("select") for row in rows) else []
    head = ["layer", "images", *selects, "cycles", "products", "limit", "of limit"]
    head += [f"lost: {cause}" for cause in causes]
    return head, [
        [
            row["name"],
            f"{row['images']:,}",
            *(f"{row[name]:,.1f}" for name in selects),
            *(f"{row[name]:,.1f}" for name in ("cycles", "products", "limit")),
            "-" if row["share_of_limit"] is None else f"{100 * row['share_of_limit']:.0f} %",
            *(f"{row['loss'][cause]:,.1f}" for cause in causes),
        ]
        for row in rows
    ]


def layers(rows: list[dict[str, Any]]) -> Columns:
    """:func:`layer_rows` as a table."""
    return Columns(*layer_rows(rows))


def workload_rows(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """What ``offramp bench`` found, one workload a line: head and rows, as text."""
    causes = list(rows[0]["loss"])
    head = ["workload", "cycles", "limit", "of limit", *(f"lost: {cause}" for cause in causes), "simulator's images/s"]
    lines = [
        [
            row["workload"],
            f"{row['cycles']:,.0f}",
            f"{row['limit']:,.0f}",
            f"{100 * row['share_of_limit']:.1f} %",
            *(f"{row['loss'][cause]:,.0f}" for cause in causes),
            f"{row['simulator_images_per_second']:,.0f}",
        ]
        for row in rows
    ]
    return head, lines


def workloads(rows: list[dict[str, Any]]) -> Columns:
    """:func:`workload_rows` as a table."""
    return Columns(*workload_rows(rows))


def peer_rows(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of what peers say of the workloads, and how their speed compares."""
    speed = {row["workload"]: row["simulated_cycles_per_second"] for row in rows}
    head = ["workload", "peer", "its machine", "its cycles", "seconds", "simulated cycles/s", "Offramp's are"]
    lines = [
        [
            other["workload"],
            other["packages"][0],
            other["machine"],
            f"{other['cycles']:,}",
            f"{other['seconds']:.1f}",
            f"{other['cycles_per_second']:,.0f}",
            f"{speed[other['workload']] / other['cycles_per_second']:,.0f} x",
        ]
        for other in others
    ]
    return head, lines


def peers(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> Columns:
    """:func:`peer_rows` as a table."""
    return Columns(*peer_rows(rows, others))


def _lines(rows: list[list[str]], align: list[str]) -> list[str]:
    """A table in Markdown."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [head, f"|{'|'.join(align)}|", *body]


def _peer_lines(result: dict[str, Any]) -> list[str]:
    """The peers' part of docs/results.md, if they were measured."""
    if not result["peers"]:
        return []
    head, lines = peer_rows(result["rows"], result["peers"])
    return [
        "Other simulators on the same shapes. They model other machines, without weights or values: only their speed "
        "compares.",
        "",
        *_lines([head, *lines], ["---", "---", "---", *["--:"] * (len(head) - 3)]),
        "",
    ]


def bench_markdown(result: dict[str, Any]) -> str:
    """What ``offramp bench`` found, as docs/results.md shows it: workloads, and the layers of the last of ResNet-8."""
    head, lines = workload_rows(result["rows"])
    row = [row for row in result["rows"] if row["workload"].startswith("resnet8")][-1]
    layer_head, layers = layer_rows(row["layers"])
    numbers, layer_numbers = ["--:"] * (len(head) - 1), ["--:"] * (len(layer_head) - 1)
    return "\n".join(
        [
            f"Config `{result['config']}`, {result['multipliers']} multipliers, {row['images']} images, "
            f"seed {result['seed']}; cycles are means:",
            "",
            *_lines([head, *lines], ["---", *numbers]),
            "",
            f"`{row['workload']}` by layer:",
            "",
            *_lines([layer_head, *layers], ["---", *layer_numbers]),
            "",
            *_peer_lines(result),
        ]
    )


def markdown(result: dict[str, Any]) -> str:
    """The demo's table as docs/results.md shows it."""
    head, inputs = measurement_rows(result["inputs"])
    others = [["figure", "value"], *(list(row) for row in facts(result))]
    where = f"`{result['data']}`, config `{result['config']['name']}`, seed {result['seed']}"
    return "\n".join(
        [
            f"A run of `make demo` ({where}):",
            "",
            *_lines([head, *inputs], ["---", *["--:"] * (len(head) - 1)]),
            "",
            throughput_note(result),
            "",
            *_lines(others, ["---", "---"]),
            "",
        ]
    )


def throughput_note(result: dict[str, Any]) -> str:
    """What the throughput in a demo's table is."""
    return (
        f"{board_note(result['inputs']['clean']['board'])} Core alone: images/s of the core alone at the highest "
        f"routed clock, {result['build']['fmax_mhz']:.1f} MHz."
    )


def key_values(rows: list[tuple[str, str]]) -> Table:
    """Two columns without a head."""
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold", max_width=_SENTENCE)
    for name, value in rows:
        table.add_row(name, value)
    return table


def summary(result: dict[str, Any]) -> Panel:
    """The demo's table."""
    title = f"Offramp on {result['data']}, config {result['config']['name']}, seed {result['seed']}"
    parts = Group(key_values(facts(result)), "", measurements(result["inputs"]), "", throughput_note(result))
    return Panel(parts, title=title, expand=False)
