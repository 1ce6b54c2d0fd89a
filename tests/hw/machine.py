"""An accelerator in plain Python: executes program images word by word, as the hardware's documentation says.

It shares no code with the compiler but the bit layouts (:mod:`hw.program.isa`), the decoder and the rounding rule,
knows nothing of networks, and refuses to touch anything that a program has no business with: memory nobody wrote,
accumulators outside the live rows, words beyond an image, words that another core still reads.
"""

from dataclasses import dataclass, replace

import numpy as np

from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.numerics import top2
from hw.program.bits import decode, words_of
from hw.program.decode import decode_images
from hw.program.instructions import HeaderFields, Instruction
from hw.program.isa import Chunk, Opcode, Segment, SelectKind
from tests.hw.machine_core import Core

#: Program words of a LAYER, and of a BRANCH or STOP.
LAYER_WORDS, DECISION_WORDS = 1, 4


def map_words(tensor: np.ndarray) -> np.ndarray:
    """The words of a map (height, width, channels), by number: int64 (words, 8), the last of a position padded."""
    channels = tensor.shape[2]
    padded = np.pad(tensor.astype(np.int64), ((0, 0), (0, 0), (0, -channels % WORD_CHANNELS)))
    return padded.reshape(-1, WORD_CHANNELS)


@dataclass(frozen=True)
class Ran:
    """What one LAYER instruction did.

    Attributes
    ----------
    index : int
    numbers : int64 array (n,)
        Words made, by their numbers in the map, core by core.
    accumulators : int64 array (n, 8)
        Without bias.
    values : int64 array (n, 8)
        Activations ``q - zero_point`` written, or the biased accumulators of a raw layer.
    products : int
    """

    index: int
    numbers: np.ndarray
    accumulators: np.ndarray
    values: np.ndarray
    products: int


@dataclass(frozen=True)
class Outcome:
    """A run: what every layer did, and the result (fields as :class:`hw.program.protocol.RunResult`)."""

    layers: list[Ran]
    exit: int
    label: int
    margin: int
    out_of_range: bool
    forced: bool
    early: tuple[int, int] | None = None  # exit and class that the run went on past
    differs: bool = False


def _chunks(images: dict[str, np.ndarray], header: HeaderFields, width: int) -> list[tuple[int, list[int]]]:
    """Of each chunk the layers that must have ended before, and its words."""
    found = []
    for number in range(header.chunks):
        first = header.chunk_table + number * words_of(Chunk)
        entry = decode(Chunk, images["program"][first : first + words_of(Chunk)].tolist())
        found.append((entry["after"], images["weights"][width * entry["address"] :][: width * entry["beats"]].tolist()))
    return found


class Machine:
    """One accelerator with a program loaded.

    Parameters
    ----------
    compiled : bool
        Whether to insist on what the compiler promises beyond harmlessness: no overflow, no stored zero, no list that
        feeds an accumulator twice.
    """

    def __init__(self, images: dict[str, np.ndarray], config: AcceleratorConfig, *, compiled: bool = True):
        self._config, self._compiled = config, compiled
        decoded = decode_images(images, config)
        self._header, self._image_windows = decoded.header, decoded.windows
        self._program = {instruction.address: instruction for instruction in decoded.instructions}
        self._cores = [Core(images, config, number, compiled=compiled) for number in range(config.cores)]
        self._chunks = _chunks(images, self._header, config.loader)
        self._written = 0

    def run(
        self, codes: np.ndarray, *, audited: bool = False, constant: bool = False, expired: int | None = None
    ) -> Outcome:
        """One image through the program.

        Parameters
        ----------
        audited, constant : bool
            Go on past the first exit; report that one all the same.
        expired : int, optional
            The first exit at which the deadline has passed; it forces no run in constant time.
        """
        header, layers = self._header, []
        assert codes.size == header.image_bytes <= 4 * header.image_words
        image = codes.reshape(-1, 1, header.image_channels).astype(np.int64)
        for core, window in zip(self._cores, self._image_windows, strict=True):
            core.begin()
            core.open(window)
            for number, word in enumerate(map_words(image - header.image_zero_point)):
                core.take(None, number, word)
        label = margin = early = None
        self._written = 0
        address = header.entry
        while True:
            instruction = self._program[address]
            if instruction.op is Opcode.SELECT:
                self._select(instruction)
                address += LAYER_WORDS
                continue
            if instruction.op is Opcode.LAYER:
                self._load(len(layers))
                assert self._written >= instruction.chunks, "a chunk that comes too late"
                ran = self._layer(instruction)
                layers.append(ran)
                lane = instruction.cores[0].lane
                if instruction.cores[0].enable and lane.raw:
                    label, margin = (int(n) for n in top2(ran.values.reshape(-1)[: lane.classes]))
                address += LAYER_WORDS
                continue
            assert margin is not None, "a decision needs logits"
            asked = instruction.decision
            unusual = not asked.low <= margin <= asked.high
            here = Outcome(layers, instruction.index, label, margin, unusual, False)
            if instruction.op is Opcode.STOP:
                break
            takes = early is None and margin >= asked.threshold
            late = expired is not None and instruction.index >= expired
            if takes and not (audited or constant):
                break
            if late and not constant:
                here = replace(here, forced=True)
                break
            if takes:
                early = here
            address += DECISION_WORDS
        if early is None:
            return here
        told = early if constant else here
        return replace(told, forced=here.forced, early=(early.exit, early.label), differs=label != early.label)

    def _load(self, finished: int) -> None:
        """Writes every chunk that may come when so many layers have ended: none comes sooner."""
        while self._written < len(self._chunks) and self._chunks[self._written][0] <= finished:
            words = list(self._chunks[self._written][1])
            self._written += 1
            last = 0
            while not last:
                fields = decode(Segment, [words.pop(0)])
                assert not any(words.pop(0) for _ in range(self._config.loader - 1))
                last = fields["last"]
                for row in range(fields["list_rows"]):
                    beats = [words.pop(0) for _ in range(self._config.list_row_beats * self._config.loader)]
                    bits = sum(beat << 32 * n for n, beat in enumerate(beats))
                    lists = [bits >> 18 * pe & 0x3FFFF for pe in range(self._config.pes)]
                    for number, core in enumerate(self._cores):
                        if fields["cores"] >> number & 1:
                            core.write(fields["address"] + row, lists)
            assert not words, "beats that no segment has"

    def _select(self, instruction: Instruction) -> None:
        """Winners of all slices together, by sorting them."""
        common = instruction.selections[0]
        kind, count, pitch = SelectKind(common.kind), common.count, common.pitch
        slices = list(zip(self._cores, instruction.selections, strict=True))
        assert all((s.kind, s.count, s.pitch) == (common.kind, count, pitch) for _, s in slices)
        if kind is SelectKind.MASK:
            for core, selection in slices:
                core.masks = [[mask >> channel & 1 for channel in range(WORD_CHANNELS)] for mask in selection.masks]
        elif kind is SelectKind.ELEMENTS:
            scanned = [entry for core, selection in slices for entry in core.scan(selection)]
            places = [place for place, _ in scanned]
            assert not self._compiled or places == sorted(set(places)), "not every word once, in order"
            winners = {place for place, _ in sorted(scanned, key=lambda entry: (-entry[1], entry[0]))[:count]}
            for core, selection in slices:
                core.elements = {(number + selection.shift, channel) for number, channel in winners}
        else:
            scores = np.zeros(pitch * WORD_CHANNELS, dtype=np.int64)
            for core, selection in slices:
                for (number, channel), magnitude in core.scan(selection):
                    scores[number % pitch * WORD_CHANNELS + channel] += magnitude
            order = sorted(range(len(scores)), key=lambda channel: (-scores[channel], channel))[:count]
            kept = np.isin(np.arange(len(scores)), order).astype(int).reshape(-1, WORD_CHANNELS)
            for core, _ in slices:
                core.masks = kept.tolist()

    def _layer(self, instruction: Instruction) -> Ran:
        """All cores read, then all write: nothing may depend on which of them is faster."""
        working = instruction.working
        for core in self._cores:
            core.begin()
        results = {k: self._cores[k].layer(core) for k, core in working.items()}
        for core, description in zip(self._cores, instruction.cores, strict=True):
            core.open(description.window)
        raw = any(core.lane.raw for core in working.values())
        assert not raw or [*working] == [0]
        for k, (numbers, _, values, _) in results.items() if not raw else ():
            everywhere = working[k].target.everywhere
            assert everywhere or len(self._cores) >= 4
            self._send(k, bool(everywhere), numbers, values.reshape(-1, WORD_CHANNELS))
        numbers = np.concatenate([numbers for numbers, _, _, _ in results.values()])
        partial = any(core.source.partial for core in working.values())
        assert partial or len(set(numbers.tolist())) == len(numbers), "a word that two cores make"
        return Ran(
            index=instruction.index,
            numbers=numbers,
            accumulators=np.concatenate([r[1].reshape(-1, WORD_CHANNELS) for r in results.values()]),
            values=np.concatenate([r[2].reshape(-1, WORD_CHANNELS) for r in results.values()]),
            products=sum(products for _, _, _, products in results.values()),
        )

    def _send(self, maker: int, everywhere: bool, numbers: np.ndarray, words: np.ndarray) -> None:
        """Words of one core to the cores that the exchange brings them to."""
        for number, word in zip(numbers.tolist(), words, strict=True):
            for k, core in enumerate(self._cores):
                if everywhere or abs(k - maker) <= 1:
                    core.take(number if k == maker else None, number, word)
