"""The tables of ``docs/strips.md``, from what the study wrote."""

from typing import Any

__all__ = ["MARKS", "tables"]

#: Lines of the page that the tables stand between.
MARKS = "<!-- figures: strips -->", "<!-- end of figures: strips -->"
#: Heads of what is changed, by its key in the result.
_CHANGED = {
    "one_lane": "one lane",
    "job_queue_8": "job queue of 8",
    "exchange_8": "exchange as today",
    "one_deal": "one deal",
}


def _rows(heads: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---", *["--:"] * (len(heads) - 1)], *lines))


def tables(result: dict[str, Any]) -> str:
    """Markdown: what networks take on each machine; what they take with less. Shares are fractions of 1."""
    heads = [
        "network", "machine", "today", "share", "of quarters", "equal work, no wait", "placed so, no wait",
        "cycles", "latency", "list words", "activation words",
    ]  # fmt: skip
    lines, changed = [], []
    for name, network in result["networks"].items():
        for machine, found in network["machines"].items():
            quarters = found["share_of_quarters"]
            lines.append(
                [
                    f"`{name}`",
                    machine,
                    f"{network['today']['share']:.3f}",
                    f"{found['share']:.3f}",
                    f"{min(quarters):.3f} to {max(quarters):.3f}",
                    f"{found['bound']:.3f}",
                    f"{found['share_without_waits'] / found['fullest_core']:.3f}",
                    f"{found['cycles']:,.0f}",
                    f"{found['latency']:,.0f}",
                    f"{max(found['list_words']):,}",
                    f"{max(found['activation_words']):,}",
                ]
            )
            shares = [f"{found['changed'][key]:.3f}" if key in found["changed"] else "=" for key in _CHANGED]
            changed.append([f"`{name}`", machine, f"{found['share']:.3f}", *shares])
    return f"{_rows(heads, lines)}\n\n{_rows(['network', 'machine', 'as above', *_CHANGED.values()], changed)}"
