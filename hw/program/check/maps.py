"""Which maps of a network lie where while its commands are followed."""

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import INPUT, Network
from hw.program.instructions import WindowFields
from hw.rules import require

__all__ = ["Maps"]

_Windows = tuple[WindowFields, ...]


class Maps:
    """Which rows and words of each map there are, and through which windows the cores keep them."""

    def __init__(self, network: Network, windows: _Windows, config: AcceleratorConfig):
        self._shapes = {
            name: (*tensor.shape[:2], config.padded_channels(tensor.shape[2]) // WORD_CHANNELS)
            for name, tensor in network.tensors().items()
        }
        self._made = {name: np.zeros((shape[0], shape[2]), dtype=bool) for name, shape in self._shapes.items()}
        self._made[INPUT][:] = True
        self._windows = {INPUT: windows}
        #: Cores in which another map has been written over a map.
        self._lost: set[tuple[str, int]] = set()
        #: Maps whose words are written over by those of another one, each by the one of its number.
        self._replaced: set[tuple[str, str]] = set()

    def number(self, name: str, row: int, word: int) -> int:
        """Number of a word of a row's first position."""
        _, width, pitch = self._shapes[name]
        return row * width * pitch + word

    def shape(self, name: str) -> tuple[int, int, int]:
        """Rows, columns and words of a position."""
        return self._shapes[name]

    def window(self, name: str, core: int) -> WindowFields:
        """What a core keeps of a map."""
        require(name in self._windows, f"{name} must be written before it is read")
        return self._windows[name][core]

    def read(self, where: str, name: str, core: int, rows: np.ndarray, words: tuple[int, int]) -> None:
        """Refuse to read what isn't there."""
        require(
            (name, core) not in self._lost and self._made[name][rows, slice(*words)].all(),
            f"{where}: rows {int(rows.min())} to {int(rows.max())} of {name} must be there when they are read",
        )

    def open(self, name: str, windows: _Windows) -> None:
        """Keep a map through these windows from now on."""
        self._replaced = {pair for pair in self._replaced if name not in pair}
        for other, kept in self._windows.items():
            for core, (one, two) in enumerate(zip(kept, windows, strict=True)):
                ends = one.base + one.count, two.base + two.count
                apart = one.bank != two.bank or ends[0] <= two.base or ends[1] <= one.base
                if other == name or apart or not two.count:
                    continue
                if one == two and self._shapes[other] == self._shapes[name]:
                    self._replaced.add((other, name))
                else:
                    self._lost.add((other, core))
        here = {(name, core) for core in range(len(windows))}
        if self._windows.get(name) != windows or here & self._lost:
            self._made[name][:] = False
            self._lost -= here
        self._windows[name] = windows

    def make(self, name: str, rows: tuple[tuple[int, int], ...], words: tuple[int, int]) -> None:
        """These words of these rows have been written."""
        replaced = [other for other, by in self._replaced if by == name]
        for first, last in rows:
            for other in replaced:
                self._made[other][first:last, slice(*words)] = False
            self._made[name][first:last, slice(*words)] = True
