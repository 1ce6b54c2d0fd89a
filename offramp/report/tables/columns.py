"""Tables that fit into any width: columns that find no room stand in a further table below, figures are never cut."""

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["Columns"]

_GAP = 2  # spaces between columns
#: Narrowest that words are shown, and how wide sentences are before the first of them gets all of the room.
_WORDS, _SENTENCE = 16, 60


class Columns:
    """A table of figures; the first column names its rows and is repeated where the others need a further table.

    Figures and names of rows are never broken; sentences are, between their words, where there is no room for them.
    Where a name and a figure find no room side by side, every row becomes a block: its name, and its figures below.

    Parameters
    ----------
    head : list of str
    rows : list of list of str

    Attributes
    ----------
    figures : list of bool
        Which columns hold figures alone, and are aligned to the right.
    """

    def __init__(self, head: list[str], rows: list[list[str]]) -> None:
        self.head, self.rows = head, rows
        self._cells = [[row[column] for row in rows] for column in range(len(head))]
        self.figures = [column > 0 and all(map(_is_figure, cells)) for column, cells in enumerate(self._cells)]
        self._natural, self._narrow = zip(*map(self._widths, range(len(head))), strict=True)

    def _widths(self, column: int) -> tuple[int, int]:
        """Widest and narrowest that a column can be."""
        cells, head = self._cells[column], self.head[column]
        longest = max(map(cell_len, cells), default=0)
        natural = max(longest, cell_len(head))
        if column == 0:
            return natural, natural
        if self.figures[column]:
            return natural, max(longest, *map(cell_len, head.split()))
        words = max((cell_len(word) for text in (head, *cells) for word in text.split()), default=0)
        return natural, max(words, min(natural, _WORDS))

    def _tables(self, width: int) -> Iterator[list[int]]:
        """Which columns stand side by side."""
        columns, used = [0], self._narrow[0]
        for column in range(1, len(self.head)):
            needed = _GAP + self._narrow[column]
            if len(columns) > 1 and used + needed > width:
                yield columns
                columns, used = [0], self._narrow[0]
            columns.append(column)
            used += needed
        yield columns

    def _fitted(self, columns: list[int], width: int) -> list[int]:
        """How wide each is: as narrow as it can be, and wider where room is left."""
        widths = [self._narrow[column] for column in columns]
        room = width - sum(widths) - _GAP * (len(columns) - 1)
        for most in (_SENTENCE, width):
            for number, column in enumerate(columns):
                more = max(0, min(self._natural[column], most) - widths[number])
                widths[number] += min(more, room)
                room -= min(more, room)
        return widths

    def _records(self) -> Iterator[Text | Padding]:
        """Row by row: the name, and a line for each of the other columns."""
        for name, *values in zip(*self._cells, strict=True):
            yield Text(name)
            for head, value in zip(self.head[1:], values, strict=True):
                yield Padding(Text(f"{head}: {value}"), (0, 0, 0, _GAP))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widest = sum(self._natural) + _GAP * (len(self.head) - 1)
        return Measurement(min(widest, options.max_width), min(widest, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._narrow[0] + max((_GAP + narrow for narrow in self._narrow[1:]), default=0) > options.max_width:
            yield from self._records()
            return
        for number, columns in enumerate(self._tables(options.max_width)):
            if number:
                yield ""
            table = Table(box=None, pad_edge=False)
            for column, width in zip(columns, self._fitted(columns, options.max_width), strict=True):
                justify: JustifyMethod = "right" if self.figures[column] else "left"
                table.add_column(self.head[column], justify=justify, overflow="fold", width=width)
            for row in zip(*(self._cells[column] for column in columns), strict=True):
                table.add_row(*row)
            yield table


def _is_figure(text: str) -> bool:
    return text[:1] in "-+=0123456789"
