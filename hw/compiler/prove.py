"""Second pass: no accumulator overflows whatever the input, every code has its place, every selection can be made."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from hw.compiler.lower import Lowered
from hw.compiler.steps.step import Step
from hw.config import WORD_CHANNELS, AcceleratorConfig
from hw.network.network import GlobalAveragePool, Network
from hw.network.pooling import AveragePool2D
from hw.network.zero_points import code_ranges, storage_zero_points
from hw.numerics import BIASED_BITS, MAX_AVERAGE, product_sums
from hw.program.arithmetic import arithmetic_of
from hw.program.isa import MAX_MASKS
from hw.rules import MisfitError, StructureError

__all__ = ["Proven", "prove"]


@dataclass(frozen=True, kw_only=True)
class Proven:
    """Steps whose numbers a config can hold.

    Attributes
    ----------
    given, network : Network
        Those of :class:`hw.compiler.lower.Lowered`.
    config : AcceleratorConfig
    steps : tuple of Step
    zero_points : mapping of str to int
        The storage zero point of each tensor.
    """

    given: Network
    network: Network
    config: AcceleratorConfig
    steps: tuple[Step, ...]
    zero_points: Mapping[str, int]


def prove(lowered: Lowered, config: AcceleratorConfig) -> Proven:
    """Prove every step.

    Raises
    ------
    MisfitError
        When a layer can't run on this config whatever the partition; the message names it and the rule
        (a :class:`hw.rules.StructureError` where it can't on any config).
    """
    network, steps = lowered.network, lowered.steps
    ranges, zero_points = code_ranges(network.layers), storage_zero_points(network)
    if network.classes > config.classes:
        raise MisfitError(
            f"{network.name}: exit unit keeps {config.classes} logits; this network has {network.classes} classes, "
            f"{network.classes - config.classes} too many"
        )
    for step in steps:
        _check_selection(step, config)
        _check_average(step)
        result = step.result
        channels = result.output.shape[2]
        bias = arithmetic_of(step.layer, step.source, channels, zero_points).bias
        low, high = (code - zero_points[step.reads] for code in ranges[step.reads])
        _check_accumulators(step, bias, (low, high), config)
        if step.add and channels % WORD_CHANNELS and zero_points[result.name] != result.output.zero_point:
            raise StructureError(
                f"{result.name}: a sum that only max pools read must have a multiple of {WORD_CHANNELS} channels, not "
                f"{channels}, or no code below its zero point {result.output.zero_point}, not {ranges[result.name][0]}"
            )
    return Proven(given=lowered.given, network=network, config=config, steps=steps, zero_points=zero_points)


def _check_selection(step: Step, config: AcceleratorConfig) -> None:
    """Refuse a selection that this config can't make."""
    select, layer, channels = step.select, step.layer.name, step.source.shape[2]
    if select is None:
        return
    if not config.selector:
        raise MisfitError(f"{layer}: a selection of {step.reads} needs a selector; this config has none")
    most = MAX_MASKS * WORD_CHANNELS
    if select.kind != "elements" and config.padded_channels(channels) > most:
        raise StructureError(f"{layer}: {step.reads} must have at most {most} channels to select of, not {channels}")


def _check_average(step: Step) -> None:
    """Refuse an average of more positions than its multiplier can be of."""
    if isinstance(step.layer, AveragePool2D | GlobalAveragePool):
        window = step.layer.window if isinstance(step.layer, AveragePool2D) else step.source.shape[:2]
        if prod(window) > MAX_AVERAGE:
            raise StructureError(
                f"{step.layer.name}: an average pool must cover at most {MAX_AVERAGE} positions, not {prod(window)}"
            )


def _check_accumulators(step: Step, bias: np.ndarray, span: tuple[int, int], config: AcceleratorConfig) -> None:
    """No accumulator leaves its range, whatever the input of codes within ``span`` of its zero point.

    Accumulators hold sums of products; the lane adds the bias in 32 bits, and gives logits in those of an accumulator.
    """
    kernel = step.kernel
    if kernel.max_pool:
        # Accumulators begin at 0, and hold 8 bits then.
        if span[0] < 0:
            raise StructureError(
                f"{step.layer.name}: a max pool's input must have no code below its zero point "
                f"{step.source.zero_point} where other layers read it, too; {step.reads} can hold "
                f"{span[0] + step.source.zero_point}"
            )
        return
    times = prod(step.source.shape[:2]) if kernel.global_pool else 1
    weights = np.repeat(kernel.weight.reshape(len(kernel.weight), -1), times, axis=1)
    lows, highs = product_sums(weights, *span)
    least, most = int((lows + bias).min()), int((highs + bias).max())
    if not _holds(BIASED_BITS, least, most):
        raise StructureError(
            f"{step.layer.name}: sums with their bias must stay within int32, not reach {least} and {most}"
        )
    low, high = int(lows.min()), int(highs.max())
    if step.raw:
        low, high = min(low, least), max(high, most)
    if not _holds(config.accumulator_bits, low, high):
        bound = 1 << config.accumulator_bits - 1
        raise MisfitError(
            f"{step.layer.name}: accumulators can reach {low} and {high}, beyond the {config.accumulator_bits} bits "
            f"of this config ({-bound}..{bound - 1})"
        )


def _holds(bits: int, low: int, high: int) -> bool:
    return -(1 << bits - 1) <= low and high < 1 << bits - 1
