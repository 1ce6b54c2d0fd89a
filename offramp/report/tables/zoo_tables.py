"""The networks of the zoo as tables: one of the networks, and one for each accelerator that they were measured on.

A row of figures is of one config, and at the clock of that config's recorded bitstream; where none is recorded, cycles
stand there and no time.
"""

from typing import Any

from models.datasets.splits import SHAPES
from offramp.files.result_file import read_json
from offramp.measure.recorded import RecordedBuild, recorded_build
from offramp.report.tables import methods
from offramp.report.tables.columns import Columns
from offramp.report.tables.units import count, points

__all__ = ["network_facts", "networks", "networks_markdown", "on_configs", "pll_clock"]

_NETWORKS = [
    "network", "method", "data", "accuracy float, %", "accuracy int8, %", "attacked images", "clean, %",
    "PGD-20, %", "all attacks, %",
    "weights", "active, %", "products, %", "without exits, %", "early exits, %", "claims",
]  # fmt: skip
_CYCLES = [
    "cycles, mean", "cycles, worst found", "cycles, bound", "cycles, back to back", "of limit, %",
    "latency, µs: mean / worst / bound", "images/s",
]  # fmt: skip
#: Of a network's row, for a terminal: what is too long for one, and what ``info`` says in a line of its own.
_METHOD, _WEIGHTS = _NETWORKS.index("method"), _NETWORKS.index("weights")


def pll_clock(found: list[dict[str, Any]]) -> float | None:
    """MHz that the PLL of the networks' routed config makes; None where they have no built one in common."""
    configs = {entry["routed"] for entry in found if entry["routed"] is not None}
    build = recorded_build(configs.pop()) if len(configs) == 1 else None
    return None if build is None else build.clock_mhz


def _claims(name: str) -> str:
    """How many claims of a method hold here, and on which data they were checked, if it was tried."""
    path = methods.FOLDER / f"{name.replace('-', '_')}.json"
    if not path.exists():
        return "-"
    result = read_json(path)
    return f"{sum(check['holds'] for check in result['checks'])} of {len(result['checks'])} on {result['dataset']}"


def _network_row(entry: dict[str, Any]) -> list[str]:
    return [
        entry["name"],
        entry["method"],
        entry["dataset"],
        points(entry["accuracy_float"]),
        points(entry["accuracy_int8"]),
        f"{entry['attacked']:,}",
        points(entry["accuracy_clean"]),
        points(entry["accuracy_pgd20"]),
        points(entry["accuracy_worst"]),
        f"{entry['nonzero_weights']:,} of {entry['weights']:,}",
        points(entry["activation_density"]),
        points(entry["products_share"]),
        points(entry["products_share_full"]),
        points(entry["exit_share"] or None),
        _claims(entry["name"]),
    ]


def _by_config(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was measured of a network on each config; of the routed one there are no shares of the limit."""
    found = {entry["config"]: {"cycles": entry["mean_cycles"], "share_of_limit": entry["share_of_limit"]}}
    if entry["routed"] is not None:
        names = ("cycles", "worst", "bound", "back_to_back")
        found.setdefault(entry["routed"], {}).update({name: entry[f"routed_{name}"] for name in names})
    return found


def _cycle_row(dataset: str, figures: dict[str, Any], build: RecordedBuild | None) -> list[str]:
    """Cycles on a config; if a bitstream of it is recorded, latency at its PLL's clock and images/s over its link."""
    cycles = [figures.get(name) for name in ("cycles", "worst", "bound")]
    together, share = figures.get("back_to_back"), points(figures.get("share_of_limit"))
    return [*map(count, cycles), count(together, 1), share, *_delivered(dataset, cycles, together, build)]


def _delivered(
    dataset: str, cycles: list[float | None], together: float | None, build: RecordedBuild | None
) -> list[str]:
    from fpga.boards import BAUD
    from fpga.throughput import throughput

    if build is None or cycles[0] is None:
        return ["-", "-"]
    clock = build.clock_mhz
    shape, _ = SHAPES[dataset]
    board = throughput(shape, cycles[0], back_to_back=together, clock_mhz=clock, baud=BAUD)
    latency = " / ".join(count(number and number / clock) for number in cycles)
    return [latency, f"{board.images_per_second:,.0f} ({board.bottleneck})"]


def networks(found: list[dict[str, Any]]) -> Columns:
    """The zoo's networks for a terminal, without what is too long for one: the methods' names."""
    rows = [_network_row(entry) for entry in found]
    head, *rows = [[*row[:_METHOD], *row[_METHOD + 1 :]] for row in (_NETWORKS, *rows)]
    return Columns(head, rows)


def _cycle_tables(found: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """For each config, the one that holds most networks first: what its figures are of, head and rows."""
    measured = [(entry, config, figures) for entry in found for config, figures in _by_config(entry).items()]
    names = [config for _, config, _ in measured]
    made = []
    for config in sorted(set(names), key=lambda name: (-names.count(name), name)):
        build = recorded_build(config)
        rows = [
            [entry["name"], *_cycle_row(entry["dataset"], figures, build)]
            for entry, name, figures in measured
            if name == config
        ]
        # A column without a figure says nothing of this config.
        kept = [column for column in range(len(rows[0])) if any(row[column] != "-" for row in rows)]
        head, *rows = [[row[column] for column in kept] for row in (["network", *_CYCLES], *rows)]
        if build is None:
            title = f"On {config}, which has no recorded bitstream, so no clock:"
        else:
            title = f"On {config} at {build.clock_mhz:g} MHz, the clock of its recorded bitstream:"
        made.append((title, head, rows))
    return made


def on_configs(found: list[dict[str, Any]]) -> list[str | Columns]:
    """What the zoo's networks take of each accelerator that they were measured on: a heading and a table of each."""
    return [part for title, head, rows in _cycle_tables(found) for part in (title, Columns(head, rows))]


def network_facts(entry: dict[str, Any]) -> tuple[list[tuple[str, str]], Columns]:
    """A network of the zoo by name and value, with what its table leaves out; what it takes, a row a config."""
    row = _network_row(entry)
    made = f"recipe {entry['recipe']}, seed {entry['seed']}, in {entry['file']}"
    multiply = f"{count(entry['multiply_accumulates'])} if nothing were zero and no image left early"
    facts = [
        ("zoo", row[0]),
        *[pair for column, pair in enumerate(zip(_NETWORKS, row, strict=True)) if column not in (0, _WEIGHTS)],
        ("made by", made),
        ("multiply-accumulates", multiply),
        ("flagged, %", points(entry["flagged"])),
        ("test images", count(entry["images"])),
    ]
    rows = []
    for config, figures in _by_config(entry).items():
        build = recorded_build(config)
        clock = "-" if build is None else f"{build.clock_mhz:g}"
        rows.append([config, clock, *_cycle_row(entry["dataset"], figures, build)])
    return facts, Columns(["on config", "clock, MHz", *_CYCLES], rows)


def _lines(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def networks_markdown(found: list[dict[str, Any]]) -> str:
    """The zoo's networks, and what they take of each accelerator, as tables in Markdown."""
    lines = _lines(_NETWORKS, [_network_row(entry) for entry in found])
    for title, head, rows in _cycle_tables(found):
        lines += ["", title, "", *_lines(head, rows)]
    return "\n".join(lines) + "\n"
