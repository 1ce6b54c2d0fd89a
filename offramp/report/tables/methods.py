"""The seven methods: tables of committed results."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.zoo import entries
from offramp.files.result_file import BASELINES, read_json
from offramp.report.tables.columns import Columns
from offramp.report.tables.units import count, points

__all__ = [
    "FOLDER",
    "accelerator",
    "balance",
    "claims",
    "collect",
    "orthogonality",
    "tried",
]

#: Results of the methods' replications, one file each.
FOLDER = BASELINES / "methods"

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


def tried(found: dict[str, dict[str, Any]], name: str) -> str:
    """A replication, and the data it was on."""
    return f"{name}, {found[name]['dataset']}" if name in found else f"{name}, not tried"
