"""What ``offramp bench`` measured, for a terminal and for docs/results.md."""

from typing import Any

from offramp.report.tables.columns import Columns
from offramp.report.tables.result_tables import equality, layer_rows, markdown_lines
from offramp.report.tables.units import count, points

__all__ = [
    "bench_markdown",
    "hardware_rows",
    "peer_rows",
    "peers",
    "workload_rows",
    "workloads",
    "workloads_markdown",
]


def workload_rows(
    rows: list[dict[str, Any]], routed: dict[str, Any] | None = None
) -> tuple[list[str], list[list[str]]]:
    """What ``offramp bench`` found, one workload a line: head and rows, as text.

    Parameters
    ----------
    routed : dict, optional
        The config's recorded build (:func:`offramp.measure.bench.routed`): what its highest clock makes of the cycles.
    """
    causes = list(rows[0]["loss"])
    head = ["workload", "cycles", "limit, cycles", "of limit, %", *(f"cycles lost: {cause}" for cause in causes)]
    head.append("simulator's images/s")
    if routed is not None:
        hardware = "" if routed["current"] else ", earlier hardware"
        head.insert(2, f"inferences/s of the core alone, {routed['fmax_mhz']:.1f} MHz routed{hardware}")
    lines = [
        [
            row["workload"],
            count(row["cycles"]),
            *([] if routed is None else [count(1e6 * routed["fmax_mhz"] / row["cycles"])]),
            count(row["limit"]),
            points(row["share_of_limit"], 1),
            *(count(row["loss"][cause]) for cause in causes),
            count(row["simulator_images_per_second"]),
        ]
        for row in rows
    ]
    return head, lines


def workloads(rows: list[dict[str, Any]], routed: dict[str, Any] | None = None) -> Columns:
    """:func:`workload_rows` as a table."""
    return Columns(*workload_rows(rows, routed))


def peer_rows(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of what peers say of the workloads, and how their speed compares."""
    speed = {row["workload"]: row["simulated_cycles_per_second"] for row in rows}
    head = [
        "workload",
        "peer",
        "its machine",
        "its cycles",
        "time, s",
        "simulated cycles/s",
        "Offramp's, times as fast",
    ]
    lines = [
        [
            other["workload"],
            other["packages"][0],
            other["machine"],
            count(other["cycles"]),
            count(other["seconds"], 1),
            count(other["cycles_per_second"]),
            count(speed[other["workload"]] / other["cycles_per_second"]),
        ]
        for other in others
    ]
    return head, lines


def peers(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> Columns:
    """:func:`peer_rows` as a table."""
    return Columns(*peer_rows(rows, others))


def hardware_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What the RTL did (:func:`offramp.measure.bench.against_rtl`) by name."""
    return [
        ("workload on the RTL", found["workload"]),
        ("values", equality(found["values_equal"])),
        ("cycles", equality(found["cycles_equal"])),
        ("compared", f"{count(found['images'])} images, {count(found['layers'])} layers"),
        ("RTL", f"{found['rtl_images_per_second']:,.4f} images/s"),
        ("simulator", f"{count(found['simulator_images_per_second'], 1)} images/s"),
        ("the simulator is faster", f"{count(found['ratio'])} times"),
    ]


def _peer_lines(result: dict[str, Any]) -> list[str]:
    """The peers' part of docs/results.md, if they were measured."""
    if not result["peers"]:
        return []
    head, lines = peer_rows(result["rows"], result["peers"])
    return [
        "Other simulators on the same shapes. They model other machines, without weights or values: only their speed "
        "compares.",
        "",
        *markdown_lines([head, *lines], ["---", "---", "---", *["--:"] * (len(head) - 3)]),
        "",
    ]


def workloads_markdown(result: dict[str, Any]) -> str:
    """The workloads that ``offramp bench`` measured, as docs/results.md shows them."""
    head, lines = workload_rows(result["rows"], result.get("routed"))
    compared, hardware = "", result["rtl"]
    if hardware is not None:
        values, cycles = equality(hardware["values_equal"]), equality(hardware["cycles_equal"])
        compared = f"; RTL on {hardware['images']} of `{hardware['workload']}`: values {values}, cycles {cycles}"
    return "\n".join(
        [
            f"Config `{result['config']}`, {result['multipliers']} multipliers, {result['rows'][0]['images']} images, "
            f"seed {result['seed']}{compared}. Cycles are means:",
            "",
            *markdown_lines([head, *lines], ["---", *["--:"] * (len(head) - 1)]),
        ]
    )


def bench_markdown(result: dict[str, Any]) -> str:
    """The same, with the layers of the last of ResNet-8, and others' simulators."""
    row = [row for row in result["rows"] if row["workload"].startswith("resnet8")][-1]
    layer_head, layers = layer_rows(row["layers"])
    layer_numbers = ["--:"] * (len(layer_head) - 1)
    return "\n".join(
        [
            workloads_markdown(result),
            "",
            f"`{row['workload']}` by layer:",
            "",
            *markdown_lines([layer_head, *layers], ["---", *layer_numbers]),
            "",
            *_peer_lines(result),
        ]
    )
