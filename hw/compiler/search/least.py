"""What a network needs of the memories at least, however it is split: refuses at once what no search could fit."""

from collections.abc import Hashable, Sequence

import numpy as np

from hw.compiler.memory.memory_plan import excess, shortage
from hw.compiler.memory.places import Places
from hw.compiler.search.least_entries import least_entries
from hw.compiler.search.partition_options import Option, Options
from hw.compiler.search.strips import cuts_in_strips
from hw.compiler.steps.expansion import Expansion
from hw.compiler.steps.step import Step, maps_of
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import Network
from hw.program.image_layout import description_words, instruction_words
from hw.rules import MisfitError, ShortageError

__all__ = ["activations_lack", "check_memories", "least_channels", "least_pointers", "lists_lack"]


def check_memories(network: Network, steps: Sequence[Step], options: Options, config: AcceleratorConfig) -> None:
    """Refuse a network that exceeds memories, PEs or tables in any way to split it.

    Parameters
    ----------
    steps : sequence of Step
        Whole ones.

    Raises
    ------
    MisfitError
        The message names all memories and layers at fault, and by how much memories are too small
        (a :class:`hw.rules.ShortageError` where only activation memories are).
    """
    described = len(steps) + sum(step.select is not None for step in steps)
    found = [
        f"{memory} memory holds {size} words; this network needs at least {needed}, {needed - size} too many"
        for memory, needed, size in (
            ("program", instruction_words(described, len(network.exits)), config.program_words),
            ("layer", description_words(described), config.layer_words),
            ("channel", _channel_words(steps, config), config.channel_words),
        )
        if needed > size
    ]
    found += filter(None, (options.misfit([step]) for step in steps))
    lacks = [activations_lack(network, steps, config, in_place=in_place) for in_place in (False, True)]
    short = lacks[-1] if all(lacks) and next(cuts_in_strips(network, steps, config), None) is None else None
    if short is not None and not found:
        raise short
    if found:
        raise MisfitError("; ".join([*found, *([str(short)] if short else [])]))


def least_channels(step: Step, config: AcceleratorConfig) -> int:
    """Channels of a step in core 0, which has a task in every layer."""
    words = config.padded_channels(step.result.output.shape[2]) // WORD_CHANNELS
    groups = 1 if step.raw else min(config.cores, 1 << words.bit_length() - 1)
    return words // groups * WORD_CHANNELS


def _channel_words(steps: Sequence[Step], config: AcceleratorConfig) -> int:
    """Channels of some core: those of core 0, or an even share of all."""
    own = sum(least_channels(step, config) for step in steps)
    total = sum(config.padded_channels(step.result.output.shape[2]) for step in steps)
    return max(own, -(-total // config.cores))


def lists_lack(
    steps: Sequence[Step], options: Sequence[Sequence[Option]], config: AcceleratorConfig
) -> ShortageError | None:
    """What list memories lack of the lists of core 0, if all are kept; None if that isn't certain.

    Core 0 has a task in every command, and in each of its PEs a pointer for every list. Of entries only one layer's
    count: those of others may be the same.

    Parameters
    ----------
    steps : sequence of Step
        One of each layer, whole or a strip.
    options : sequence of sequence of Option
        Of each of them.
    """
    fewest = [min(least_pointers(option.expansion, config) for option in each) for each in options]
    for number in sorted(range(len(steps)), key=lambda n: -steps[n].kernel.products):
        others = sum(fewest) - fewest[number]
        least = _least_lists(options[number], config.list_words - others, config)
        if least is not None:
            pointers, entries = others + least[0], least[1]
            missing = pointers + entries - config.list_words
            return ShortageError(
                f"list memory holds {config.list_words} words a PE; this network needs at least {pointers + entries} "
                f"({pointers} pointers, and {entries} weights of {steps[number].layer.name}), {missing} too many",
                missing,
            )
    return None


def _least_lists(options: Sequence[Option], room: int, config: AcceleratorConfig) -> tuple[int, int] | None:
    """Pointers and entries of a layer in core 0 with which they take fewest words; None if they may fit the room."""
    expected = {option: _expected(option, config) for option in options}
    known: dict[Hashable, int] = {}
    found = []
    for option in sorted(options, key=lambda option: int(expected[option].max())):
        if expected[option].max() <= room:
            return None
        pointers = least_pointers(option.expansion, config)
        layers = [(task.same_lists, inputs) for (task, *_), inputs in option.expansion.layers()]
        same = option.partition.column_major, tuple(layers)
        if same not in known:
            known[same] = least_entries(option.expansion, int(expected[option].argmax()), config)
        if pointers + known[same] <= room:
            return None
        found.append((pointers, known[same]))
    return min(found, key=sum)


def _expected(option: Option, config: AcceleratorConfig) -> np.ndarray:
    """Words of list memory that a layer takes in every PE of core 0 by the estimate: int array (PEs,)."""
    words: np.ndarray = least_pointers(option.expansion, config) + option.cost.entries[:, 0].sum(axis=0)
    return words


def least_pointers(expansion: Expansion, config: AcceleratorConfig) -> int:
    """Lists of core 0, which has a task in every command."""
    return sum(first.list_count(inputs, config) for (first, *_), inputs in expansion.layers())


def activations_lack(
    network: Network, steps: Sequence[Step], config: AcceleratorConfig, *, in_place: bool
) -> ShortageError | None:
    """What activation memories lack of whole maps, cut in as many bands as possible; None if that isn't certain.

    Parameters
    ----------
    in_place : bool
        Whether sums are written over their residual operands.
    """
    requests = Places(steps, in_place=in_place).least(maps_of(network, steps), config)
    return shortage(requests, config) if excess(requests, config) else None
