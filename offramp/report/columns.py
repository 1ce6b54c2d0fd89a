"""Tables that fit into any width: columns that find no room stand in a further table below, never cut."""

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.table import Table

__all__ = ["Columns"]

_GAP = 2  # spaces between columns
#: Narrowest that words, and widest that sentences are shown.
_WORDS, _SENTENCE = 16, 60


class Columns:
    """A table of figures; the first column names its rows and is repeated where the others need a further table.

    Figures and names of rows are never broken; sentences are, between their words, where there is no room for them.

    Parameters
    ----------
    head : list of str
    rows : list of list of str
    """

    def __init__(self, head: list[str], rows: list[list[str]]) -> None:
        self._head = head
        self._cells = [[row[place] for row in rows] for place in range(len(head))]
        self._figures = [place > 0 and all(map(_is_figure, cells)) for place, cells in enumerate(self._cells)]
        self._natural, self._narrow = zip(*map(self._widths, range(len(head))), strict=True)

    def _widths(self, place: int) -> tuple[int, int]:
        """Widest and narrowest that a column can be."""
        cells, head = self._cells[place], self._head[place]
        longest = max(map(cell_len, cells), default=0)
        natural = max(longest, cell_len(head))
        if place == 0:
            return natural, natural
        if self._figures[place]:
            return natural, max(longest, *map(cell_len, head.split()))
        natural = min(natural, _SENTENCE)
        words = max((cell_len(word) for text in (head, *cells) for word in text.split()), default=0)
        return natural, min(natural, max(words, _WORDS))

    def _tables(self, width: int) -> Iterator[list[int]]:
        """Which columns stand side by side."""
        places, used = [0], self._narrow[0]
        for place in range(1, len(self._head)):
            needed = _GAP + self._narrow[place]
            if len(places) > 1 and used + needed > width:
                yield places
                places, used = [0], self._narrow[0]
            places.append(place)
            used += needed
        yield places

    def _fitted(self, places: list[int], width: int) -> list[int]:
        """How wide each is: as narrow as it can be, and wider where room is left."""
        widths = [self._narrow[place] for place in places]
        room = width - sum(widths) - _GAP * (len(places) - 1)
        for number, place in enumerate(places):
            more = min(self._natural[place] - widths[number], max(room, 0))
            widths[number] += more
            room -= more
        # Where not even two find room, the last is folded.
        widths[-1] = max(1, widths[-1] + min(room, 0))
        return widths

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widest = sum(self._natural) + _GAP * (len(self._head) - 1)
        return Measurement(min(widest, options.max_width), min(widest, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, places in enumerate(self._tables(options.max_width)):
            if number:
                yield ""
            table = Table(box=None, pad_edge=False)
            for place, width in zip(places, self._fitted(places, options.max_width), strict=True):
                justify: JustifyMethod = "right" if self._figures[place] else "left"
                table.add_column(self._head[place], justify=justify, overflow="fold", width=width)
            for row in zip(*(self._cells[place] for place in places), strict=True):
                table.add_row(*row)
            yield table


def _is_figure(text: str) -> bool:
    return text[:1] in "-+0123456789"
