"""The demo's report."""

import json
from typing import Any

from offramp.report.pages.section import Card, Page, Section
from offramp.report.plots.layer_cycles import layer_cycles
from offramp.report.plots.spread import cycle_distribution, exit_shares
from offramp.report.plots.tradeoffs import exit_curve
from offramp.report.plots.usage import cell_usage
from offramp.report.tables.demo_tables import facts, throughput_note
from offramp.report.tables.result_tables import NAMES, build_rows, key_values, layers, measurements

__all__ = ["demo_page", "layers_section"]


def demo_page(result: dict[str, Any]) -> Page:
    """The report of a demo's result (:func:`offramp.demo.run`)."""
    inputs, board = result["inputs"], result["inputs"]["clean"]["board"]
    clock = board["clock_mhz"] if board else None
    revision = f", revision {result['git']}" if result["git"] else ""
    named = {NAMES[name]: inputs[name] for name in NAMES if name in inputs}
    described = "; ".join(f"{name}: {found['description']}" for name, found in named.items())
    origin = {key: result[key] for key in ("recipe", "config", "versions", "seconds")}
    sections = (
        Section(
            title="Cycles of an inference",
            charts=(
                cycle_distribution(named, clock),
                exit_shares({name: found["exit_share"] for name, found in named.items()}),
            ),
            tables=(measurements(inputs),),
            note=f"Cycle-level simulator. Attacks change each pixel by at most {result['robustness']['eps']:.3g}. "
            f"{described}. {throughput_note(result)}",
        ),
        layers_section(inputs["clean"]["layers"], clock),
        *([_exits(result)] if result["curve"] else []),
        _robustness(result),
        *([_build(result["build"])] if result["build"] else []),
        Section(title="All figures", tables=(key_values(facts(result)),)),
        Section(title="Recipe, config, versions, times", folded={"show": json.dumps(origin, indent=1)}),
    )
    return Page(
        title=f"Offramp on {result['data']}",
        subtitle=f"config {result['config']['name']}, seed {result['seed']}, "
        f"offramp {result['versions']['offramp']}{revision}",
        sections=sections,
        cards=tuple(_cards(result)),
    )


def _cards(result: dict[str, Any]) -> list[Card]:
    clean, unpruned = result["inputs"]["clean"], result["inputs"]["unpruned"]
    verify, board = result["verify"], clean["board"]
    equal = verify["values_equal"] and verify["cycles_equal"]
    early = Card(value=f"{100 * sum(clean['exit_share'][:-1]):.1f} %", text="of them leave early")
    return [
        Card(value=f"{100 * clean['accuracy']:.2f} %", text=f"accuracy on {clean['images']:,} test images"),
        *([early] if result["curve"] else []),
        Card(
            value=f"{unpruned['cycles']['mean'] / clean['cycles']['mean']:.2f} x",
            text="fewer cycles than unpruned, no exit",
        ),
        *([_throughput(board)] if board else []),
        Card(
            value="equal" if equal else "DIFFERENT",
            text=f"RTL, golden, simulator: {verify['images']} images, {verify['layers']} layers",
            bad=not equal,
        ),
    ]


def _throughput(board: dict[str, Any]) -> Card:
    bottleneck = f"held back by the {board['bottleneck']}: {board['clock_mhz']:g} MHz, {board['baud']:,} baud"
    return Card(value=f"{board['images_per_second']:,.0f}", text=f"images/s on the board, {bottleneck}")


def layers_section(rows: list[dict[str, Any]], clock_mhz: float | None) -> Section:
    """Where the cycles of every layer go."""
    return Section(
        title="Where the cycles of a layer go",
        charts=(layer_cycles(rows, clock_mhz),),
        tables=(layers(rows),),
        note="Cycles are means over the PEs. The limit is products with two nonzero factors, divided by the "
        "multipliers. Lost: dispatch (a PE waits for its next nonzero activation), imbalance (for a PE whose queue is "
        "full), cores (for a slower core), drain (for its results to be taken), barrier (for the end of the layer), "
        "load (for lists that are read during the run).",
    )


def _exits(result: dict[str, Any]) -> Section:
    return Section(
        title="Accuracy against the exit threshold",
        charts=(exit_curve(result["curve"], result["metrics"]["threshold"]),),
        note=f"The threshold is the smallest that costs at most {100 * result['recipe']['exit_loss']:g} points.",
    )


def _robustness(result: dict[str, Any]) -> Section:
    robust = result["robustness"]
    rows = [
        ("clean", f"{100 * robust['clean']:.2f} %"),
        ("the easy number: PGD-20, unaware of exits", f"{100 * robust['easy']:.2f} %"),
        ("right under every attack tried, exit-aware ones included", f"{100 * robust['adaptive']:.2f} %"),
    ]
    return Section(
        title="Robustness, honestly",
        tables=(key_values(rows),),
        note=f"{robust['images']:,} images, eps {robust['eps']:.3g}. The network: {result['recipe']['about']}.",
    )


def _build(built: dict[str, Any]) -> Section:
    return Section(
        title="Bitstream",
        charts=(cell_usage(built),),
        tables=(key_values(build_rows(built)),),
        folded={"slowest path": built["critical_path"]},
    )
