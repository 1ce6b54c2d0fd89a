"""An accelerator in plain Python: executes program images word by word, as the hardware's documentation says.

It shares no code with the compiler but the bit layouts (:mod:`hw.isa`), the decoder and the rounding rule, knows
nothing of networks, and refuses to touch anything that a program has no business with: memory nobody wrote,
accumulators outside the live rows, words beyond an image.
"""

from dataclasses import dataclass

import numpy as np

from hw.config import BANKS, MASK_CHANNELS, AcceleratorConfig
from hw.decode import decode_header, decode_images
from hw.isa import Layer, Opcode, words_of
from hw.numerics import AddScales, Rounding, Scale, add, clamp, requantize, top2

#: Stands in memories for "never written".
NOTHING = 1 << 20


def signed(value: int, bits: int = 8) -> int:
    """Two's complement."""
    return value - (1 << bits) if value >> (bits - 1) else value


@dataclass(frozen=True)
class Ran:
    """What one LAYER instruction did.

    Attributes
    ----------
    index : int
    accumulators : int64 array (positions, channels)
        Without bias.
    values : int64 array (positions, channels)
        Activations ``q - zero_point`` written, or the biased accumulators of a raw layer.
    products : int
    """

    index: int
    accumulators: np.ndarray
    values: np.ndarray
    products: int


@dataclass(frozen=True)
class Outcome:
    """A run: what every layer did, and the result."""

    layers: list[Ran]
    exit: int
    label: int
    margin: int


class Machine:
    """One accelerator with a program loaded.

    Parameters
    ----------
    compiled : bool
        Whether to insist on what the compiler promises beyond harmlessness: no overflow, no stored zero, no list that
        feeds an accumulator twice.
    """

    def __init__(self, images: dict[str, np.ndarray], config: AcceleratorConfig, *, compiled: bool = True):
        self._config = config
        self._compiled = compiled
        self._header = decode_header(images)
        self._program = {instruction.address: instruction for instruction in decode_images(images)}
        self._lists = images["lists"].astype(np.int64)
        self._bias = images["bias"].astype(np.uint32).view(np.int32).astype(np.int64)
        self._multiplier, self._shift = (images[name].astype(np.int64) for name in ("multiplier", "shift"))
        self._activations = np.full((BANKS, config.activation_bytes), NOTHING, dtype=np.int64)
        self._masks = np.full((BANKS, config.mask_words, MASK_CHANNELS), NOTHING, dtype=np.int64)
        self._accumulators = np.zeros((config.pes, config.accumulators), dtype=np.int64)

    def run(self, codes: np.ndarray) -> Outcome:
        """One image through the program."""
        header, layers = self._header, []
        assert codes.size == header["image_bytes"] <= 4 * header["image_words"]
        values = codes.reshape(-1, header["image"]["channels"]).astype(np.int64)
        self._write(header["image"], values - signed(header["image"]["zero_point"]))
        label = margin = None
        address = header["entry"]
        while (instruction := self._program[address]).op is not Opcode.STOP:
            if instruction.op is Opcode.LAYER:
                ran = self._layer(instruction)
                layers.append(ran)
                lane = instruction.layer["lane"]
                if lane["raw"]:
                    label, margin = (int(n) for n in top2(ran.values[0, : lane["classes"]]))
                address += 1 + words_of(Layer)
            else:
                assert margin is not None, "a decision needs logits"
                address = instruction.target if margin >= instruction.threshold else address + 2
        return Outcome(layers, instruction.index, label, margin)

    def _layer(self, instruction) -> Ran:
        lane, residual, target = (instruction.layer[part] for part in ("lane", "residual", "target"))
        stream, products = self._multiply(instruction)
        assert len(stream) == lane["outputs"]
        accumulators = np.array(stream, dtype=np.int64).reshape(-1, lane["channels"])
        channels = slice(lane["channel_base"], lane["channel_base"] + lane["channels"])
        biased = accumulators + self._bias[channels]
        self._check_width(biased)
        if lane["raw"]:
            return Ran(instruction.index, accumulators, biased, products)
        rounding = Rounding.DOUBLE if lane["double"] else Rounding.SINGLE
        scaled = requantize(biased, self._multiplier[channels], self._shift[channels], rounding)
        codes = clamp(scaled + signed(lane["offset"]), signed(lane["clamp_low"]), signed(lane["clamp_high"]))
        if residual["enable"]:
            assert residual["bank"] != instruction.layer["source"]["bank"]
            codes = self._add(codes - signed(residual["zero_point"]), residual)
        values = codes - signed(target["zero_point"])
        self._write(target, values)
        return Ran(instruction.index, accumulators, values, products)

    def _multiply(self, instruction) -> tuple[list[int], int]:
        """The accumulators in the order in which they leave the PEs, and the number of products."""
        source = instruction.layer["source"]
        step, wrap = source["accumulator_step"], source["accumulator_wrap"]
        memory, masks = self._activations[source["bank"]], self._masks[source["bank"]]
        stream: list[int] = []
        products = 0
        leaving = 0
        for y, row in enumerate(instruction.rows):
            for x, column in enumerate(instruction.columns):
                base = source["base"] + y * source["row_pitch"] + x * source["column_pitch"]
                mask = source["mask_base"] + y * source["mask_row_pitch"] + x * source["mask_column_pitch"]
                bits = masks[mask : mask + source["mask_words"]].reshape(-1)
                assert (bits != NOTHING).all(), "a mask word that nobody wrote"
                for channel in np.flatnonzero(bits):
                    value = memory[base + channel]
                    assert value != NOTHING, "an activation that nobody wrote"
                    assert value or not self._compiled, "the mask says nonzero"
                    accumulator = row["accumulator"]
                    for k in range(row["count"]):
                        number = row["list"] + k * source["list_step"] + column["list"] + int(channel)
                        row_places = range(accumulator, accumulator + step)
                        products += self._job(number, int(value), accumulator + column["accumulator"], row_places)
                        accumulator -= step
                        accumulator += wrap if accumulator < 0 else 0
            for _ in range(row["dumps"]):
                row_values = self._accumulators[:, leaving : leaving + step]
                assert row_values.shape[1] == step
                stream += row_values.T.reshape(-1).tolist()
                row_values[:] = 0
                leaving = 0 if leaving + step == wrap else leaving + step
        assert not self._accumulators.any(), "an accumulator that no dump took"
        return stream, products

    def _job(self, number: int, value: int, base: int, row: range) -> int:
        """One activation for one list; returns the products made."""
        products = 0
        for pe in range(self._config.pes):
            pointer = int(self._lists[pe, number])
            start, count = pointer % self._config.list_words, pointer // self._config.list_words
            words = self._lists[pe, start : start + count]
            assert len(words) == count, "a list beyond the image"
            places = (base + (words >> 8)) % self._config.accumulators
            assert ((places >= row.start) & (places < row.stop)).all(), "an accumulator outside the row"
            weights = ((words & 0xFF) ^ 0x80) - 0x80
            if self._compiled:
                assert weights.all(), "a stored weight of zero"
                assert len(set(places.tolist())) == count
            np.add.at(self._accumulators[pe], places, weights * value)
            self._check_width(self._accumulators[pe, places])
            products += count
        return products

    def _add(self, own: np.ndarray, residual: dict[str, int]) -> np.ndarray:
        positions, channels = own.shape
        places = residual["base"] + np.arange(positions)[:, None] * residual["pitch"] + np.arange(channels)
        other = self._activations[residual["bank"]][places]
        assert (other != NOTHING).all(), "a residual operand that nobody wrote"
        names = ("first", "second", "output")
        scales = AddScales(*(Scale(residual[f"{n}_multiplier"], residual[f"{n}_shift"]) for n in names))
        total = add(own, other, scales) + signed(residual["offset"])
        return clamp(total, signed(residual["clamp_low"]), signed(residual["clamp_high"]))

    def _write(self, target: dict[str, int], values: np.ndarray) -> None:
        channels = target["channels"]
        assert values.shape[1] == channels
        words = -(-channels // MASK_CHANNELS)
        for position, activations in enumerate(values):
            base = target["base"] + position * target["pitch"]
            assert base + channels <= self._config.activation_bytes
            self._activations[target["bank"], base : base + channels] = activations
            first = target["mask_base"] + position * target["mask_pitch"]
            assert first + words <= self._config.mask_words
            bits = np.zeros(words * MASK_CHANNELS, dtype=np.int64)
            bits[:channels] = activations != 0
            self._masks[target["bank"], first : first + words] = bits.reshape(words, MASK_CHANNELS)

    def _check_width(self, values: np.ndarray) -> None:
        limit = 1 << (self._config.accumulator_bits - 1)
        assert not self._compiled or ((values >= -limit) & (values < limit)).all(), "an accumulator overflows"
