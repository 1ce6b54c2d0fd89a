"""Figures as text: shares in percent everywhere, counts with commas."""

__all__ = ["count", "percent", "points", "storage", "usage"]


def percent(share: float | None, digits: int = 2) -> str:
    """A share in a sentence: ``85.02 %``; a dash where there is none."""
    return "-" if share is None else f"{points(share, digits)} %"


def points(share: float | None, digits: int = 2) -> str:
    """A share in a column whose heading says ``%``; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def count(number: float | None, digits: int = 0) -> str:
    """A number of things; a dash where there is none."""
    return "-" if number is None else f"{number:,.{digits}f}"


def usage(use: dict[str, int]) -> str:
    """Used cells of a kind, of how many, and the share."""
    return f"{use['used']:,} of {use['available']:,} ({percent(use['used'] / use['available'], 0)})"


def storage(size: int) -> str:
    """Bytes of files, in MB."""
    return f"{size / 1e6:,.1f} MB"
