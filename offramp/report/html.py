"""The demo's report: one HTML file that needs nothing beside it."""

import html
import json
from pathlib import Path
from typing import Any

from hw.output import write_file
from offramp.report.figures import cycle_distribution, exit_curve, layer_cycles
from offramp.report.tables import NAMES, build_rows, facts, layer_rows, measurement_rows, throughput_note

__all__ = ["render", "write"]

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.55 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; color: #22262b;
       background: #f6f7f9; margin: 0; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
.sub { color: #5b626b; margin: 0 0 1.6rem; }
section { background: #fff; border: 1px solid #e3e6ea; border-radius: 8px; padding: 1.2rem 1.4rem; margin: 0 0 1.2rem; }
p.note { color: #5b626b; font-size: .92em; margin: .6rem 0 0; }
svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .94em; }
th, td { text-align: left; padding: .28rem .6rem .28rem 0; border-bottom: 1px solid #edeff2; vertical-align: top; }
th { color: #5b626b; font-weight: 600; } td.n, th.n { text-align: right; padding: .28rem 0 .28rem .8rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 0 0 1.2rem; }
.card { background: #fff; border: 1px solid #e3e6ea; border-radius: 8px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.card span { color: #5b626b; font-size: .88em; }
.bad { color: #b42318; } details summary { cursor: pointer; color: #3a3f47; }
pre { overflow: auto; font-size: .82em; background: #f6f7f9; padding: .8rem; border-radius: 6px; margin: .6rem 0 0; }
"""


def _table(head: list[str], rows: list[list[str]], numbers_from: int = 1) -> str:
    """A table whose columns from ``numbers_from`` on are right-aligned."""

    def cells(tag: str, values: list[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if place >= numbers_from else ''}>{html.escape(value)}</{tag}>"
            for place, value in enumerate(values)
        )

    lines = ([cells("th", head)] if head else []) + [cells("td", row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _section(title: str, body: str, note: str = "") -> str:
    tail = f"<p class=note>{html.escape(note)}</p>" if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{body}{tail}</section>"


def _cards(result: dict[str, Any]) -> str:
    clean, unpruned = result["inputs"]["clean"], result["inputs"]["unpruned"]
    verify, board = result["verify"], clean["board"]
    equal = verify["values_equal"] and verify["cycles_equal"]
    early = f"{100 * sum(clean['exit_share'][:-1]):.1f} %"
    cards = [
        (f"{100 * clean['accuracy']:.2f} %", f"accuracy on {clean['images']:,} test images", ""),
        *([(early, "of them leave early", "")] if result["curve"] else []),
        (f"{unpruned['cycles']['mean'] / clean['cycles']['mean']:.2f} x", "fewer cycles than unpruned, no exit", ""),
        (
            f"{board['images_per_second']:,.0f}",
            f"images/s on the board, limited by the {board['bottleneck']}: {board['clock_mhz']:g} MHz, "
            f"{board['baud']:,} baud",
            "",
        ),
        (
            "equal" if equal else "DIFFERENT",
            f"RTL, golden, simulator: {verify['images']} images, {verify['layers']} layers",
            "" if equal else " class=bad",
        ),
    ]
    inner = "".join(f"<div class=card><b{mark}>{value}</b><span>{text}</span></div>" for value, text, mark in cards)
    return f"<div class=cards>{inner}</div>"


def _build(built: dict[str, Any]) -> str:
    path = f"<details><summary>slowest path</summary><pre>{html.escape(built['critical_path'])}</pre></details>"
    return _table([], [list(row) for row in build_rows(built)], numbers_from=2) + path


def _exits(result: dict[str, Any]) -> str:
    return _section(
        "Accuracy against the exit threshold",
        exit_curve(result["curve"], result["metrics"]["threshold"]),
        "Validation data, integer network. The threshold is the smallest that costs at most "
        f"{100 * result['recipe']['exit_loss']:g} points.",
    )


def render(result: dict[str, Any]) -> str:
    """The report of a demo's result (:func:`offramp.demo.run`) as HTML text."""
    inputs = result["inputs"]
    descriptions = "; ".join(f"{NAMES[name]}: {found['description']}" for name, found in inputs.items())
    robust = result["robustness"]
    revision = f", revision {result['git']}" if result["git"] else ""
    origin = {key: result[key] for key in ("recipe", "config", "versions", "seconds")}
    recorded = html.escape(json.dumps(origin, indent=1))
    parts = [
        _cards(result),
        _section(
            "Cycles of an inference",
            cycle_distribution(inputs) + _table(*measurement_rows(inputs)),
            f"Cycle-level simulator. Attacks change each pixel by at most {robust['eps']:.3g}. {descriptions}. "
            f"{throughput_note(result)}",
        ),
        _section(
            "Where the cycles of a layer go",
            layer_cycles(inputs["clean"]["layers"]) + _table(*layer_rows(inputs["clean"]["layers"])),
            "Clean test set; cycles are means over the PEs. The limit is products with two nonzero factors, divided by "
            "the multipliers. Lost: dispatch (a PE waits for its next nonzero activation), imbalance (for a PE whose "
            "queue is full), cores (for a slower core), drain (for its results to be taken), barrier (for the end "
            "of the layer).",
        ),
        *([_exits(result)] if result["curve"] else []),
        _section(
            "Robustness, honestly",
            _table(
                [],
                [
                    ["clean", f"{100 * robust['clean']:.2f} %"],
                    ["the easy number: PGD-20, unaware of exits", f"{100 * robust['easy']:.2f} %"],
                    ["right under every attack tried, exit-aware ones included", f"{100 * robust['adaptive']:.2f} %"],
                ],
            ),
            f"{robust['images']:,} images, eps {robust['eps']:.3g}. The network: {result['recipe']['about']}.",
        ),
        _section("Bitstream", _build(result["build"])),
        _section("All figures", _table([], [list(row) for row in facts(result)], numbers_from=2)),
        _section("Recipe, config, versions, times", f"<details><summary>show</summary><pre>{recorded}</pre></details>"),
    ]
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Offramp: {html.escape(result['data'])}</title><style>{_CSS}</style></head><body><main>"
        f"<h1>Offramp on {html.escape(result['data'])}</h1>"
        f"<p class=sub>config {html.escape(result['config']['name'])}, seed {result['seed']}, "
        f"offramp {html.escape(result['versions']['offramp'])}{html.escape(revision)}</p>"
        f"{''.join(parts)}</main></body></html>\n"
    )


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the report, whole or not at all."""
    write_file(path, render(result).encode())
