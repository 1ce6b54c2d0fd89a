"""Compiles an integer network to a program: fuses, proves, places, packs.

Every layer becomes one or more LAYER instructions on the same data path. A convolution's weights become lists (module
:mod:`hw.sparse`) indexed by class of input column, kernel row and input channel; a linear layer is a convolution whose
kernel is the map; a global average pool is a convolution with weights of 1 that adds all positions up in one
accumulator.
Stored channel ``c`` belongs to PE ``c % pes``, at offset ``c // pes`` of its position.
"""

from dataclasses import dataclass

import numpy as np

from hw.config import MASK_CHANNELS, AcceleratorConfig
from hw.emit import Emitter
from hw.geometry import Axis, column_classes, row_schedule
from hw.isa import MAX_CLASSES
from hw.memory_plan import Request, plan
from hw.network import INPUT, Add, Conv2D, GlobalAveragePool, Layer, Linear, Network
from hw.numerics import Rounding, accumulator_range, average_scale
from hw.program import Command, Program
from hw.schedule import Schedule, convolution_lists, pool_schedule

__all__ = ["compile_network"]


@dataclass(frozen=True)
class _Step:
    """A multiplying layer with the residual add fused behind it."""

    layer: Layer
    add: Add | None

    @property
    def result(self) -> Layer:
        """The layer whose tensor is written."""
        return self.add or self.layer

    @property
    def residual(self) -> str | None:
        """The operand of the add that isn't the layer's own output."""
        if self.add is None:
            return None
        return next(name for name in self.add.inputs if name != self.layer.name)


def _fuse(network: Network) -> list[_Step]:
    """Pair every add with the convolution before it."""
    steps: list[_Step] = []
    for layer in network.layers:
        if not isinstance(layer, Add):
            steps.append(_Step(layer, None))
            continue
        before = steps[-1].result if steps else None
        readers = [other.name for other in network.layers if before is not None and before.name in other.inputs]
        if not isinstance(before, Conv2D) or layer.inputs.count(before.name) != 1 or readers != [layer.name]:
            raise ValueError(
                f"{layer.name}: an add must directly follow a convolution that only it reads, "
                f"not {before.name if before else INPUT}"
            )
        steps[-1] = _Step(before, layer)
    return steps


def _ranges(network: Network) -> dict[str, tuple[int, int]]:
    """Lowest and highest activation ``q - zero_point`` of every tensor."""
    zero = network.input.zero_point
    ranges = {INPUT: (-128 - zero, 127 - zero)}
    for layer in network.layers:
        low, high = layer.clamp
        ranges[layer.name] = (low - layer.output.zero_point, high - layer.output.zero_point)
    return ranges


@dataclass(frozen=True)
class _Arithmetic:
    """What the lane needs to know per output channel."""

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    rounding: Rounding
    offset: int


def _arithmetic(layer: Layer, sources: dict, padded: int) -> _Arithmetic:
    """Channel parameters, dummy channels included: these stay at the real zero."""
    if isinstance(layer, GlobalAveragePool):
        source = sources[layer.inputs[0]]
        count = source.shape[0] * source.shape[1]
        scale = average_scale(count)
        # The mean is taken over codes, not over activations; the bias turns a sum of activations into one of codes.
        bias, multiplier, shift = (
            np.full(padded, value, dtype=np.int64)
            for value in (count * source.zero_point, scale.multiplier, scale.shift)
        )
        return _Arithmetic(bias, multiplier, shift, Rounding.SINGLE, 0)
    assert isinstance(layer, Conv2D | Linear)
    extra = padded - layer.output.shape[2]
    bias, multiplier, shift = (
        np.pad(array.astype(np.int64), (0, extra)) for array in (layer.bias, layer.multiplier, layer.shift)
    )
    return _Arithmetic(bias, multiplier, shift, layer.rounding, layer.output.zero_point)


def _prove(
    layer: Layer, weight: np.ndarray, bias: np.ndarray, span: tuple[int, int], config: AcceleratorConfig
) -> None:
    """No accumulator leaves its range, whatever the input."""
    low, high = accumulator_range(weight, bias, *span)
    limit = 1 << config.accumulator_bits - 1
    if low < -limit or high >= limit:
        raise ValueError(
            f"{layer.name}: accumulators can reach {low} and {high}, beyond the {config.accumulator_bits} bits "
            f"of this config ({-limit}..{limit - 1})"
        )


def _weights(layer: Layer, channels: int, count: int) -> np.ndarray:
    """Dense weights as (output channels, all products), for the overflow proof."""
    if isinstance(layer, GlobalAveragePool):
        return np.ones((channels, count), dtype=np.int64)
    assert isinstance(layer, Conv2D | Linear)
    return layer.weight.reshape(channels, -1)


def _macs_per_channel(layer: Layer) -> int:
    """Multiply-accumulates of the dense layer per output channel, padded taps included; 0 for a pool."""
    if isinstance(layer, GlobalAveragePool):
        return 0
    assert isinstance(layer, Conv2D | Linear)
    return int(np.prod(layer.output.shape[:2])) * int(np.prod(layer.weight.shape[1:]))


def _axes(layer: Layer, shape: tuple[int, int, int]) -> tuple[Axis, Axis, tuple[int, int]]:
    """Vertical and horizontal axis, and the step from one used input position to the next.

    A 1-wide kernel at stride s reads every s-th position only: it becomes stride 1 on a view without the others.
    """
    height, width, _ = shape
    if isinstance(layer, Linear):
        return (
            Axis(size=height, kernel=height, stride=1, pad=0, outputs=1),
            Axis(size=width, kernel=width, stride=1, pad=0, outputs=1),
            (1, 1),
        )
    assert isinstance(layer, Conv2D)
    _, kernel_height, kernel_width, _ = layer.weight.shape
    sizes = zip(
        (height, width), (kernel_height, kernel_width), layer.stride, layer.pads[::2], layer.output.shape, strict=False
    )
    axes, steps = [], []
    for size, kernel, stride, pad, outputs in sizes:
        if stride > kernel > 1:
            raise ValueError(f"{layer.name}: stride {stride} must not exceed the kernel {kernel} unless that is 1")
        step = stride if kernel == 1 else 1
        axes.append(Axis(size=-(-size // step), kernel=kernel, stride=stride // step, pad=pad, outputs=outputs))
        steps.append(step)
    return axes[0], axes[1], (steps[0], steps[1])


def _schedule(layer: Layer, shape: tuple[int, int, int], first: int, last: int, config: AcceleratorConfig) -> Schedule:
    """Tables and lists of the output channels ``first`` to ``last``."""
    slots = -(-(last - first) // config.pes)
    if isinstance(layer, GlobalAveragePool):
        return pool_schedule(layer.name, shape, first, last, config)
    rows, columns, steps = _axes(layer, shape)
    assert isinstance(layer, Conv2D | Linear)
    classes, places = column_classes(columns)
    return Schedule(
        name=layer.name,
        steps=steps,
        row_step=rows.stride,
        live=rows.live,
        width=columns.outputs * slots,
        rows=tuple(row_schedule(rows)),
        columns=tuple((number, output * slots) for number, output in places),
        lists=convolution_lists(layer.weight[first:last], classes, config),
        kernel_rows=rows.kernel,
        channels=shape[2],
    )


def _groups(layer: Layer, shape: tuple[int, int, int], config: AcceleratorConfig) -> list[tuple[int, int, Schedule]]:
    """Splits the output channels so that accumulators and lists of each part fit, into as few parts as possible."""
    channels = layer.output.shape[2]
    padded = config.padded_channels(channels)
    sizes = [padded, *range((padded - 1) // MASK_CHANNELS * MASK_CHANNELS, 0, -MASK_CHANNELS)]
    raw = isinstance(layer, Linear) and layer.raw
    for size in sizes[:1] if raw else sizes:
        parts = []
        for first in range(0, channels, size):
            last = min(first + size, channels)
            parts.append((first, last, _schedule(layer, shape, first, last, config)))
        accumulators = max(part[2].accumulators for part in parts)
        longest = max(part[2].longest_list for part in parts)
        if accumulators <= config.accumulators and longest <= config.max_list:
            return parts
    if accumulators > config.accumulators:
        raise ValueError(
            f"{layer.name}: accumulator memory holds {config.accumulators} a PE; {accumulators} are needed, "
            f"{accumulators - config.accumulators} too many"
        )
    raise ValueError(
        f"{layer.name}: a weight list has {longest} entries, {longest - config.max_list} more than the "
        f"{config.max_list} that a pointer of this config can count"
    )


def _requests(network: Network, steps: list[_Step], config: AcceleratorConfig) -> list[Request]:
    """What every stored tensor needs of the activation memory."""
    stored = {INPUT: (network.input, network.input.shape[2], -1)}
    for number, step in enumerate(steps):
        if not (isinstance(step.layer, Linear) and step.layer.raw):
            output = step.result.output
            stored[step.result.name] = (output, config.padded_channels(output.shape[2]), number)
    requests = []
    for name, (tensor, channels, first) in stored.items():
        readers = [n for n, step in enumerate(steps) if name in step.layer.inputs or name == step.residual]
        apart = {step.layer.inputs[0] for step in steps if step.residual == name}
        if name in apart:
            raise ValueError(f"{name}: the input of a convolution can't be the residual added to its own output")
        positions = tensor.shape[0] * tensor.shape[1]
        requests.append(
            Request(
                name=name,
                activations=positions * channels,
                mask_words=positions * -(-channels // MASK_CHANNELS),
                first=first,
                last=max(readers, default=first),
                apart=frozenset(apart),
            )
        )
    return requests


def compile_network(network: Network, config: AcceleratorConfig) -> Program:
    """Compile an integer network for a config.

    Raises
    ------
    ValueError
        When a layer can't run on it; the message names the layer or the memory, and by how much it is too small.
    """
    if network.classes > MAX_CLASSES or network.classes < 2:
        raise ValueError(f"{network.name}: classes must be from 2 to {MAX_CLASSES}, not {network.classes}")
    steps = _fuse(network)
    tensors, ranges = network.tensors(), _ranges(network)
    placements = plan(_requests(network, steps, config), config)
    emitter = Emitter(network, config, placements)
    commands = []
    for step in steps:
        layer, source = step.layer, tensors[step.layer.inputs[0]]
        channels = layer.output.shape[2]
        arithmetic = _arithmetic(layer, tensors, config.padded_channels(channels))
        positions = source.shape[0] * source.shape[1]
        weights = _weights(layer, channels, positions)
        _prove(layer, weights, arithmetic.bias[:channels], ranges[layer.inputs[0]], config)
        parts = _groups(layer, source.shape, config)
        for first, last, schedule in parts:
            end = config.padded_channels(last)
            emitter.layer(
                layer=layer,
                add=step.add,
                residual=step.residual,
                schedule=schedule,
                channels=(first, end),
                parameters=tuple(a[first:end] for a in (arithmetic.bias, arithmetic.multiplier, arithmetic.shift)),
                rounding=arithmetic.rounding,
                offset=arithmetic.offset,
            )
            commands.append(
                Command(
                    name=step.result.name if len(parts) == 1 else f"{step.result.name}[{first}:{last}]",
                    kind=layer.kind + ("+add" if step.add else ""),
                    layer=layer.name,
                    tensor=step.result.name,
                    channels=(first, last),
                    macs=_macs_per_channel(layer) * (last - first),
                )
            )
        emitter.exits(layer.name)
    return Program(network=network, config=config, commands=tuple(commands), images=emitter.images())
