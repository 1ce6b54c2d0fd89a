"""Proves that no choice of partitions fits channel and activation memories together, before one is searched for.

Bands save activation memory, groups save channel memory: a network may fit each, but never both. Constraint propagation
shows it: an option of a layer is struck out if memories are too small though all other layers take the least that is
left to them, and so on until nothing changes. If a layer has no option left, nothing fits.
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from hw.compiler.memory.memory_plan import bank_sizes, excess, shortage
from hw.compiler.memory.places import Places
from hw.compiler.search.partition_options import Option
from hw.compiler.steps.partition import read_rows, window_words
from hw.compiler.steps.step import Step, maps_of
from hw.config import BANKS, WORD_CHANNELS, AcceleratorConfig
from hw.network.network import Network, Tensor
from hw.rules import ShortageError

__all__ = ["channels_lack"]


def channels_lack(
    network: Network,
    steps: Sequence[Step],
    options: Sequence[Sequence[Option]],
    config: AcceleratorConfig,
    *,
    in_place: bool,
) -> ShortageError | None:
    """What channel memories lack wherever the activation memories suffice; None if that isn't certain.

    Parameters
    ----------
    steps : sequence of Step
        Whole ones, not in strips.
    options : sequence of sequence of Option
        Of each step.
    in_place : bool
        Whether sums are written over their residual operands.
    """
    left = _Left(network, steps, options, config, in_place=in_place)
    held = config.channel_words
    if left.fits(held):
        return None
    if not left.fits(left.most_channels):
        return shortage(left.requests, config)
    needed = next(words for words in range(held, left.most_channels + 1, WORD_CHANNELS) if left.fits(words))
    return ShortageError(
        f"channel memory holds {held} words; this network needs at least {needed} in every partition in which its "
        f"maps fit the activation memory's {BANKS} banks of {bank_sizes(config)} words, {needed - held} too many",
        needed - held,
    )


class _Left:
    """The options of all steps, and what of them is left with so many channels."""

    def __init__(
        self,
        network: Network,
        steps: Sequence[Step],
        options: Sequence[Sequence[Option]],
        config: AcceleratorConfig,
        *,
        in_place: bool,
    ):
        maps, places = maps_of(network, steps), Places(steps, in_place=in_place)
        #: Of each step: array (options, cores).
        self._channels = [np.array([option.cost.channels for option in some]) for some in options]
        #: Of each step: array (options, places), the words of a place that the step alone needs.
        self._words = [_words(step, some, places, maps, config) for step, some in zip(steps, options, strict=True)]
        #: What every place needs in any partition.
        self.requests = places.requests(np.max([each.min(axis=0) for each in self._words], axis=0).tolist())
        self.most_channels = int(sum(each.max(axis=0) for each in self._channels).max())
        self._short = cache(lambda words: excess(places.requests(words), config) > 0)

    def fits(self, channel_words: int) -> bool:
        """Whether every step has an option left with channel memories of so many words."""
        left = [list(range(len(each))) for each in self._channels]
        changed = True
        while changed:
            changed = False
            for number, some in enumerate(left):
                others = [n for n in range(len(left)) if n != number]
                channels = sum(self._channels[n][left[n]].min(axis=0) for n in others) + self._channels[number]
                words = np.max([self._words[n][left[n]].min(axis=0) for n in others], axis=0, initial=0)
                words = np.maximum(words, self._words[number])
                left[number] = [
                    n for n in some if channels[n].max() <= channel_words and not self._short(tuple(words[n].tolist()))
                ]
                if not left[number]:
                    return False
                changed |= len(left[number]) < len(some)
        return True


def _words(
    step: Step, options: Sequence[Option], places: Places, maps: Mapping[str, Tensor], config: AcceleratorConfig
) -> np.ndarray:
    """Words of every place that some core keeps for a step alone: int array (options, places)."""
    found: dict[tuple[int, int], list[int]] = {}
    for option in options:
        split = option.partition.bands, option.partition.groups
        if split in found:
            continue
        found[split] = [0] * len(places.names)
        for name in filter(None, (step.reads, step.residual)):
            rows = read_rows(step, name, option.expansion.tiles, config.cores)
            place = places.names.index(places.together[name][0])
            found[split][place] = max(found[split][place], window_words(rows, maps[name].shape, config))
    return np.array([found[option.partition.bands, option.partition.groups] for option in options])
