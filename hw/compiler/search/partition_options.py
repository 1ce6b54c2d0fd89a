"""The ways in which a network's layers can be done: partitions that PEs and tables can hold, and what each costs.

Each way is expanded once, however many attempts to compile the network ask for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice, product

from hw.compiler.search.estimate import Estimate, estimate
from hw.compiler.search.requirements import Requirements, least_passes, refusal, requirements
from hw.compiler.steps.expansion import Expansion, can_split, expand_step
from hw.compiler.steps.partition import Partition
from hw.compiler.steps.step import Step
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import INPUT, Network
from hw.rules import MisfitError, require

__all__ = ["Option", "Options"]

#: Expected share of nonzero activations where nothing was measured: of maps, and of images.
_DENSITY, _IMAGE_DENSITY = 0.5, 1.0
#: Numbers of groups.
_POWERS = (1, 2, 4, 8)
#: Into how many times a command's lists the list memory may be divided where lists are read during the run.
_SHARES = (1, 3)


@dataclass(frozen=True, eq=False)
class Option:
    """A way in which a step can be done.

    Attributes
    ----------
    expansion : Expansion
        What every core does.
    density : float
        Expected share of nonzero activations in the step's input.
    config : AcceleratorConfig
    """

    expansion: Expansion
    density: float
    config: AcceleratorConfig

    @property
    def partition(self) -> Partition:
        """How the step is split."""
        return self.expansion.partition

    @cached_property
    def requirements(self) -> Requirements:
        """What PEs and tables must have."""
        return requirements(self.expansion, self.config)

    @cached_property
    def cost(self) -> Estimate:
        """Expected cycles, and words of list memory."""
        return estimate(self.expansion, self.density, self.config)


#: What a step is known by: its layer, and the rows of a strip.
_Key = tuple[str, tuple[tuple[int, int], ...] | None]


class Options:
    """Partitions of a network's steps, whole or in strips, and their costs.

    Parameters
    ----------
    densities : mapping of str to (float or None), optional
        Expected share of nonzero activations by tensor, 0..1; where it is missing or None, 0.5 (images: 1).

    Raises
    ------
    ValueError
        When a density is impossible.
    """

    def __init__(
        self, network: Network, config: AcceleratorConfig, densities: Mapping[str, float | None] | None = None
    ):
        self._config = config
        tensors = network.tensors()
        for name, density in (densities or {}).items():
            require(name in tensors, f"densities: {network.name} has no tensor {name!r}")
            require(density is None or 0 <= density <= 1, f"densities: {name} must be from 0 to 1, not {density}")
        known = {name: value for name, value in (densities or {}).items() if value is not None}
        self._densities = dict.fromkeys(tensors, _DENSITY) | {INPUT: _IMAGE_DENSITY} | known
        self._found: dict[tuple[_Key, ...], list[Partition]] = {}
        self._options: dict[tuple[_Key, Partition], Option] = {}

    def of(self, steps: Sequence[Step]) -> list[Partition]:
        """All partitions of a layer's steps that PEs and tables can hold, with as few commands as possible.

        Raises
        ------
        MisfitError
            When there is none; the message names the layer and the rule.
        """
        key = tuple(_key(step) for step in steps)
        if key not in self._found:
            self._found[key] = self._partitions(steps)
        return self._found[key]

    def option(self, step: Step, partition: Partition) -> Option:
        """A step under a partition."""
        key = _key(step), partition
        if key not in self._options:
            density = self._densities[step.layer.inputs[0]]
            self._options[key] = Option(expand_step(step, partition, self._config), density, self._config)
        return self._options[key]

    def misfit(self, steps: Sequence[Step]) -> str | None:
        """Why PEs and tables can hold a layer's steps in no partition; None if they can in one."""
        unfit = [self._unfit(steps, finest) for finest in self._finest(steps)]
        return refusal(steps[0].layer.name, list(chain(*unfit)), self._config) if all(unfit) else None

    def _finest(self, steps: Sequence[Step]) -> list[Partition]:
        """A partition for every number of bands and way to walk, which needs no more than any other of those.

        It has a command for every channel word.
        """
        step, config = steps[0], self._config
        height, _, channels = step.result.output.shape
        cores, words = (1, 1) if step.raw else (config.cores, config.padded_channels(channels) // WORD_CHANNELS)
        bands = [1 << n for n in range(cores.bit_length()) if 1 << n <= height]
        if step.strip is not None:
            bands = [count for count in bands if count == len(step.strip.rows)]
        turned = (False,) if step.kernel.global_pool else (False, True)
        passes = least_passes(step)
        ways = product(bands, (True, False), turned)
        whole = [Partition(count, 1, words, merged, passes, major) for count, merged, major in ways]
        split = [
            Partition(count, 1, words, True, passes, major, split=True)
            for count, major in product(bands, turned)
            if config.split_lists and can_split(step, count, column_major=major)
        ]
        return whole + split

    def _partitions(self, steps: Sequence[Step]) -> list[Partition]:
        config, step = self._config, steps[0]
        reason = self.misfit(steps)
        if reason is not None:
            raise MisfitError(reason)
        fitting = [finest for finest in self._finest(steps) if self._fits(steps, finest)]
        words = config.padded_channels(step.result.output.shape[2]) // WORD_CHANNELS
        found: list[Partition] = []
        for bands, groups in product(dict.fromkeys(finest.bands for finest in fitting), _POWERS):
            if groups > words or bands * groups > (1 if step.raw else config.cores):
                continue
            for whole in (replace(finest, commands=1) for finest in fitting if finest.bands == bands):
                most = 1 if step.raw else words // groups
                partitions = (
                    replace(whole, groups=groups, commands=commands)
                    for commands in range(self._fewest(steps, whole, words, groups), most + 1)
                )
                found += islice((each for each in partitions if self._fits(steps, each)), 1)
        if config.loader:
            found += [smaller for partition in found for smaller in self._smaller(steps, partition)]
        return found

    def _unfit(self, steps: Sequence[Step], partition: Partition) -> list[Requirements]:
        """What those of a layer's steps need that PEs and tables can't hold."""
        needs = [self.option(step, partition).requirements for step in steps]
        return [need for need in needs if not need.fits(self._config)]

    def _fits(self, steps: Sequence[Step], partition: Partition) -> bool:
        """Whether PEs and tables can hold all of a layer's steps."""
        return all(self.option(step, partition).requirements.fits(self._config) for step in steps)

    def _fewest(self, steps: Sequence[Step], whole: Partition, words: int, groups: int) -> int:
        """A number of commands such that fewer can't be enough, in so many groups.

        A tile takes accumulators for each of its channel words, and has no more of the longest list than a pointer
        can count.
        """
        needs = [self.option(step, whole).requirements for step in steps]
        most = self._config.accumulators // max(need.accumulators // words for need in needs)
        longest = max(need.longest for need in needs)
        tiles = max(1, -(-words // most), -(-longest // self._config.max_list))
        return -(-tiles // groups)

    def _smaller(self, steps: Sequence[Step], partition: Partition) -> list[Partition]:
        """The same partition in more commands and passes, so that the lists of each are some part of the memory."""
        config, step, found = self._config, steps[0], []
        words = config.padded_channels(step.result.output.shape[2]) // WORD_CHANNELS // partition.groups
        deep = 1 if step.kernel.depthwise or step.select else -(-step.source.shape[2] // WORD_CHANNELS)
        if self._list_words(steps, partition) * max(_SHARES) <= config.list_words:
            return []
        for deeper, least, most in (
            (True, partition.passes + 1, deep),
            (False, partition.commands + 1, 1 if step.raw else words),
        ):
            if least > most or not self._fits(steps, _in_parts(partition, least, deeper=deeper)):
                continue
            bounds = [_least_words(self.option(step, partition), deeper=deeper) for step in steps]
            for share in _SHARES:
                for count in range(least, most + 1):
                    # What fits in some parts fits in more; only where lists may be small enough, they are estimated.
                    if any(int(bound(count) * share) > config.list_words for bound in bounds):
                        continue
                    smaller = _in_parts(partition, count, deeper=deeper)
                    if not self._fits(steps, smaller):
                        break
                    if self._list_words(steps, smaller) * share <= config.list_words:
                        found.append(smaller)
                        break
        return list(dict.fromkeys(found))

    def _list_words(self, steps: Sequence[Step], partition: Partition) -> int:
        """Words of the largest command's lists."""
        return max(int(self.option(step, partition).cost.rows()[:, 0].max()) for step in steps)


def _in_parts(partition: Partition, count: int, *, deeper: bool) -> Partition:
    """The same partition in so many passes, or commands."""
    return replace(partition, passes=count) if deeper else replace(partition, commands=count)


def _least_words(option: Option, *, deeper: bool) -> Callable[[int], float]:
    """Given a number of passes, or of commands, words that the largest command's lists have at least.

    Passes divide pointers and entries, commands entries and the pointers of layers each channel of which has its own;
    the largest part is no less than the mean.
    """
    partition, cost = option.partition, option.cost
    shape = partition.commands, partition.passes, partition.bands, partition.groups
    cores = partition.bands * partition.groups
    pointers = cost.pointers[:, :cores].reshape(shape)
    entries = cost.entries[:, :cores].reshape(*shape, -1)
    if deeper:
        divided = int((entries.sum(axis=1).max(axis=-1) + pointers.sum(axis=1)).max())
        return lambda passes: divided / passes
    of_each = entries.sum(axis=(0, 3)).max(axis=-1) / partition.groups
    if option.expansion.commands[0][0].kernel.depthwise:
        of_each = of_each + pointers.sum(axis=(0, 3)) / partition.groups
        return lambda commands: float(of_each.max()) / commands
    kept = pointers[0, :, :, 0]
    return lambda commands: float((kept + of_each / commands).max())


def _key(step: Step) -> _Key:
    return step.layer.name, None if step.strip is None else step.strip.rows
