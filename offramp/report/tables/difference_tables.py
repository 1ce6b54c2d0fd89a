"""What two models, configs or results differ in, as tables: of the whole, then a table for each list that they have."""

from typing import Any

from offramp.difference import Change
from offramp.report.tables.columns import Columns
from offramp.report.tables.units import points

__all__ = ["difference_tables"]

#: Headings of tables.
_TITLES = {
    "layers": "By layer, means over the images that reach it",
    "network layers": "Layers of the network",
    "network exits": "Exits of the network",
    "memories": "Memories, in the core and PE that needs most",
}
#: From here on a figure has one digit after the point.
_LARGE = 100
_NOTE = "Only what differs is shown; = stands where a figure of a row is the same in both."
_IMAGES = "Accuracy and cycles are of different images: with --data they are of the same."


def difference_tables(first: str, second: str, found: list[Change]) -> list[str | Columns]:
    """Tables, headings and notes: the whole with a column for each of the two, lists with a row for each entry."""
    whole = [change for change in found if not change.table]
    parts: list[str | Columns] = []
    if whole:
        rows = [
            [change.figure, *(_value(change, each) for each in (change.first, change.second)), _change(change)]
            for change in whole
        ]
        parts.append(Columns(["what", first, second, "change"], rows))
    lists: dict[str, list[Change]] = {}
    for change in found:
        if change.table:
            lists.setdefault(change.table, []).append(change)
    for table, own in lists.items():
        parts += [f"{_title(table)}, {first} → {second}:", _by_row(own)]
    notes = {_NOTE: bool(lists), _IMAGES: any(change.figure == "images of" for change in whole)}
    return [*parts, *(note for note, is_due in notes.items() if is_due)]


def _by_row(found: list[Change]) -> Columns:
    """A row for each entry, a column for each figure; with the change of the cycles, which one looks at first."""
    cells: dict[str, dict[str, str]] = {}
    # What is nothing in one and isn't there in the other says no more than that the row isn't there.
    told = {change.figure for change in found if any((change.first, change.second))}
    for change in found:
        if change.figure not in told:
            continue
        both = " → ".join(_value(change, each) for each in (change.first, change.second))
        row = cells.setdefault(change.row, {})
        row[change.figure] = both
        if change.what == "cycles":
            row["change of cycles"] = _change(change)
    # The row with most figures has them in their order.
    names = list(dict.fromkeys(name for row in sorted(cells.values(), key=len, reverse=True) for name in row))
    rows = [[name, *(row.get(each, "=") for each in names)] for name, row in cells.items()]
    return Columns([_head(found[0].table), *names], rows)


def _head(table: str) -> str:
    """What a row is: of ``layers`` a layer."""
    last = table.rpartition(" ")[2]
    return {"memories": "memory"}.get(last, last.removesuffix("s"))


def _title(table: str) -> str:
    if table in _TITLES:
        return _TITLES[table]
    words = table.replace("_", " ")
    return words[0].upper() + words[1:]


def _value(change: Change, value: Any) -> str:
    if isinstance(value, bool | str) or value is None:
        return "-" if value is None else str(value)
    if change.is_share:
        return points(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= _LARGE else f"{value:.4g}"


def _change(change: Change) -> str:
    """From the first to the second: of shares in points, else in percent; a dash where that means nothing."""
    one, other = change.first, change.second
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)):
        return "-"
    if change.is_share:
        return f"{100 * (other - one):+.2f} points"
    try:
        return f"{100 * (other - one) / abs(one):+,.1f} %" if one else "-"
    except OverflowError:
        return "-"
