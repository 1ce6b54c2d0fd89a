"""A config that a network fits, close to one that it doesn't: larger memories, the same cores, PEs and lanes.

Where no list memories are large enough, it has a loader, which reads lists from external memory during the run.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

import numpy as np

from hw.compiler.compile import Compilation, balanced_compilation
from hw.compiler.use import memory_use
from hw.config import BANKS, LARGEST, AcceleratorConfig
from hw.network.layers import select_of
from hw.network.network import Network
from hw.rules import ShortageError

__all__ = ["changes", "fitting"]

#: The size of a config that a memory's use (:func:`hw.compiler.use.memory_use`) is of.
_SIZES = {
    "lists": "list_words",
    "activations": "activation_words",
    "channels": "channel_words",
    "program": "program_words",
    "layers": "layer_words",
}
#: Scan bits of a config that gets hardware for selections, and words in a beat of one that gets a loader.
_SELECTOR, _LOADER = 4, 4


def fitting(
    network: Network,
    config: AcceleratorConfig,
    activity: Mapping[str, np.ndarray],
    report: Callable[[str], None] = lambda text: None,
) -> AcceleratorConfig | None:
    """A config with larger memories that the network fits, no larger than it uses there; None if none is.

    It has a loader only where the largest list memories are too small.

    Parameters
    ----------
    config : AcceleratorConfig
        The one that it doesn't fit.
    activity : mapping of str to float array (channels,)
        As of :func:`hw.compiler.compile.balanced_compilation`.
    report : function
        Called with what begins.
    """
    tried, found = config, balanced_compilation(network, config, activity, report)
    while found.refusal is not None and (grown := _grown(tried, found)) != tried:
        tried = grown
        report(f"with {', '.join(changes(config, tried))}")
        found = balanced_compilation(network, tried, activity, report)
    return tried if found.refusal is None else _shrunk(network, config, activity, report)


def _grown(config: AcceleratorConfig, found: Compilation) -> AcceleratorConfig:
    """A config with the memories larger that a compilation for it lacked, as far as it says and they may be."""
    if found.proven is None:
        return config
    needed = _needed(found)
    lacking = {size: words for size, words in needed.items() if words > getattr(config, size)}
    if not lacking and isinstance(found.refusal, ShortageError):  # maps fit both banks together, but not each its own
        lacking = {} if config.second_bank_words else {"activation_words": 2 * config.activation_words}
        return config.replace(second_bank_words=0, **_allowed(lacking))
    return config.replace(**_allowed(lacking))


def _allowed(words: Mapping[str, int]) -> dict[str, int]:
    """Sizes of memories, none larger than it may be."""
    return {size: min(LARGEST[size], number) for size, number in words.items()}


def _shrunk(
    network: Network,
    config: AcceleratorConfig,
    activity: Mapping[str, np.ndarray],
    report: Callable[[str], None],
) -> AcceleratorConfig | None:
    """A config of the largest memories, or as much closer to another one as the network still fits; None if none.

    Lists that the largest list memories can't hold are read by a loader.
    """
    selects = any(select_of(layer) is not None for layer in network.layers)
    largest = {name: max(size, LARGEST.get(name, 0)) for name, size in asdict(config).items()}
    largest["second_bank_words"] = 0
    roomy = config.replace(**largest | ({"selector": config.selector or _SELECTOR} if selects else {}))
    report("with the largest memories")
    found = balanced_compilation(network, roomy, activity, report)
    if found.refusal is not None and not config.loader:
        roomy = roomy.replace(loader=_LOADER)
        report("with the largest memories and a loader")
        found = balanced_compilation(network, roomy, activity, report)
    if found.refusal is not None:
        return None
    for tried in _closer(config, roomy, found):
        report(f"with {', '.join(changes(config, tried))}")
        if balanced_compilation(network, tried, activity, report).refusal is None:
            return tried
    return roomy


def _closer(config: AcceleratorConfig, roomy: AcceleratorConfig, found: Compilation) -> Iterator[AcceleratorConfig]:
    """Configs between two of which the network fits the larger, as it was compiled for: the closest first."""
    needed = {size: max(getattr(config, size), words) for size, words in _needed(found).items()}
    close = roomy.replace(**needed)
    kept = ({"accumulators": config.accumulators}, {"accumulator_bits": config.accumulator_bits})
    tried = [close.replace(**kept[0] | kept[1]), close.replace(**kept[1]), close.replace(**kept[0]), close]
    yield from (each for number, each in enumerate(tried) if each != config and each not in tried[:number])


def _needed(found: Compilation) -> dict[str, int]:
    """Sizes of memories, powers of two, that hold what a compilation uses of them."""
    assert found.proven is not None
    uses = memory_use(found.proven, found.expanded, found.told)
    words = {_SIZES[use.memory]: use.used for use in uses if use.memory in _SIZES and use.used}
    words |= {size: -(-words[size] // BANKS) for size in ("activation_words",) if size in words}
    return {size: 1 << (number - 1).bit_length() for size, number in words.items()}


def changes(before: AcceleratorConfig, after: AcceleratorConfig) -> list[str]:
    """The sizes that differ, as they are written behind the name of a preset: ``list_words=4096``."""
    sizes = asdict(before)
    return [f"{name}={size}" for name, size in asdict(after).items() if size != sizes[name]]
