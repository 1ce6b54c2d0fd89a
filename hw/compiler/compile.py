"""Compiles an integer network to a program: fuses, proves, partitions, places, packs.

Every layer becomes one or more LAYER instructions on the same data path. A convolution's weights become lists (module
:mod:`hw.compiler.sparse`) indexed by class of input column, kernel row and input channel; a linear layer is a
convolution whose kernel is the map; a pool is a depthwise convolution with weights of 1, a global one adds all
positions up in one accumulator (:mod:`hw.compiler.steps`), and a max pool keeps the largest product instead of the sum.
Each command is split over the cores by :mod:`hw.compiler.choose`.
Stored channel ``c`` belongs to PE ``c % pes`` of its core.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import prod

import numpy as np

from hw.compiler.balance import balance
from hw.compiler.choose import Choice, Planner
from hw.compiler.emit import Emitter
from hw.compiler.emit_select import check_selectable
from hw.compiler.geometry import Axis
from hw.compiler.least import activations_lack, check_memories, lists_lack
from hw.compiler.memory_plan import plan_with_next
from hw.compiler.options import Options
from hw.compiler.partition import Partition, bands_of, inputs_of
from hw.compiler.schedule import Block, Lists, Schedule, blocks_of, kernel_lists, schedule
from hw.compiler.steps import Step, steps_of
from hw.compiler.streaming import all_resident, streamed
from hw.compiler.tiles import tilings
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import INPUT, Network
from hw.network.zero_codes import code_ranges, stored_zero_points
from hw.numerics import accumulator_range
from hw.program.arithmetic import arithmetic_of, multiply_accumulates
from hw.program.image_layout import instruction_words
from hw.program.isa import MAX_CLASSES
from hw.program.parts import Part, divide, parts_of
from hw.program.program import Command, Program
from hw.rules import MisfitError, ShortageError

__all__ = ["compile_balanced", "compile_network"]


def _prove(step: Step, bias: np.ndarray, span: tuple[int, int], config: AcceleratorConfig) -> None:
    """No accumulator leaves its range, whatever the input."""
    kernel = step.kernel
    if kernel.maximum:
        # Accumulators begin at 0, and hold 8 bits then.
        if span[0] < 0:
            raise ValueError(
                f"{step.layer.name}: a max pool's input must have no code below its zero point "
                f"{step.source.zero_point} where other layers read it, too; {step.reads} can hold "
                f"{span[0] + step.source.zero_point}"
            )
        return
    times = prod(step.source.shape[:2]) if kernel.total else 1
    weights = np.repeat(kernel.weight.reshape(len(kernel.weight), -1), times, axis=1)
    low, high = accumulator_range(weights, bias, *span)
    limit = 1 << config.accumulator_bits - 1
    if low < -limit or high >= limit:
        raise ValueError(
            f"{step.layer.name}: accumulators can reach {low} and {high}, beyond the {config.accumulator_bits} bits "
            f"of this config ({-limit}..{limit - 1})"
        )


@dataclass(frozen=True)
class _Work:
    """A command: what each core with work makes, and how."""

    step: Step
    partition: Partition
    parts: list[Part]
    schedules: list[Schedule]
    inputs: tuple[int, int]

    def command(self) -> Command:
        """Its description."""
        step, partition = self.step, self.partition
        channels, depth = step.result.output.shape[2], step.source.shape[2]
        first, last = self.parts[0].channels(channels)[0], self.parts[-1].channels(channels)[1]
        rows = bands_of(step, partition.bands)
        made = sum(end - start for start, end in rows)
        name = step.result.name if step.strip is None else f"{step.result.name}@{step.strip.number}"
        if partition.commands > 1:
            name += f"[{first}:{last}]"
        if partition.passes > 1:
            name += f"<{self.inputs[0]}:{self.inputs[1]}>"
        return Command(
            name=name,
            kind=step.layer.kind + ("+add" if step.add else ""),
            layer=step.layer.name,
            tensor=step.result.name,
            rows=tuple(rows),
            channels=(first, last),
            macs=multiply_accumulates(step.layer, made, last - first, (self.inputs[1] - self.inputs[0], depth)),
            groups=partition.groups,
            partial=self.schedules[0].partial,
            upright=partition.upright,
        )


def _work(steps: list[Step], partitions: list[Partition], config: AcceleratorConfig) -> list[_Work]:
    """The commands of all steps, in order."""
    found = []
    #: Strips of a layer share their lists where they are equal.
    known: dict[tuple[str, tuple[int, int], tuple[int, int], tuple[Block, ...], Axis], Lists] = {}
    for step, partition in zip(steps, partitions, strict=True):
        channels = step.result.output.shape[2]
        divided = divide(0, config.padded_channels(channels) // WORD_CHANNELS, partition.commands)
        for words, inputs in product(divided, inputs_of(step, partition)):
            parts = parts_of(bands_of(step, partition.bands), words, partition.groups)
            schedules = []
            for part in parts:
                kernel, walked = step.kernel.walk(part.rows, partition.upright)
                some, blocks = part.channels(channels), blocks_of(kernel, walked, partition.merged)
                key = step.layer.name, inputs, some, blocks, kernel.columns
                if key not in known:
                    known[key] = kernel_lists(kernel, *some, blocks, config, inputs)
                done = schedule(step, part.rows, some, blocks, known[key], config, inputs, upright=partition.upright)
                schedules.append(done)
            found.append(_Work(step, partition, parts, schedules, inputs))
    return found


def _build(
    network: Network,
    steps: list[Step],
    stored: Mapping[str, int],
    planner: Planner,
    choice: Choice,
    stream: bool,
    config: AcceleratorConfig,
) -> Program:
    """The program of a choice of partitions, with lists read during the run if some may be."""
    found, free = plan_with_next(planner.requests(choice), INPUT, len(steps), config)
    work = _work(steps, planner.partitions(choice), config)
    commands = tuple(each.command() for each in work)
    lists = [{part.core: done for part, done in zip(each.parts, each.schedules, strict=True)} for each in work]
    if stream:
        described = len(work) + sum(step.select is not None for step in steps)
        room = config.program_words - instruction_words(described, len(network.exits))
        plan_of_lists = streamed(lists, planner.command_cycles(choice), room, config)
    else:
        plan_of_lists = all_resident(lists, config)
    places, windows = planner.places(found), planner.windows(choice)
    emitter = Emitter(network, config, planner.maps, stored, places, windows, plan_of_lists)
    for number, each in enumerate(work):
        channels = each.step.result.output.shape[2]
        if number == 0 or work[number - 1].step is not each.step:
            emitter.select(each.step)
        arithmetic = arithmetic_of(each.step.layer, each.step.source, config.padded_channels(channels), stored)
        emitter.layer(each.step, each.parts, each.schedules, arithmetic)
        if number + 1 == len(work) or work[number + 1].step is not each.step:
            if free < len(steps) and each.step is steps[free - 1]:
                emitter.image_is_free()
            emitter.exits(each.step.layer.name)
    return Program(network=network, config=config, commands=commands, images=emitter.images())


def _fitted(
    network: Network,
    steps: list[Step],
    stored: Mapping[str, int],
    planner: Planner,
    stream: bool,
    config: AcceleratorConfig,
) -> Program:
    """The program of the best choice of partitions that fits the memories."""
    if stream:
        return _build(network, steps, stored, planner, planner.choose_streamed(), stream, config)
    list_words = config.list_words
    while True:
        choice, fits = planner.choose(list_words)
        try:
            return _build(network, steps, stored, planner, choice, stream, config)
        except ShortageError as shortage:
            if not fits:
                raise
            # The estimate was too low: again with memories that much smaller.
            list_words -= shortage.words


def compile_network(
    network: Network, config: AcceleratorConfig, densities: Mapping[str, float | None] | None = None
) -> Program:
    """Compile an integer network for a config.

    Parameters
    ----------
    densities : dict of str to (float or None), optional
        Expected share of nonzero activations by tensor, 0..1, that the work is balanced for.

    Raises
    ------
    ValueError
        When a layer can't run on it; the message names the layer or the memory, and by how much it is too small
        (:class:`hw.rules.MisfitError`).
    """
    if network.classes > MAX_CLASSES or network.classes < 2:
        raise ValueError(f"{network.name}: classes must be from 2 to {MAX_CLASSES}, not {network.classes}")
    steps = steps_of(network)
    ranges, stored = code_ranges(network), stored_zero_points(network)
    for step in steps:
        check_selectable(step, config)
        result = step.result
        channels = result.output.shape[2]
        bias = arithmetic_of(step.layer, step.source, channels, stored).bias
        low, high = (code - stored[step.reads] for code in ranges[step.reads])
        _prove(step, bias, (low, high), config)
        if step.add and channels % WORD_CHANNELS and stored[result.name] != result.output.zero_point:
            raise ValueError(
                f"{result.name}: a sum that only max pools read must have a multiple of {WORD_CHANNELS} channels, not "
                f"{channels}, or no code below its zero point {result.output.zero_point}, not {ranges[result.name][0]}"
            )
    options = Options(network, config, densities)
    check_memories(network, steps, options, config)
    return _compiled(network, steps, stored, options, config)


def _compiled(
    network: Network, steps: list[Step], stored: Mapping[str, int], options: Options, config: AcceleratorConfig
) -> Program:
    """The program of the first attempt that fits; what costs fewest cycles comes first.

    Whole maps are tried before strips, all lists at hand before lists read during the run, and sums with places of
    their own before sums written over their operands.
    """
    lists = lists_lack(steps, options, config)
    planner = cache(lambda in_place: Planner(network, steps, options, config, in_place=in_place))
    shortage: ShortageError
    ways = [(False, False), (True, False), (True, True)] if config.loader else [(False, False), (False, True)]
    for stream, in_place in ways:
        lacks = [activations_lack(network, steps, config, in_place=in_place), None if stream else lists]
        certain = [lack for lack in lacks if lack is not None]
        if certain:
            shortage = ShortageError("; ".join(map(str, certain)), max(lack.words for lack in certain))
            continue
        try:
            return _fitted(network, steps, stored, planner(in_place), stream, config)
        except ShortageError as error:
            shortage = error
    streams = (False, True) if config.loader else (False,)
    for tiled, stream in ((tiled, stream) for tiled in tilings(network, steps, config) for stream in streams):
        try:
            return _fitted(network, tiled, stored, Planner(network, tiled, options, config), stream, config)
        except ShortageError as error:
            shortage = error
        except MisfitError:  # Strips may also break what the whole layers keep to: bands, descriptions.
            continue
    raise shortage


def compile_balanced(network: Network, config: AcceleratorConfig, activity: Mapping[str, np.ndarray]) -> Program:
    """Compile with the channels renumbered so that all PEs get equal work (:func:`hw.compiler.balance.balance`).

    The program's network is the renumbered one.

    Parameters
    ----------
    activity : mapping of str to float array (channels,)
        Share of activations that are multiplied, 0..1, by tensor and channel; what is known of it, if anything.

    Raises
    ------
    ValueError
        As :func:`compile_network`.
    """
    densities = {name: float(shares.mean()) for name, shares in activity.items()}
    return compile_network(balance(network, config, activity), config, densities)
