"""Sizes of one accelerator instance: the only place where they are written down."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from hw.rules import shown

__all__ = ["LARGEST", "MAX_CLASSES", "PRESETS", "AcceleratorConfig", "preset"]

#: Bits of one list memory word: the widest word of a true dual-port ECP5 block RAM.
LIST_WORD_BITS = 18
#: Channels in one word of the activation memories; stored maps have a multiple of it at every position.
WORD_CHANNELS = 8
#: Activation memory banks of a core; a residual operand never shares a bank with the layer's input.
BANKS = 2
#: Cycles in which the words of a core and its neighbours go around.
EXCHANGE_ROUND = 4
#: Least words of list memories that are two block RAMs, and most accumulators whose offsets leave room for marks.
_SPLIT_WORDS, _SPLIT_ACCUMULATORS = 2048, 64
#: Logits of a head that an exit unit can keep: their number has the 12 bits of a LaneDescription.
MAX_CLASSES = 2048
_DIGITS = 9  # most of a size that is written as text


def _log2(value: int) -> int:
    return max(1, (value - 1).bit_length())


#: Least and largest of the sizes that must be powers of two.
_POWERS = {
    "cores": (1, 8),
    "pes": (2, WORD_CHANNELS),
    "lanes": (1, 2),
    "list_words": (64, 8192),
    "accumulators": (16, 1024),
    "activation_words": (32, 4096),
    "channel_words": (16, 4096),
    "layer_words": (128, 4096),
    "program_words": (32, 4096),
    "job_queue": (2, 64),
    "output_queue": (2, 64),
    "classes": (16, MAX_CLASSES),
}
_BITS = (20, 32)  # of accumulators
#: The largest memories that a config may have: sizes by name.
LARGEST = {name: high for name, (_, high) in _POWERS.items() if name.endswith(("words", "accumulators"))} | {
    "accumulator_bits": _BITS[1]
}


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """Sizes of one accelerator instance.

    Parameters
    ----------
    cores : int
        Independent cores, a power of two up to 8.
    pes : int
        Processing elements per core, a power of two from 2 to 8.
    lanes : int
        Accumulators that a core finishes per cycle, 1 or 2.
    list_words : int
        18-bit words of a PE's list memory (pointers and weight entries), a power of two, at most 8192.
    accumulators : int
        Accumulators of a PE, a power of two, at most 1024; up to 32 take logic cells in place of a block RAM.
    accumulator_bits : int
        Width of an accumulator; the compiler proves that no program overflows it.
    activation_words : int
        8-channel words of a core's first bank, a power of two.
    second_bank_words : int
        Those of its second bank, where it is smaller: a power of two; 0: as many as the first one's.
    channel_words : int
        Output channels per core of a whole program (bias, multiplier, shift), a power of two.
    layer_words : int
        32-bit words of a core's layer memory (descriptions and tables), a power of two.
    program_words : int
        32-bit words of the sequencer's program memory (instructions), a power of two.
    job_queue : int
        Jobs that wait in front of a PE.
    output_queue : int
        Finished accumulators that wait behind a PE.
    loader : int
        32-bit words in a beat of the port through which list memories are refilled during a run (:mod:`hw.rtl.loader`):
        1, 2 or 4; 0: there is none, and all lists of a program must fit.
    classes : int
        Logits of a head that the exit unit keeps, a power of two.
    fast_sums : int
        1: a lane has multipliers for residual sums, five more, and takes an accumulator a cycle in layers that have
        one; 0: they share those that scale accumulators, and it takes one in two cycles.
    selector : int
        Bits of magnitudes that a scan for the largest activations decides: 1, 2 or 4; 0 without hardware for
        selections.

    Raises
    ------
    ValueError
        When a size is impossible; the message names the size, the rule and the value.
    """

    cores: int = 1
    pes: int = 8
    lanes: int = 1
    list_words: int = 2048
    accumulators: int = 512
    accumulator_bits: int = 28
    activation_words: int = 2048
    second_bank_words: int = 0
    channel_words: int = 512
    layer_words: int = 1024
    program_words: int = 256
    job_queue: int = 8
    output_queue: int = 16
    loader: int = 0
    selector: int = 0
    classes: int = 128
    fast_sums: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{name} must be an integer, not {value!r}")
        for name, (low, high) in _POWERS.items():
            value = getattr(self, name)
            if value & (value - 1) or not low <= value <= high:
                raise ValueError(f"{name} must be a power of two from {low} to {high}, not {value}")
        self._check_second_bank()
        if self.selector not in (0, 1, 2, 4):
            raise ValueError(f"selector must be 0, 1, 2 or 4, not {self.selector}")
        if not _BITS[0] <= self.accumulator_bits <= _BITS[1]:
            raise ValueError(f"accumulator_bits must be from {_BITS[0]} to {_BITS[1]}, not {self.accumulator_bits}")
        if self.fast_sums not in (0, 1):
            raise ValueError(f"fast_sums must be 0 or 1, not {self.fast_sums}")
        if self.loader not in (0, 1, 2, 4):
            raise ValueError(f"loader must be 0, 1, 2 or 4, not {self.loader}")

    def _check_second_bank(self) -> None:
        words, (low, _) = self.second_bank_words, _POWERS["activation_words"]
        if words and (words & (words - 1) or not low <= words < self.activation_words):
            raise ValueError(
                f"second_bank_words must be 0 or a power of two from {low} to less than activation_words "
                f"({self.activation_words}), not {words}"
            )

    @property
    def bank_words(self) -> tuple[int, ...]:
        """8-channel words of each bank of activations; no bank is larger than the first."""
        return self.activation_words, self.second_bank_words or self.activation_words

    @property
    def multipliers(self) -> int:
        """Products per cycle at best."""
        return self.cores * self.pes

    @property
    def start_bits(self) -> int:
        """Bits of a list's start address in a pointer word."""
        return _log2(self.list_words)

    @property
    def count_bits(self) -> int:
        """Bits of a list's length in a pointer word."""
        return LIST_WORD_BITS - self.start_bits

    @property
    def max_list(self) -> int:
        """Longest list of weight entries of one PE."""
        return (1 << self.count_bits) - 1

    @property
    def accumulator_address_bits(self) -> int:
        return _log2(self.accumulators)

    @property
    def list_row_beats(self) -> int:
        """Beats of external memory that hold one list word for each PE of a core: at least 2, the time of a write."""
        return max(2, -(-LIST_WORD_BITS * self.pes // (32 * max(1, self.loader))))

    @property
    def split_lists(self) -> bool:
        """Whether lists may be split: PEs read two words of their list memories at once, and entries have marks."""
        return self.list_words >= _SPLIT_WORDS and self.accumulators <= _SPLIT_ACCUMULATORS

    def padded_channels(self, channels: int) -> int:
        """Channels as stored: whole words, so that channel ``c`` belongs to PE ``c % pes``."""
        return -(-channels // WORD_CHANNELS) * WORD_CHANNELS

    @property
    def neighbour_exchange(self) -> bool:
        """Whether words may go to a core's neighbours alone; with fewer cores all go everywhere."""
        return self.cores >= EXCHANGE_ROUND

    @property
    def slow_exchange(self) -> bool:
        """Whether words that go everywhere have to be made at half the lanes' rate, for each core to get its turn."""
        return self.cores * self.lanes > WORD_CHANNELS

    def digest(self) -> str:
        """SHA-256 of the sizes, in hex: programs, hosts and bitstreams carry it and can't be mixed."""
        sizes = asdict(self)
        # Configs have the digests from before there were others.
        if not self.second_bank_words:
            del sizes["second_bank_words"]
        if self.classes == AcceleratorConfig.classes:
            del sizes["classes"]
        if not self.fast_sums:
            del sizes["fast_sums"]
        return hashlib.sha256(json.dumps(sizes, sort_keys=True).encode()).hexdigest()

    @property
    def word_digest(self) -> int:
        """First 32 bits of the digest, as the hardware's identity register holds them."""
        return int(self.digest()[:8], 16)

    def replace(self, **sizes: int) -> "AcceleratorConfig":
        """The same config with some sizes changed."""
        return replace(self, **sizes)


PRESETS = {
    "tiny": AcceleratorConfig(
        pes=4,
        list_words=2048,
        accumulators=256,
        activation_words=512,
        channel_words=256,
        layer_words=512,
        selector=4,
    ),
    "single": AcceleratorConfig(),
    "small": AcceleratorConfig(cores=2, list_words=1024, activation_words=1024, program_words=128),
    "small-85f": AcceleratorConfig(cores=2, list_words=8192, program_words=128, selector=4),
    "medium-85f": AcceleratorConfig(
        cores=4, list_words=4096, activation_words=1024, program_words=128, job_queue=32, fast_sums=1
    ),
    "base-85f": AcceleratorConfig(
        cores=8,
        accumulators=32,
        accumulator_bits=24,
        activation_words=1024,
        second_bank_words=512,
        program_words=128,
        job_queue=16,
        fast_sums=1,
    ),
}

#: Presets of earlier versions, and why each is gone.
_GONE = {"base": "no device holds its memories; base-85f has as many multipliers and fits an ECP5-85F"}


def preset(name: str) -> AcceleratorConfig:
    """The named preset, or one with other sizes: ``base-85f,lanes=2,loader=4``.

    Raises
    ------
    ValueError
        When there is no preset of that name or none any more, or a size is unknown, no number, named twice or
        impossible.
    """
    base, *sizes = name.split(",")
    if base in _GONE:
        raise ValueError(f"config {base} is gone: {_GONE[base]}")
    if base not in PRESETS:
        raise ValueError(f"config must be one of {', '.join(PRESETS)}, not {shown(base)}")
    changed: dict[str, int] = {}
    for size in sizes:
        key, _, value = size.partition("=")
        number = value.isascii() and value.isdigit() and len(value) <= _DIGITS
        if key not in asdict(PRESETS[base]) or key in changed or not number:
            raise ValueError(
                f"config {base}: behind the preset comes SIZE=NUMBER, each of the sizes "
                f"{', '.join(asdict(PRESETS[base]))} once at most, not {shown(size)}"
            )
        changed[key] = int(value)
    return PRESETS[base].replace(**changed)
