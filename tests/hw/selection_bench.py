"""A selector, and scanners and masks of winners of all cores at memories that hold their windows of a map."""

from dataclasses import dataclass, field

import numpy as np
from amaranth import Module, Signal
from amaranth.hdl import Elaboratable
from amaranth.lib import memory
from amaranth.lib.wiring import connect

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.selection import Select
from hw.program.isa import SelectKind
from hw.rtl.control.selector import Selector
from hw.rtl.core.scanner import Scanner
from hw.rtl.core.winner_masks import WinnerMasks
from hw.rtl.records import WORD
from hw.rtl.structs import Selection, Source

KINDS = {"mask": SelectKind.MASK, "elements": SelectKind.ELEMENTS, "channels": SelectKind.CHANNELS}


@dataclass(kw_only=True)
class MapSlice:
    """What one core holds.

    Attributes
    ----------
    window, scanned : tuple of 2 int
        Words of the map that it keeps, and those that it scans.
    base : int
        Where its window begins.
    selection : dict
        Fields of :class:`hw.program.isa_select.Selection`.
    table : list of int
        Its layer memory.
    """

    window: tuple[int, int]
    scanned: tuple[int, int]
    base: int
    selection: dict[str, int] = field(default_factory=dict)
    table: list[int] = field(default_factory=list)


def stored(activations: np.ndarray) -> np.ndarray:
    """Words of a map: int array (words, 8)."""
    extra = -activations.shape[2] % WORD_CHANNELS
    return np.pad(activations, ((0, 0), (0, 0), (0, extra))).reshape(-1, WORD_CHANNELS)


def slices(rng, activations: np.ndarray, select: Select, cores: int) -> list[MapSlice]:
    """A map's positions dealt to cores in order, some of which keep more and some scan nothing."""
    words = stored(activations)
    positions = int(np.prod(activations.shape[:2]))
    pitch = len(words) // positions
    edges = sorted(rng.randrange(positions + 1) for _ in range(cores - 1))
    found = []
    for first, last in zip([0, *edges], [*edges, positions], strict=True):
        low, high = rng.randrange(first + 1), rng.randrange(last, positions + 1)
        window = (low * pitch, high * pitch)
        found.append(MapSlice(window=window, scanned=(first * pitch, last * pitch), base=rng.randrange(64)))
    whole = select.kind == "channels"
    length = max(s.scanned[1] - s.scanned[0] for s in found) // (pitch if whole else 1)
    masks = np.zeros(pitch * WORD_CHANNELS, dtype=int)
    masks[list(select.channels)] = 1
    for one in found:
        size = one.scanned[1] - one.scanned[0]
        one.table = [int(mask) for mask in masks.reshape(-1, WORD_CHANNELS) @ (1 << np.arange(WORD_CHANNELS))]
        table = rng.randrange(9)
        one.table = [rng.randrange(256) for _ in range(table)] + one.table
        one.selection = {
            "kind": KINDS[select.kind].value,
            "bank": 0,
            "base": one.base + one.scanned[0] - one.window[0],
            "words": size // pitch if whole else size,
            "pitch": 1 if select.kind == "elements" else pitch,
            "length": length,
            "count": select.count,
            "shift": one.base - one.window[0],
            "table": table,
        }
    return found


class Machine(Elaboratable):
    """The units, wired as in the accelerator; maps are loaded into it one after the other.

    Attributes
    ----------
    address, word, source : Signal
        Of the words that are asked about.
    """

    def __init__(self, config: AcceleratorConfig):
        cores = range(config.cores)
        self._rams = [memory.Memory(shape=WORD.size, depth=1 << 12, init=[]) for _ in cores]
        self._tables = [memory.Memory(shape=32, depth=1 << 10, init=[]) for _ in cores]
        self.selector = Selector(config)
        self.winners = [WinnerMasks(config) for _ in range(config.cores)]
        self._scanners = [Scanner(config) for _ in range(config.cores)]
        self._words, self._slices = np.zeros((0, WORD_CHANNELS), dtype=int), list[MapSlice]()
        self.addresses = [Signal(12, name=f"address_{core}") for core in range(config.cores)]
        self.word, self.source = Signal(8), Signal(Source)
        self.selections = [Signal(Selection, name=f"selection_{core}") for core in range(config.cores)]

    def load(self, ctx, words: np.ndarray, slices: list[MapSlice]) -> None:
        """Put a map and the layer memories into their places."""
        self._words, self._slices = words, slices
        for ram, table, part in zip(self._rams, self._tables, slices, strict=True):
            for place, value in enumerate(self._memory(part)):
                ctx.set(ram.data[place], value)
            for place, value in enumerate(part.table):
                ctx.set(table.data[place], value)

    def _memory(self, part: MapSlice) -> list[int]:
        """What lies around the window is large: counted, it would win."""
        lines = np.full((part.base + part.window[1] - part.window[0] + 8, WORD_CHANNELS), 255)
        lines[part.base : -8] = self._words[slice(*part.window)]
        return [sum((int(value) & 0x1FF) << 9 * channel for channel, value in enumerate(line)) for line in lines]

    def elaborate(self, platform):
        m = Module()
        m.submodules.selector = self.selector
        m.d.comb += self.selector.selection.eq(self.selections[0])
        for core, (scanner, winners) in enumerate(zip(self._scanners, self.winners, strict=True)):
            ram, table = self._rams[core], self._tables[core]
            m.submodules[f"scanner_{core}"], m.submodules[f"winners_{core}"] = scanner, winners
            m.submodules[f"ram_{core}"], m.submodules[f"table_{core}"] = ram, table
            words, masks = ram.read_port(), table.read_port()
            word = Signal(WORD.size, name=f"word_{core}")
            m.d.sync += word.eq(words.data)
            connect(m, self.selector.scanners[core], scanner.selector)
            connect(m, scanner.mask, winners.mask)
            m.d.comb += [
                scanner.selection.eq(self.selections[core]),
                words.addr.eq(scanner.words.address),
                words.en.eq(1),
                scanner.words.data.eq(word),
                masks.addr.eq(scanner.table.address),
                masks.en.eq(1),
                scanner.table.data.eq(masks.data),
                winners.order.eq(scanner.selector.order),
                winners.selection.eq(self.selections[core]),
                winners.source.eq(self.source),
                winners.lookup.address.eq(self.addresses[core]),
                winners.lookup.word.eq(self.word),
            ]
        return m

    async def select(self, ctx) -> int:
        """Run the selection; returns the cycles in which it wasn't done."""
        await ctx.tick()
        assert ctx.get(self.selector.control.done)
        ctx.set(self.selector.control.start, 1)
        await ctx.tick()
        ctx.set(self.selector.control.start, 0)
        for signal, part in zip(self.selections, self._slices, strict=True):
            ctx.set(signal, part.selection)
        await ctx.tick()
        busy = 0
        while not ctx.get(self.selector.control.done):
            busy += 1
            await ctx.tick()
        return busy

    async def multiplied(self, ctx, use: int, threshold: int) -> list[np.ndarray]:
        """Where each core multiplies the words of its window: bool arrays (words, 8)."""
        ctx.set(self.source, {"select": use, "threshold": threshold, "first_mask": 0})
        pitch = self._slices[0].selection["pitch"]
        for _ in range(4):
            await ctx.tick()
        found = []
        for core, part in enumerate(self._slices):
            rows = []
            for number in range(*part.window):
                ctx.set(self.addresses[core], part.base + number - part.window[0])
                ctx.set(self.word, number % pitch)
                await ctx.tick().repeat(2)
                lookup = self.winners[core].lookup
                winners = ctx.get(lookup.winners)
                bounds = [ctx.get(lookup.complement), ctx.get(lookup.other_complement)]
                mine = [bounds[0] if winners >> channel & 1 else bounds[1] for channel in range(WORD_CHANNELS)]
                rows.append([abs(value) + bound >= 256 for value, bound in zip(self._words[number], mine, strict=True)])
            found.append(np.array(rows, dtype=bool).reshape(-1, WORD_CHANNELS))
        return found
