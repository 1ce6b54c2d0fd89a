"""The seven methods and the networks of the zoo: tables of committed results."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.datasets.splits import SHAPES
from models.zoo import entries
from offramp.measure.recorded import recorded_build
from offramp.report.columns import Columns
from offramp.report.units import count, points
from offramp.result_file import BASELINES, read_json

__all__ = [
    "FOLDER",
    "accelerator",
    "balance",
    "claims",
    "collect",
    "network_facts",
    "networks",
    "networks_markdown",
    "orthogonality",
    "pll_clock",
    "tried",
]

#: Results of the methods' replications, one file each.
FOLDER = BASELINES / "methods"

_NETWORKS = [
    "network", "method", "data", "float, %", "int8, %", "attacked", "clean, %", "PGD-20, %", "all attacks, %",
    "weights", "active, %", "products, %", "without exits, %", "exits, %", "config", "mean cycles", "of limit, %",
    "latency, µs: mean / worst / bound", "images/s", "claims",
]  # fmt: skip
_CLAIMS = ["method", "network", "claim", "here", "figures"]
_ACCELERATOR = ["method", "data", "network", "products", "of dense, %", "cycles", "of limit, %"]
_ORTHOGONALITY = ["network", "exits, %", "with exits, %", "without, %", "change, points"]
_BALANCE = ["weights", "float, %", "int8, %", "nonzero", "cycles", "products", "of limit, %"]
#: From here on a claim's figures are counts, whose fractions say nothing.
_WHOLE = 1000
_KEPT = ("method", "network", "dataset", "figures", "checks", "accelerator", "command", "seed", "date")


def collect(folder: Path = FOLDER) -> dict[str, Any]:
    """``networks``: the zoo's entries; ``methods``: the replications' results, by method.

    Raises
    ------
    ValueError
        When a result can't be read or lacks what the table shows.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        result = read_json(path)
        for key in _KEPT:
            if key not in result:
                raise ValueError(f"{path}: must hold {key!r}")
        found[path.stem] = {key: result[key] for key in _KEPT}
    return {"networks": [asdict(entry) for entry in entries()], "methods": found}


def pll_clock(found: list[dict[str, Any]]) -> float | None:
    """MHz that the PLL of the networks' routed config makes; None where they have no built one in common."""
    configs = {entry["routed"] for entry in found if entry["routed"] is not None}
    build = recorded_build(configs.pop()) if len(configs) == 1 else None
    return None if build is None else build.clock_mhz


def _delivered(entry: dict[str, Any]) -> list[str]:
    """Latency (mean, worst found, bound) and images a second of the routed config, by its bitstream's PLL and link."""
    from fpga.boards import BAUD
    from fpga.throughput import throughput

    build = None if entry["routed"] is None else recorded_build(entry["routed"])
    if build is None:
        return ["-", "-"]
    clock = build.clock_mhz
    cycles = (entry[f"routed_{which}"] for which in ("cycles", "worst", "bound"))
    latency = " / ".join(count(number and number / clock) for number in cycles)
    shape, _ = SHAPES[entry["dataset"]]
    board = throughput(
        shape, entry["routed_cycles"], back_to_back=entry["routed_back_to_back"], clock_mhz=clock, baud=BAUD
    )
    return [latency, f"{board.images_per_second:,.0f} ({board.bottleneck})"]


def _claims(name: str) -> str:
    """How many claims of a method hold here, and on which data they were checked, if it was tried."""
    path = FOLDER / f"{name.replace('-', '_')}.json"
    if not path.exists():
        return "-"
    result = read_json(path)
    return f"{sum(check['holds'] for check in result['checks'])} of {len(result['checks'])} on {result['dataset']}"


def _network_rows(found: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
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
            entry["config"],
            f"{entry['mean_cycles']:,.0f}",
            points(entry["share_of_limit"]),
            *_delivered(entry),
            _claims(entry["name"]),
        ]
        for entry in found
    ]


def _figures(name: str, value: Any) -> list[str]:
    """A figure of a claim, or those that it holds, each with its name."""
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in _figures(f"{name} {key}", inner)]
    if isinstance(value, list):
        return [f"{name} {' / '.join(map(_figure, value))}"]
    return [f"{name} {_figure(value)}"]


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) < _WHOLE else count(value)


def _claim_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    return [
        [
            result["method"],
            f"{result['network']}, {result['dataset']}",
            check["claim"],
            "holds" if check["holds"] else "fails",
            ", ".join(text for name, value in check["figures"].items() for text in _figures(name, value)),
        ]
        for result in found.values()
        for check in result["checks"]
    ]


def _accelerator_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    return [
        [
            result["method"],
            result["dataset"],
            name,
            f"{figures['products']:,.0f}",
            points(figures["products_share"]),
            f"{figures['cycles']:,.0f}",
            points(figures["share_of_limit"]),
        ]
        for result in found.values()
        for name, figures in result["accelerator"].items()
    ]


def _orthogonality_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Of the branch that was added to the same network dense, pruned, quantized and both."""
    if "dab" not in found:
        return []
    return [
        [
            name,
            *(points(row[key]) for key in ("exit_share", "accuracy", "accuracy_without_exit")),
            f"{100 * (row['accuracy'] - row['accuracy_without_exit']):+.2f}",
        ]
        for name, row in found["dab"]["figures"]["orthogonality"].items()
    ]


def _balance_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    if "balance" not in found:
        return []
    figures, measured = found["balance"]["figures"], found["balance"]["accelerator"]
    return [
        [
            name,
            points(figures[name]["accuracy"]),
            points(figures[name]["accuracy_int8"]),
            f"{figures[name]['weights']:,}",
            f"{measured[name]['cycles']:,.0f}",
            f"{measured[name]['products']:,.0f}",
            points(measured[name]["share_of_limit"]),
        ]
        for name in ("unbalanced", "balanced")
    ]


def networks(found: list[dict[str, Any]]) -> Columns:
    """The zoo's networks for a terminal, without what is too long for one: the methods' names."""
    method = _NETWORKS.index("method")
    head, *rows = [[*row[:method], *row[method + 1 :]] for row in (_NETWORKS, *_network_rows(found))]
    return Columns(head, rows)


def network_facts(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """A network of the zoo by name and value, with what its table leaves out."""
    (row,) = _network_rows([entry])
    made = f"recipe {entry['recipe']}, seed {entry['seed']}, in {entry['file']}"
    multiply = f"{count(entry['multiply_accumulates'])} if nothing were zero and no image left early"
    return [
        ("zoo", row[0]),
        *zip(_NETWORKS[1:], row[1:], strict=True),
        ("made by", made),
        ("multiply-accumulates", multiply),
        ("flagged, %", points(entry["flagged"])),
        ("test images", count(entry["images"])),
    ]


def claims(found: dict[str, dict[str, Any]]) -> Columns:
    """The methods' claims for a terminal."""
    return Columns(_CLAIMS, _claim_rows(found))


def accelerator(found: dict[str, dict[str, Any]]) -> Columns:
    """What the accelerator does with the methods' integer networks, for a terminal."""
    return Columns(_ACCELERATOR, _accelerator_rows(found))


def orthogonality(found: dict[str, dict[str, Any]]) -> Columns:
    """The same exit rule on a dense network, pruned, quantized and both, for a terminal."""
    return Columns(_ORTHOGONALITY, _orthogonality_rows(found))


def balance(found: dict[str, dict[str, Any]]) -> Columns:
    """Balanced and unbalanced pruning at equal densities, for a terminal."""
    return Columns(_BALANCE, _balance_rows(found))


def _lines(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def networks_markdown(found: list[dict[str, Any]]) -> str:
    """The zoo's networks as a table in Markdown."""
    return "\n".join(_lines(_NETWORKS, _network_rows(found))) + "\n"


def tried(found: dict[str, dict[str, Any]], name: str) -> str:
    """A replication, and the data it was on."""
    return f"{name}, {found[name]['dataset']}" if name in found else f"{name}, not tried"
