"""What a network needs of the memories at least, however it is split: refuses at once what no search could fit."""

from collections.abc import Sequence

from hw.compiler.memory.memory_plan import excess, shortage
from hw.compiler.memory.places import Places
from hw.compiler.search.partition_options import Options
from hw.compiler.steps.expansion import Expansion
from hw.compiler.steps.step import Step, maps_of
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import Network
from hw.program.image_layout import description_words, instruction_words
from hw.rules import MisfitError, ShortageError

__all__ = ["activations_lack", "check_memories", "least_channels", "least_pointers", "lists_lack"]


def check_memories(network: Network, steps: Sequence[Step], config: AcceleratorConfig) -> None:
    """Refuse a network whose instructions, descriptions or channels exceed their memories in any way to split it.

    Raises
    ------
    MisfitError
        The message names all memories at fault, and by how much these are too small.
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
    if found:
        raise MisfitError("; ".join(found))


def least_channels(step: Step, config: AcceleratorConfig) -> int:
    """Channels of a step in core 0, which has a part in every layer."""
    words = config.padded_channels(step.result.output.shape[2]) // WORD_CHANNELS
    groups = 1 if step.raw else min(config.cores, 1 << words.bit_length() - 1)
    return words // groups * WORD_CHANNELS


def _channel_words(steps: Sequence[Step], config: AcceleratorConfig) -> int:
    """Channels of some core: those of core 0, or an even share of all."""
    own = sum(least_channels(step, config) for step in steps)
    total = sum(config.padded_channels(step.result.output.shape[2]) for step in steps)
    return max(own, -(-total // config.cores))


def lists_lack(steps: Sequence[Step], options: Options, config: AcceleratorConfig) -> ShortageError | None:
    """What list memories lack of the pointers of whole steps' lists, if all are kept; None if nothing.

    Core 0 has a part in every command, and in each of its PEs a pointer for every list.
    """
    ways = [[options.option(step, partition).expansion for partition in options.of([step])] for step in steps]
    needed = sum(min(least_pointers(expansion, config) for expansion in each) for each in ways)
    missing = needed - config.list_words
    if missing <= 0:
        return None
    return ShortageError(
        f"list memory holds {config.list_words} words a PE; this network needs at least {needed} for the pointers "
        f"alone, {missing} too many",
        missing,
    )


def least_pointers(expansion: Expansion, config: AcceleratorConfig) -> int:
    """Lists of core 0, which has a part in every command."""
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
    return shortage(requests, config) if excess(requests, config.activation_words) else None
