"""Results as tables for a terminal."""

from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fpga.links import link_of
from offramp.report.tables.columns import Columns
from offramp.report.tables.units import count, percent, points, storage, usage

__all__ = [
    "CORE_ALONE",
    "NAMES",
    "board_note",
    "board_rows",
    "build_rows",
    "decision_rows",
    "equality",
    "evaluation_rows",
    "key_values",
    "layer_rows",
    "layers",
    "machine_rows",
    "markdown_lines",
    "measurement_rows",
    "measurements",
    "metric_rows",
    "removals",
    "security",
    "threshold_rows",
    "verification",
    "waveform_rows",
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


#: Of what networks accuracies are, and where, by the parts of the names of metrics; and the other metrics.
_STAGES = {
    "float": "float",
    "pruned": "pruned",
    "int8": "int8",
    "dense_int8": "dense int8",
    "validation": "int8 on validation images",
}
_PLACES = {
    "branch": "at the early exit",
    "branch1": "at exit 0",
    "branch2": "at exit 1",
    "final": "at the last exit",
    "exits": "with early exits",
}
_METRICS = {
    "exit_share": "leave early",
    "validation_exit_share": "leave early, of validation images",
    "threshold": "threshold of exit 0",
    "density": "weights that aren't zero",
}
#: Of the core alone, at the highest clock that routing allows.
CORE_ALONE = "core_images_per_second_at_fmax"


def measurement_rows(inputs: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Accuracy, exits, cycles and throughput by kind of input: head and rows, as text.

    ``images/s`` are those of a board (:class:`fpga.throughput.Throughput`) with their bottleneck, ``core alone`` those
    that the core would reach at the highest routed clock; either stands there if it is known of any input.
    """
    board, alone = (any(found.get(key) for found in inputs.values()) for key in ("board", CORE_ALONE))
    head = ["input", "images", "accuracy, %", "early exits, %", "mean cycles"]
    head += [f"cycles, {which}" for which in ("p50", "p99", "worst found", "bound")]
    head += ["images/s"] * board + ["core alone, images/s"] * alone
    rows = []
    for name in sorted(inputs, key=list(NAMES).index):
        found = inputs[name]
        cycles, early = found["cycles"], sum(found["exit_share"][:-1])
        rows.append(
            [
                NAMES[name],
                count(found["images"]),
                points(found["accuracy"]),
                points(early if len(found["exit_share"]) > 1 else None),
                *(count(cycles[which]) for which in ("mean", "p50", "p99", "worst", "bound")),
                *([_on_board(found["board"])] if board else []),
                *([count(found[CORE_ALONE])] if alone else []),
            ]
        )
    return head, rows


def _on_board(found: dict[str, Any] | None) -> str:
    """Images a second of a board, and their bottleneck."""
    return f"{found['images_per_second']:,.0f} ({found['bottleneck']})" if found else "-"


def board_note(found: dict[str, Any]) -> str:
    """Of what board images a second are (:meth:`fpga.throughput.Throughput.to_dict`), as a sentence."""
    # Results of before --link have none.
    link = link_of(found.get("link", "serial"), found["baud"])
    return (
        f"images/s: back to back, on a board with a clock of {found['clock_mhz']:g} MHz and {link.title}; "
        "in brackets which of the two is the bottleneck."
    )


def measurements(inputs: dict[str, dict[str, Any]]) -> Columns:
    """:func:`measurement_rows` as a table."""
    return Columns(*measurement_rows(inputs))


def build_rows(built: dict[str, Any]) -> list[tuple[str, str]]:
    """A bitstream's figures (:meth:`fpga.flow.build.BuildReport.to_dict`) by name."""
    device = f"{built['board']}: ECP5 {built['device']}, {built['package']}, speed grade {built['speed']}"
    # Baselines of before --baud have none.
    line = [("serial link", f"{built['baud']:,} baud")] if "baud" in built else []
    if (link := built.get("link", "serial")) != "serial":
        line = [("link", link_of(link, 0).title)]
    return [
        ("bitstream for", device),
        ("highest clock", f"{built['fmax_mhz']:.1f} MHz, placed and routed (seed {built['seed']})"),
        ("clock of its PLL", f"{built['clock_mhz']:g} MHz{'' if built['timing_met'] else ': TIMING NOT MET'}"),
        *line,
        ("logic cells", usage(built["logic"])),
        ("flip-flops", usage(built["flip_flops"])),
        ("block RAMs", usage(built["block_rams"])),
        ("multipliers", usage(built["multipliers"])),
        ("time of the build", f"{built['seconds']:.0f} s{', found in the cache' if built['cached'] else ''}"),
    ]


def seed_rows(clocks: dict[int, float]) -> list[tuple[str, str]]:
    """What several seeds reached, MHz by seed; nothing of one."""
    found = sorted(clocks.values())
    if len(found) <= 1:
        return []
    each = ", ".join(f"{seed}: {fmax:.1f}" for seed, fmax in clocks.items())
    return [("highest clocks by seed", f"{each} MHz; {found[0]:.1f} to {found[-1]:.1f}")]


def board_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What a board delivers of a measurement, by name."""
    board, cycles = found["board"], found["cycles"]
    mean, worst, bound = (cycles[which] / board["clock_mhz"] for which in ("mean", "worst", "bound"))
    rates = [f"{board[f'{part}_images_per_second']:,.0f} by the {part}" for part in ("core", "link")]
    return [
        (
            "images/s on the board",
            f"{board['images_per_second']:,.0f} back to back, held back by the {board['bottleneck']} "
            f"({', '.join(rates)}); {board['one_by_one_images_per_second']:,.0f} one by one",
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
    head = ["layer", "images", *(f"cycles, {name}" for name in selects), "cycles", "products", "limit, cycles"]
    head += ["of limit, %", *(f"cycles lost: {cause}" for cause in causes)]
    return head, [
        [
            row["name"],
            count(row["images"]),
            *(count(row[name], 1) for name in (*selects, "cycles", "products", "limit")),
            points(row["share_of_limit"], 0),
            *(count(row["loss"][cause], 1) for cause in causes),
        ]
        for row in rows
    ]


def layers(rows: list[dict[str, Any]]) -> Columns:
    """:func:`layer_rows` as a table."""
    return Columns(*layer_rows(rows))


def markdown_lines(rows: list[list[str]], align: list[str]) -> list[str]:
    """A table in Markdown."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [head, f"|{'|'.join(align)}|", *body]


def metric_rows(metrics: dict[str, float]) -> list[tuple[str, str]]:
    """What was measured of a network (:func:`models.recipes.pipeline.compress`): shares, and thresholds of exits."""
    known = [*(f"{stage}_{place}" for stage in _STAGES for place in _PLACES), *_METRICS]
    names = sorted(metrics, key=lambda name: known.index(name) if name in known else len(known))
    return [
        (_metric(name), count(metrics[name]) if name.startswith("threshold") else percent(metrics[name]))
        for name in names
    ]


def _metric(name: str) -> str:
    stage, _, place = name.rpartition("_")
    if name in _METRICS:
        return _METRICS[name]
    known = stage in _STAGES and place in _PLACES
    return f"accuracy, {_STAGES[stage]}, {_PLACES[place]}" if known else name.replace("_", " ")


def decision_rows(counts: dict[str, int]) -> list[tuple[str, str]]:
    """Rows of a table for :meth:`hw.network.exits.Decisions.counts`; one of all where none was made."""
    if counts and not any(counts.values()):
        return [("ended by a deadline, audited, out of range", "0")]
    names = {
        "forced": "ended by the deadline",
        "passed": "went on past an exit",
        "differs": "of another class there",
        "out_of_range": "margin out of range",
        "overrun": "later than the deadline, in constant time",
    }
    return [(names[name], count(number)) for name, number in counts.items()]


def removals(found: dict[str, Any]) -> Group:
    """What ``offramp clean`` removed (:func:`offramp.cache.described`), by kind, and what it left."""
    rows = [("cache", found["place"]), *(("left, being built", path) for path in found["left"])]
    if not found["entries"]:
        return Group(key_values([*rows, ("removed", "nothing" if found["left"] else "nothing, for nothing was there")]))
    lines = [[kind, count(kept["entries"]), storage(kept["bytes"])] for kind, kept in found["kinds"].items()]
    lines.append(["all", count(found["entries"]), storage(found["bytes"])])
    return Group(key_values(rows), "", Columns(["removed", "entries", "size"], lines))


def threshold_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Margins from which runs leave at the early exits, if there are such."""
    found = ", ".join(map(count, result["thresholds"]))
    return [("thresholds of early exits", found)] if found else []


def machine_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What ran, in figures."""
    cores = result["cores"]
    size = f"{count(result['multipliers'])} in {count(cores)} core{'s' * (cores > 1)}"
    return [("multipliers", size), *threshold_rows(result)]


def simulation(attack: str, result: dict[str, Any]) -> list[RenderableType]:
    """What :func:`offramp.measure.simulation.simulated` found under an attack."""
    note: list[RenderableType] = [Text(board_note(result["board"])), ""] if result["board"] else []
    together = "unknown" if result["back_to_back"] is None else f"{result['back_to_back']:,.1f}"
    delivered = board_rows(result) if result["board"] else []
    facts = [("cycles per image, back to back", together), *delivered, *machine_rows(result)]
    more: list[RenderableType] = ["", security(result["security"])] if "security" in result else []
    rows = key_values([*facts, *decision_rows(result["decisions"])])
    return ["", measurements({attack: result}), "", *note, layers(result["layers"]), "", rows, *more]


def security(found: list[dict[str, Any]]) -> Columns:
    """Accuracy and cycles against the reach of an attack (:func:`offramp.measure.simulation.reach_curve`)."""
    rows = [
        [f"{each['eps']:.4g}", count(each["images"]), points(each["accuracy"]), count(each["cycles"])] for each in found
    ]
    return Columns(["eps", "images", "accuracy, %", "mean cycles"], rows)


def evaluation_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What the golden model says of a test set (:func:`offramp.stages.evaluated`) by name."""
    return [
        ("images", count(result["images"])),
        ("accuracy", percent(result["accuracy"])),
        ("leave at each exit", ", ".join(percent(share) for share in result["exit_share"])),
        *decision_rows(result.get("decisions", {})),
    ]


def waveform_rows(ran: dict[str, Any]) -> list[tuple[str, str]]:
    """What was recorded of a run, and the layout beside it (:func:`offramp.rtl.waves.keep`)."""
    if "waveform" not in ran:
        return []
    layout = str(PurePath(ran["waveform"]).with_suffix(".gtkw"))
    return [("waveform", ran["waveform"]), ("its layout for GTKWave", layout)]


def equality(equal: bool) -> str:
    """The word for it in a table."""
    return "equal" if equal else "DIFFER"


def verification(result: dict[str, Any], programs: list[str]) -> Group:
    """What :func:`offramp.rtl.run.verify` found of these programs."""
    rows = [
        ("values", equality(result["values_equal"])),
        ("cycles", equality(result["cycles_equal"])),
        ("images", count(result["images"])),
        ("of them early", count(result["early"])),
        ("layers compared", count(result["layers"])),
        ("cycles in all", count(result["cycles"])),
        *decision_rows(result["decisions"]),
        ("simulator", f"{result['simulator']}, seed {result['seed']}"),
        *([("in place of the RTL", f"ECP5 cells, {result['netlist']}")] if result.get("netlist") else []),
        ("time", f"{count(result['seconds'], 1)} s"),
    ]
    if result["differing"]:
        rows.append(("images that differ", ", ".join(map(str, result["differing"]))))
    rows += [("difference", text) for text in result["mismatches"]]
    rows += waveform_rows(result)
    batches = [[name, count(cycles, 1)] for name, cycles in zip(programs, result["back_to_back"], strict=True)]
    return Group(key_values(rows), "", Columns(["program", "cycles per image, back to back"], batches))


def key_values(rows: list[tuple[str, str]]) -> Table:
    """Two columns without a head."""
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table
