"""What nextpnr says about a design: resources, clock, slowest path, and why it failed."""

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Usage", "critical_path", "last_error", "link_is_met", "overfull", "utilization"]

#: Parts of the names of clocks that a link has for itself, whatever the core's is.
_LINK_CLOCKS = ("ulpi_clk", "usb_clk", "usb_io_clk")


@dataclass(frozen=True)
class Usage:
    """How many of a kind of cell the design takes, and how many the device has."""

    used: int
    available: int


def utilization(report: dict[str, Any]) -> dict[str, Usage]:
    """Cells by kind, from nextpnr's JSON report."""
    return {name: Usage(use["used"], use["available"]) for name, use in report["utilization"].items()}


def critical_path(report: dict[str, Any]) -> tuple[str, float]:
    """The slowest path inside one clock domain, one line a step, and the domain's highest clock in MHz.

    Domains of the link alone (:func:`link_is_met`) aren't looked at.

    Steps under 0.1 ns (a carry from bit to bit, mostly) count in the running total but get no line.
    """
    clocks = {name: found for name, found in report["fmax"].items() if not _is_of_link(name)}
    clock, frequency = min(clocks.items(), key=lambda entry: entry[1]["achieved"])
    path = next(p for p in report["critical_paths"] if p["from"] == p["to"] == f"posedge {clock}")
    lines = []
    total = 0.0
    for step in path["path"]:
        total += step["delay"]
        if step["delay"] < 0.1:
            continue
        ends = [f"{step[end]['cell']}.{step[end]['port']}" for end in ("from", "to")]
        lines.append(f"{total:6.2f} ns  +{step['delay']:5.2f}  {step['type']:9s} {' -> '.join(ends)}")
    return "\n".join(lines), round(float(frequency["achieved"]), 2)


def link_is_met(report: dict[str, Any]) -> bool:
    """Whether all clocks of the link itself, which has fixed ones if it is USB, are as fast as they must be."""
    own = [found for name, found in report["fmax"].items() if _is_of_link(name)]
    return all(found["achieved"] >= found["constraint"] for found in own)


def _is_of_link(name: str) -> bool:
    return any(part in name for part in _LINK_CLOCKS)


def overfull(log: str) -> dict[str, Usage]:
    """Kinds of cells of which the design takes more than there are, from nextpnr's log."""
    rows = re.findall(r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", log, re.MULTILINE)
    return {name: Usage(int(used), int(available)) for name, used, available in rows if int(used) > int(available)}


def last_error(log: str) -> str:
    """The last line of a tool's log that says what went wrong, or the last line at all."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|Error|error)\b", line)]
    return (errors or lines or ["no output"])[-1]
