"""A config that a network fits, close to one that it doesn't: larger memories, the same cores, PEs and lanes.

Memories grow by what each compilation lacks of them; then every change that isn't needed is taken back. Where list
memories would be larger than those of a device, it has a loader, which reads lists from external memory during the run.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import inf

import numpy as np

from hw.compiler.compile import Balanced, Compilation
from hw.compiler.use import memory_use
from hw.config import BANKS, LARGEST, AcceleratorConfig
from hw.network.layers import select_of
from hw.network.network import Network
from hw.rules import ShortageError, StructureError

__all__ = ["changes", "fitting"]

#: The size of a config that a memory's use (:func:`hw.compiler.use.memory_use`) is of.
_SIZES = {
    "lists": "list_words",
    "lists read": "list_words",
    "activations": "activation_words",
    "channels": "channel_words",
    "program": "program_words",
    "layers": "layer_words",
}
#: Sizes that no choice of the compiler depends on: they are large in trials, and then what is used.
_LAST = ("program_words", "layer_words")
#: Sizes whose changes are taken back if they aren't needed, what costs most first.
_TAKEN_BACK = ("list_words", "loader", "activation_words", "second_bank_words", "accumulators", "channel_words")
#: Words of all list memories that the 208 block RAMs of an ECP5-85F hold, the largest device that a core was built for.
_DEVICE_WORDS = 208 * 1024
#: Scan bits of a config that gets hardware for selections, and words in a beat of one that gets a loader.
_SELECTOR, _LOADER = 4, 4


def fitting(
    network: Network,
    config: AcceleratorConfig,
    activity: Mapping[str, np.ndarray],
    report: Callable[[str], None] = lambda text: None,
) -> AcceleratorConfig | None:
    """A config with larger memories that the network fits, each change of which it needs; None if none is.

    Parameters
    ----------
    config : AcceleratorConfig
        The one that it doesn't fit.
    activity : mapping of str to float array (channels,)
        As of :func:`hw.compiler.compile.balanced_compilation`.
    report : function
        Called with what begins.
    """
    trials = _Trials(network, config, activity, report)
    tried, found = config, trials.compilation(config)
    while found.refusal is not None and (grown := _grown(tried, found)) != tried:
        tried = grown
        found = trials.compilation(tried)
    for roomy in _roomiest(tried):
        if found.refusal is not None and not isinstance(found.refusal, StructureError):
            tried, found = roomy, trials.compilation(roomy)
    return None if found.refusal is not None else _shrunk(trials, tried, found)


class _Trials:
    """Compilations of a network for configs that have as many PEs as one that it doesn't fit."""

    def __init__(
        self,
        network: Network,
        config: AcceleratorConfig,
        activity: Mapping[str, np.ndarray],
        report: Callable[[str], None],
    ):
        self.config = config
        self._balanced, self._report = Balanced(network, activity), report
        #: In how many it fits a config; infinity where it doesn't.
        self._strips: dict[AcceleratorConfig, float] = {}

    def fits(self, tried: AcceleratorConfig, strips: float = inf) -> bool:
        """Whether it fits a config, in so many strips at most; each config is compiled for once."""
        if tried not in self._strips:
            self.compilation(tried)
        return self._strips[tried] <= strips and self._strips[tried] < inf

    def known(self, config: AcceleratorConfig, strips: int) -> AcceleratorConfig:
        """A config that it is known to fit in so many strips."""
        self._strips[config] = strips
        return config

    def compilation(self, tried: AcceleratorConfig) -> Compilation:
        """What comes of compiling for a config."""
        if tried != self.config:
            self._report(f"with {', '.join(changes(self.config, tried))}")
        found = self._balanced.compilation(tried, self._report)
        self._strips[tried] = found.told.way.strips if found.refusal is None and found.told else inf
        return found


def _grown(config: AcceleratorConfig, found: Compilation) -> AcceleratorConfig:
    """A config with more of what a compilation for it lacked; the same if there is no more."""
    if isinstance(found.refusal, StructureError):
        return config
    if found.proven is None:
        if found.network.classes > config.classes:
            return config.replace(classes=1 << (found.network.classes - 1).bit_length())
        selects = any(select_of(layer) is not None for layer in found.network.layers)
        if selects and not config.selector:
            return config.replace(selector=_SELECTOR)
        return config.replace(**_allowed({"accumulator_bits": config.accumulator_bits + 1}))
    lacking = {size: words for size, words in _needed(found).items() if words > getattr(config, size)}
    if lacking.get("list_words", 0) > _most_lists(config) and not config.loader:
        lacking["list_words"] = config.list_words
        config = config.replace(loader=_LOADER)
    elif not lacking and isinstance(found.refusal, ShortageError):
        if config.second_bank_words:  # maps fit both banks together, but not each its own
            return config.replace(second_bank_words=0)
        # Either helps where memories suffice one by one, but in no choice together.
        grown = ("activation_words", *["channel_words"] * (found.expanded is not None))
        lacking = {size: 2 * getattr(config, size) for size in grown}
    elif not lacking:
        lacking = {"accumulators": 2 * config.accumulators}
    return config.replace(**_allowed(lacking | {size: LARGEST[size] for size in _LAST}))


def _most_lists(config: AcceleratorConfig) -> int:
    """Words of a list memory that a device holds for every PE, a power of two."""
    most = _DEVICE_WORDS // config.multipliers
    return min(LARGEST["list_words"], 1 << most.bit_length() - 1)


def _allowed(words: Mapping[str, int]) -> dict[str, int]:
    """Sizes of memories, none larger than it may be."""
    return {size: min(LARGEST[size], number) for size, number in words.items()}


def _roomiest(config: AcceleratorConfig) -> tuple[AcceleratorConfig, ...]:
    """Configs with the largest memories, and a loader; in the second one pointers can count longer lists."""
    largest = {name: size for name, size in LARGEST.items() if name != "accumulator_bits"}
    roomy = config.replace(**largest, second_bank_words=0, loader=config.loader or _LOADER)
    return roomy, roomy.replace(list_words=config.list_words)


def _shrunk(trials: _Trials, config: AcceleratorConfig, found: Compilation) -> AcceleratorConfig:
    """The config that a compilation is for, without the changes that the network doesn't need."""
    given, told = trials.config, found.told
    assert told is not None
    used = {size: max(getattr(given, size), words) for size, words in _needed(found).items()}
    used = {size: min(getattr(config, size), words) for size, words in used.items()}
    sizes, strips = list(_TAKEN_BACK), told.way.strips
    if strips == 1:
        config = trials.known(config.replace(**{size: used[size] for size in _LAST}), strips)
    else:  # Descriptions limit how many layers are cut in strips, so that these may depend on each other.
        sizes += _LAST
    if trials.fits(config.replace(**used), strips):
        config = config.replace(**used)
    for size in sizes:
        least = getattr(given, size)
        for words in _less(size, config, given):
            # More strips take more time: only so that a change isn't needed.
            if trials.fits(config.replace(**{size: words}), inf if words == least else strips):
                config = config.replace(**{size: words})
                if words == least:
                    break
            elif words != least:
                break
    return config


def _less(size: str, config: AcceleratorConfig, given: AcceleratorConfig) -> list[int]:
    """Words to try instead of those that a config has of a memory: as many as were given; if these don't suffice, half
    as many, and so on.
    """
    least, now = getattr(given, size), getattr(config, size)
    if now == least:
        return []
    if size == "loader":  # Any is as good as the others, but for the time that it takes.
        return [least]
    now = now or config.activation_words  # of a second bank that is as large as the first
    return [least, *(now >> n for n in range(1, now.bit_length()) if now >> n > least)]


def _needed(found: Compilation) -> dict[str, int]:
    """Sizes of memories, powers of two, that hold what a compilation uses of them."""
    assert found.proven is not None
    words: dict[str, int] = {}
    for use in memory_use(found.proven, found.expanded, found.told):
        if use.memory in _SIZES and use.used:
            words[_SIZES[use.memory]] = words.get(_SIZES[use.memory], 0) + use.used
    if "activation_words" in words:
        words["activation_words"] = -(-words["activation_words"] // BANKS)
    return {size: 1 << (number - 1).bit_length() for size, number in words.items()}


def changes(before: AcceleratorConfig, after: AcceleratorConfig) -> list[str]:
    """The sizes that differ, as they are written behind the name of a preset: ``list_words=4096``."""
    sizes = asdict(before)
    return [f"{name}={size}" for name, size in asdict(after).items() if size != sizes[name]]
