"""What a board did, as tables."""

from typing import Any

from offramp.report.tables.columns import Columns
from offramp.report.tables.result_tables import equality
from offramp.report.tables.units import count, percent, points

__all__ = ["bench", "bench_rows", "check_rows"]


def check_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of :func:`offramp.measure.on_board.check`."""
    exits = ", ".join(map(percent, result["exit_share"]))
    equal = {True: equality(True), False: equality(False), None: "not compared"}
    accuracy = [] if result["accuracy"] is None else [("accuracy", percent(result["accuracy"]))]
    return [
        ("images", count(result["images"])),
        ("values", equal[result["values_equal"]]),
        ("cycles", equal[result["cycles_equal"]]),
        *[("difference", text) for text in result["mismatches"]],
        *accuracy,
        ("leave at each exit", exits),
        ("mean cycles", f"{result['mean_cycles']:,.1f}"),
        ("time", f"{result['seconds']:,.3f} s"),
        ("images/s", f"{result['images_per_second']:,.1f}"),
        ("mended on the way", count(len(result["mended"]))),
    ]


def bench_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What :func:`bench` doesn't say."""
    return [
        ("images", count(result["images"])),
        ("values", equality(result["values_equal"])),
        ("cycles", equality(result["cycles_equal"])),
        *[("difference", text) for text in result["mismatches"]],
        ("mean cycles", count(result["mean_cycles"], 1)),
        ("time to load the program", f"{count(result['load_seconds'], 3)} s"),
    ]


def _limit(expected: dict[str, Any]) -> str:
    """What holds a board back (:meth:`fpga.throughput.Throughput.to_dict`); USB by its name."""
    if expected["bottleneck"] == "link" and expected.get("link", "serial") != "serial":
        return f"link, {expected['link']}"
    return str(expected["bottleneck"])


def bench(result: dict[str, Any]) -> Columns:
    """Measured against what is possible, of :func:`offramp.measure.on_board.bench`."""
    expected = result["expected"]
    rows = []
    for name, found, most in (
        ("back to back", result["back_to_back"], expected["images_per_second"]),
        ("one by one", result["one_by_one"], expected["one_by_one_images_per_second"]),
    ):
        rows.append([name, f"{found:,.1f}", f"{most:,.1f}", points(found / most)])
    limit = f"most by the {_limit(expected)}, images/s"
    return Columns(["images sent", "measured, images/s", limit, "of that, %"], rows)
