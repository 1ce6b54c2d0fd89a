"""An accelerator in plain Python: executes program images word by word, as the hardware's documentation says.

It shares no code with the compiler but the bit layouts (:mod:`hw.isa`), the decoder and the rounding rule, knows
nothing of networks, and refuses to touch anything that a program has no business with: memory nobody wrote,
accumulators outside the live rows, words beyond an image, words that another core still reads.
"""

from dataclasses import dataclass, replace

import numpy as np

from hw.config import BANKS, WORD_CHANNELS, AcceleratorConfig
from hw.decode import CoreLayer, Instruction, decode_header, decode_images, decode_windows
from hw.isa import Chunk, Opcode, Segment, SelectKind, SelectUse
from hw.numerics import AddScales, Rounding, Scale, add, clamp, requantize, top2
from hw.words import decode, words_of

#: Stands in memories for "never written".
NOTHING = 1 << 20
#: Program words of a LAYER, and of a BRANCH or STOP.
LAYER_WORDS, DECISION_WORDS = 1, 4


def signed(value: int, bits: int = 8) -> int:
    """Two's complement."""
    return value - (1 << bits) if value >> (bits - 1) else value


def places(first: int, target: dict[str, int], positions: int, words: int) -> np.ndarray:
    """Numbers of the words at some positions in the order of a walk: int array (positions, words)."""
    row, column = np.divmod(np.arange(positions), target["columns"])
    return (first + row * target["row_pitch"] + column * target["column_pitch"])[:, None] + np.arange(words)


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
    """A run: what every layer did, and the result (fields as :class:`hw.protocol.Result`)."""

    layers: list[Ran]
    exit: int
    label: int
    margin: int
    out_of_range: bool
    forced: bool
    early: tuple[int, int] | None = None  # exit and class that the run went on past
    differs: bool = False


class Core:
    """One core: its memories, and what it has read in the present layer.

    Parameters
    ----------
    number : int
    compiled : bool
        As for :class:`Machine`.
    """

    def __init__(self, images: dict[str, np.ndarray], config: AcceleratorConfig, number: int, *, compiled: bool):
        self._config = config
        self._compiled = compiled
        loaded = images["lists"][number * config.pes : (number + 1) * config.pes].astype(np.int64)
        self._lists = np.full((config.pes, config.list_words), NOTHING, dtype=np.int64)
        self._lists[:, : loaded.shape[1]] = loaded
        self._bias = images["bias"][number].astype(np.uint32).view(np.int32).astype(np.int64)
        self._multiplier, self._shift = (images[name][number].astype(np.int64) for name in ("multiplier", "shift"))
        self._activations = np.full((BANKS, config.activation_words, WORD_CHANNELS), NOTHING, dtype=np.int64)
        self._accumulators = np.zeros((config.pes, config.accumulators), dtype=np.int64)
        #: (bank, word) of everything read in this layer, with the numbers of the words it was the operand of.
        self._read: dict[tuple[int, int], set[int | None]] = {}
        self._window: dict[str, int] = {}
        #: What the last selections have chosen: address and channel of activations, masks of channels.
        self.elements: set[tuple[int, int]] = set()
        self.masks: list[list[int]] = []

    def write(self, address: int, words: list[int]) -> None:
        """A row of list words comes, one for each PE."""
        self._lists[:, address] = words

    def begin(self) -> None:
        """Nothing has been read in this layer."""
        self._read = {}

    def open(self, window: dict[str, int]) -> None:
        """Keep the words of this window (fields of :class:`hw.isa.Window`) from now on."""
        self._window = window

    def take(self, maker: int | None, number: int, word: np.ndarray) -> None:
        """A word comes from the exchange; it is kept if it lies in the window.

        Parameters
        ----------
        maker : int or None
            This core's own word (its number), or another core's or the image's.
        """
        window = self._window
        offset = number - window["low"]
        if not 0 <= offset < window["count"]:
            return
        address = window["base"] + offset
        assert address < self._config.activation_words, "a word beyond the bank"
        readers = self._read.get((window["bank"], address), set())
        assert readers <= {maker} - {None}, "a word over one that is still read"
        self._activations[window["bank"], address] = word

    def layer(self, part: CoreLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Numbers, accumulators and values of the words made, and the products."""
        lane, residual, target = (part.fields[name] for name in ("lane", "residual", "target"))
        stream, products = self._multiply(part)
        assert len(stream) == lane["outputs"]
        assert lane["channels"] % WORD_CHANNELS == 0
        accumulators = np.array(stream, dtype=np.int64).reshape(-1, lane["channels"])
        first = lane["channel_base"] * WORD_CHANNELS
        channels = slice(first, first + lane["channels"])
        biased = accumulators + self._bias[channels]
        self._check_width(biased)
        if lane["raw"]:
            assert lane["slow"] or self._config.lanes == 1
            return np.arange(biased.size // WORD_CHANNELS), accumulators, biased, products
        assert lane["slow"] or not target["everywhere"] or self._config.cores * self._config.lanes <= WORD_CHANNELS
        assert target["words"] * WORD_CHANNELS == lane["channels"]
        numbers = places(target["first"], target, len(biased), target["words"]).reshape(-1)
        rounding = Rounding.DOUBLE if lane["double"] else Rounding.SINGLE
        scaled = requantize(biased, self._multiplier[channels], self._shift[channels], rounding)
        codes = clamp(scaled + signed(lane["offset"]), signed(lane["clamp_low"]), signed(lane["clamp_high"]))
        if residual["enable"]:
            assert lane["slow"]
            assert residual["bank"] != part.fields["source"]["bank"]
            codes = self._add(codes - signed(residual["zero_point"]), residual, target, numbers)
        return numbers, accumulators, codes - signed(target["zero_point"]), products

    def _fetch(self, bank: int, address: int, reader: int | None) -> np.ndarray:
        """A word of the activation memory."""
        word = self._activations[bank, address]
        assert (word != NOTHING).all(), "a word that nobody wrote"
        self._read.setdefault((bank, address), set()).add(reader)
        return word

    def scan(self, selection: dict[str, int]) -> list[tuple[tuple[int, int], int]]:
        """Place (number of the word, channel) and magnitude of everything in the core's share of a selection."""
        found = []
        for start in range(selection["pitch"]):
            for n in range(selection["words"]):
                address = selection["base"] + start + n * selection["pitch"]
                number = address - signed(selection["shift"], 17)
                word = self._fetch(selection["bank"], address, None)
                found += [((number, channel), abs(int(value))) for channel, value in enumerate(word)]
        return found

    def _selected(self, source: dict[str, int], address: int, word: int) -> list[bool]:
        """Which channels of a word the layer's selection has chosen."""
        if source["select"] == SelectUse.ELEMENTS.value:
            return [(address, channel) in self.elements for channel in range(WORD_CHANNELS)]
        if source["select"] == SelectUse.CHANNELS.value:
            return [bool(bit) for bit in self.masks[source["first_mask"] + word]]
        return [True] * WORD_CHANNELS

    def _multiply(self, part: CoreLayer) -> tuple[list[int], int]:
        """The accumulators in the order in which they leave the PEs, and the number of products."""
        source = part.fields["source"]
        step, slots, filled = source["accumulator_step"], source["slots"], len(part.rows) - source["blank_rows"]
        assert source["threshold"] >= 1
        stream: list[int] = []
        products = 0
        leaving = source["first_dump"]
        for y, row in enumerate(part.rows):
            for x, column in enumerate(part.columns):
                base = source["base"] + y * source["row_pitch"] + x * source["column_pitch"]
                words = source["words"] if y < filled else 0
                position = [self._fetch(source["bank"], base + word, None) for word in range(words)]
                values = np.concatenate(position) if words else np.zeros(0, dtype=np.int64)
                chosen = [bit for word in range(words) for bit in self._selected(source, base + word, word)]
                for channel in np.flatnonzero((abs(values) >= source["threshold"]) & np.array(chosen, dtype=bool)):
                    for k in range(row["count"]):
                        number = source["first_list"] + row["list"] + k * source["list_step"] + column["list"] + channel
                        start = row["accumulator"] - k * step + column["accumulator"]
                        products += self._job(int(number), int(values[channel]), start, bool(source["maximum"]))
                for _ in range(column["dumps"] if row["final"] else 0):
                    places = (leaving + np.arange(slots)) % self._config.accumulators
                    stream += self._accumulators[:, places].T.reshape(-1).tolist()
                    self._accumulators[:, places] = 0
                    leaving += slots
        assert source["partial"] or not self._accumulators.any(), "an accumulator that no dump took"
        return stream, products

    def _job(self, number: int, value: int, base: int, maximum: bool) -> int:
        """One activation for one list; returns the products made."""
        products = 0
        for pe in range(self._config.pes):
            pointer = int(self._lists[pe, number])
            assert pointer != NOTHING, "a list that nobody wrote"
            start, count = pointer % self._config.list_words, pointer // self._config.list_words
            words = self._lists[pe, start : start + count]
            assert len(words) == count, "a list beyond the memory"
            assert (words != NOTHING).all(), "a list beyond what was written"
            places = (base + (words >> 8)) % self._config.accumulators
            weights = ((words & 0xFF) ^ 0x80) - 0x80
            if self._compiled:
                assert weights.all(), "a stored weight of zero"
                assert len(set(places.tolist())) == count
            if maximum:
                assert (weights == 1).all(), "a maximum of weighted values"
                assert not self._compiled or value >= 0, "a maximum of negative values"
                np.maximum.at(self._accumulators[pe], places, value)
            else:
                np.add.at(self._accumulators[pe], places, weights * value)
            self._check_width(self._accumulators[pe, places])
            products += count
        return products

    def _add(
        self, own: np.ndarray, residual: dict[str, int], target: dict[str, int], numbers: np.ndarray
    ) -> np.ndarray:
        """The sum with the second operand; ``numbers`` are those of the words the sums go to."""
        positions, channels = own.shape
        words = channels // WORD_CHANNELS
        read = places(residual["base"], target, positions, words).reshape(-1)
        other = [
            self._fetch(residual["bank"], int(place), int(number)) for place, number in zip(read, numbers, strict=True)
        ]
        names = ("first", "second", "output")
        scales = AddScales(*(Scale(residual[f"{n}_multiplier"], residual[f"{n}_shift"]) for n in names))
        total = add(own, np.array(other).reshape(own.shape), scales) + signed(residual["offset"])
        return clamp(total, signed(residual["clamp_low"]), signed(residual["clamp_high"]))

    def _check_width(self, values: np.ndarray) -> None:
        limit = 1 << (self._config.accumulator_bits - 1)
        assert not self._compiled or ((values >= -limit) & (values < limit)).all(), "an accumulator overflows"


def _chunks(images: dict[str, np.ndarray], header: dict[str, int], width: int) -> list[tuple[int, list[int]]]:
    """Of each chunk the layers that must have ended before, and its words."""
    found = []
    for number in range(header["chunks"]):
        first = header["chunk_table"] + number * words_of(Chunk)
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
        self._header = decode_header(images)
        self._image_windows = decode_windows(images)
        self._program = {instruction.address: instruction for instruction in decode_images(images)}
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
            The first exit at which the deadline has passed.
        """
        header, layers = self._header, []
        assert codes.size == header["image_bytes"] <= 4 * header["image_words"]
        image = codes.reshape(-1, 1, header["image_channels"]).astype(np.int64)
        for core, window in zip(self._cores, self._image_windows, strict=True):
            core.begin()
            core.open(window)
            for number, word in enumerate(map_words(image - signed(header["image_zero_point"]))):
                core.take(None, number, word)
        label = margin = early = None
        self._written = 0
        address = header["entry"]
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
                lane = instruction.cores[0].fields["lane"]
                if instruction.cores[0].fields["enable"] and lane["raw"]:
                    label, margin = (int(n) for n in top2(ran.values.reshape(-1)[: lane["classes"]]))
                address += LAYER_WORDS
                continue
            assert margin is not None, "a decision needs logits"
            asked = instruction.decision
            unusual = not asked["low"] <= margin <= asked["high"]
            here = Outcome(layers, instruction.index, label, margin, unusual, False)
            if instruction.op is Opcode.STOP:
                break
            takes = early is None and margin >= asked["threshold"]
            late = expired is not None and instruction.index >= expired
            if takes and not (audited or constant):
                break
            if late:
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
                for row in range(fields["rows"]):
                    beats = [words.pop(0) for _ in range(self._config.row_beats * self._config.loader)]
                    bits = sum(beat << 32 * n for n, beat in enumerate(beats))
                    lists = [bits >> 18 * pe & 0x3FFFF for pe in range(self._config.pes)]
                    for number, core in enumerate(self._cores):
                        if fields["cores"] >> number & 1:
                            core.write(fields["address"] + row, lists)
            assert not words, "beats that no segment has"

    def _select(self, instruction: Instruction) -> None:
        """Winners of all shares together, by sorting them."""
        common = instruction.selections[0].fields
        kind, count, pitch = SelectKind(common["kind"]), common["count"], common["pitch"]
        shares = list(zip(self._cores, instruction.selections, strict=True))
        assert all({n: s.fields[n] for n in ("kind", "count", "pitch")}.items() <= common.items() for _, s in shares)
        if kind is SelectKind.MASK:
            for core, selection in shares:
                core.masks = [[mask >> channel & 1 for channel in range(WORD_CHANNELS)] for mask in selection.masks]
        elif kind is SelectKind.ELEMENTS:
            scanned = [entry for core, selection in shares for entry in core.scan(selection.fields)]
            places = [place for place, _ in scanned]
            assert not self._compiled or places == sorted(set(places)), "not every word once, in order"
            winners = {place for place, _ in sorted(scanned, key=lambda entry: (-entry[1], entry[0]))[:count]}
            for core, selection in shares:
                shift = signed(selection.fields["shift"], 17)
                core.elements = {(number + shift, channel) for number, channel in winners}
        else:
            scores = np.zeros(pitch * WORD_CHANNELS, dtype=np.int64)
            for core, selection in shares:
                for (number, channel), magnitude in core.scan(selection.fields):
                    scores[number % pitch * WORD_CHANNELS + channel] += magnitude
            order = sorted(range(len(scores)), key=lambda channel: (-scores[channel], channel))[:count]
            kept = np.isin(np.arange(len(scores)), order).astype(int).reshape(-1, WORD_CHANNELS)
            for core, _ in shares:
                core.masks = kept.tolist()

    def _layer(self, instruction: Instruction) -> Ran:
        """All cores read, then all write: nothing may depend on which of them is faster."""
        parts = {k: part for k, part in enumerate(instruction.cores) if part.fields["enable"]}
        for core in self._cores:
            core.begin()
        results = {k: self._cores[k].layer(part) for k, part in parts.items()}
        for core, part in zip(self._cores, instruction.cores, strict=True):
            core.open(part.fields["window"])
        raw = any(part.fields["lane"]["raw"] for part in parts.values())
        assert not raw or [*parts] == [0]
        for k, (numbers, _, values, _) in results.items() if not raw else ():
            everywhere = parts[k].fields["target"]["everywhere"]
            assert everywhere or len(self._cores) >= 4
            self._send(k, bool(everywhere), numbers, values.reshape(-1, WORD_CHANNELS))
        numbers = np.concatenate([numbers for numbers, _, _, _ in results.values()])
        partial = any(part.fields["source"]["partial"] for part in parts.values())
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
